"""Bias correction: the mean error of every output, on calibration data, moved into its bias.

Nagel, van Baalen, Blankevoort, Welling, "Data-Free Quantization Through Weight Equalization and Bias
Correction", ICCV 2019, section 4.2, with the means measured ("empirical"): b + W E x - Q E q.
As layers are visited in order, on inputs from the corrected network before them, the error of the inputs is
corrected too.

It comes last: the methods before it leave the mean error to it, minimising what a bias cannot absorb.

What it is worth at 4 bits, activations included (top-1 % without / with / with the weights' part alone;
`python -m tests.benchmarks.ptq --networks dscnn --formats w4a4,w4a4+fl8,w4a8`, ranges of least output error):

    after nearest        DS-CNN W4A4 63.3 / 67.7 / 63.2, first and last layer at 8 bits 82.2 / 75.6 / 75.8
    after gptq                       78.3 / 77.0 / 81.9,                                87.9 / 88.1 / 90.2
    after nearest        ResNet-8 W4A4 46.9 / 68.5 / 58.4, W4A8 52.8 / 72.1 / 72.1  (1,000 images)
    after gptq                         73.3 / 72.9 / 70.9,      76.8 / 77.7 / 76.1

Clipped 4-bit activations lose the mean of a few large values, and a bias hands it out to all positions alike:
that is where it can cost DS-CNN points after nearest rounding (as it does in brevitas, 39.1 to 31.5). GPTQ, GPFQ
and Qronos that follow the float32 outputs (`follow_float`) put that error into the weights instead, and the
correction that is left is small: at 4-bit activations it neither helps nor harms beyond sampling noise (one
standard error is 1.4 points here), at 8 bits agreement with float32 gains up to 26 points. Hence the default:
the full error, last, after a step that follows the outputs. The weights' part alone (`inputs: false`) did better
after GPTQ on DS-CNN at W4A4 and worse on ResNet-8.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from qsim.ptq.problem import LayerProblem, Rounded


@dataclass(frozen=True)
class BiasCorrection:
    """inputs: correct the mean error of the inputs too; False leaves that of the weights alone, W E q - Q E q.

    Leaves layers without a bias as they are.
    """

    inputs: bool = True

    def __call__(self, problem: LayerProblem, rounded: Rounded) -> Rounded:
        if rounded.bias is None or problem.bias is None:
            return rounded
        return replace(rounded, bias=problem.bias + mean_error(problem, rounded.values, inputs=self.inputs))


def mean_error(problem: LayerProblem, values: torch.Tensor, *, inputs: bool = True) -> torch.Tensor:
    """Mean over calibration data of float32 output less quantized output, without biases: [outputs].

    inputs: False takes both on the quantized inputs.
    """
    moments = problem.moments
    mean = moments.mean_float if inputs else moments.mean_quantized
    exact = (problem.weights @ mean[..., None]).squeeze(-1)
    quantized = (values @ moments.mean_quantized[..., None]).squeeze(-1)
    return (exact - quantized).reshape(-1)
