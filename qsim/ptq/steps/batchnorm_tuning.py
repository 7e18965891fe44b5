"""Batch-norm re-estimation for folded networks: every output gets the mean and variance it had in float32.

Hubara, Nahshan, Hanani, Banner, Soudry, "Accurate Post Training Quantization With Small Calibration Sets",
ICML 2021, "Batch-normalization tuning": the statistics of a layer's outputs are measured again in the quantized
network and fused again. Here the fusion is into what a plan stores: the standard deviations' ratio goes into the
scale of each output, so that codes stay as they are, and the means' difference into its bias.

A weight that several layers share gets one gain for all of them, and each layer's bias its own mean.

Variance is kept, not error: rounding loses energy where inputs are uncorrelated with it, and a least-squares
scale (`ScaleRefit`) shrinks outputs further.

After nearest rounding it is worth more than the mean alone (top-1 %, nearest / `BiasCorrection` / this step,
ranges of least output error): DS-CNN W4A4 63.3 / 67.7 / 77.0, first and last layer at 8 bits 82.2 / 75.6 / 85.6;
ResNet-8 W4A4 46.9 / 68.5 / 70.2, W4A8 52.8 / 72.1 / 74.5 (1,000 images). After GPTQ there is no difference.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from qsim.casting import quantize
from qsim.errors import UserError
from qsim.ptq.grid import Grid
from qsim.ptq.problem import LayerProblem, Rounded
from qsim.ptq.steps.bias_correction import mean_error
from qsim.spec import Spec


@dataclass(frozen=True)
class BatchNormTuning:
    """For scales an output (`channel`), in whatever format they are; elsewhere the mean alone is restored.

    largest_gain: the ratio of deviations is held in [1 / largest_gain, largest_gain]; a dead output stays dead.
    """

    largest_gain: float = 1.5

    def __post_init__(self) -> None:
        if not self.largest_gain >= 1:
            raise UserError(
                f"ptq.steps batchnorm_tuning: largest_gain is {self.largest_gain}, it must be at least 1"
            )

    def __call__(self, problem: LayerProblem, rounded: Rounded) -> Rounded:
        grid, spec = rounded.grid, rounded.grid.spec
        if spec.scale is not None and grid.scale is not None and _is_by_output(grid):
            gain = deviation_ratio(problem, rounded.values).clamp(1 / self.largest_gain, self.largest_gain)
            wanted = np.asarray(grid.scale * gain.reshape(-1).numpy(), np.float32)
            held = quantize(wanted, Spec(spec.scale.element))
            scale = np.where(np.isfinite(held) & (held > 0), held, grid.scale)
            tuned = grid.with_scale(scale)
            rounded = replace(rounded, grid=tuned, values=rounded.values / grid.step * tuned.step)
        if rounded.bias is None or problem.bias is None:
            return rounded
        return replace(rounded, bias=problem.bias + mean_error(problem, rounded.values))


def deviation_ratio(problem: LayerProblem, values: torch.Tensor) -> torch.Tensor:
    """Standard deviation of every float32 output over that of its quantized one [groups, outputs]; 1 where one is 0."""
    spread = problem.moments.centered()
    exact = _variance(spread.float_float, problem.weights)
    quantized = _variance(spread.quantized_quantized, values)
    return torch.where((exact > 0) & (quantized > 0), exact / quantized.clamp(min=1e-300), 1.0).sqrt()


def _variance(covariance: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    return ((weights @ covariance) * weights).sum(-1).clamp(min=0)


def _is_by_output(grid: Grid) -> bool:
    return grid.spec.granularity is not None and grid.spec.granularity.kind == "channel"
