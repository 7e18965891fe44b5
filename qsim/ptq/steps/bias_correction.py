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
    """Leaves layers without a bias as they are."""

    def __call__(self, problem: LayerProblem, rounded: Rounded) -> Rounded:
        if rounded.bias is None or problem.bias is None:
            return rounded
        return replace(rounded, bias=problem.bias + mean_error(problem, rounded.values))


def mean_error(problem: LayerProblem, values: torch.Tensor) -> torch.Tensor:
    """Mean over calibration data of float32 output less quantized output, without biases: [outputs]."""
    exact = (problem.weights @ problem.moments.mean_float[..., None]).squeeze(-1)
    quantized = (values @ problem.moments.mean_quantized[..., None]).squeeze(-1)
    return (exact - quantized).reshape(-1)
