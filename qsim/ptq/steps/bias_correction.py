"""Bias correction: the mean error of every output, on calibration data, moved into its bias.

Nagel, van Baalen, Blankevoort, Welling, "Data-Free Quantization Through Weight Equalization and Bias
Correction", ICCV 2019, section 4.2, with the means measured ("empirical"): b + W E x - Q E q.
As layers are visited in order, on inputs from the corrected network before them, the error of the inputs is
corrected too.

Where it stands in a list of steps, the methods before it leave the mean error to it: they minimise the error
that a bias cannot absorb.
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
