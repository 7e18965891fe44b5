"""Coordinate descent: every weight set to its best admissible value given all others, sweep after sweep.

Behdin, Acharya, Gupta, Keerthi, Mazumder, "QuantEase: Optimization-based Quantization for Language Models",
2023, algorithm 1 (COMQ, Zhang et al. 2024, is the same iteration). The error never rises; a sweep that changes
nothing ends it. Best after GPTQ or GPFQ, whose result it polishes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from qsim.errors import UserError
from qsim.ptq.grid import Grid
from qsim.ptq.problem import LayerProblem, Rounded


@dataclass(frozen=True)
class CoordinateDescent:
    """sweeps: at most so many passes over all columns."""

    sweeps: int = 20

    def __post_init__(self) -> None:
        if self.sweeps < 1:
            raise UserError(f"ptq.steps coordinate_descent: sweeps is {self.sweeps}, it must be at least 1")

    def __call__(self, problem: LayerProblem, rounded: Rounded) -> Rounded:
        values = descend(rounded.values, problem.gram, problem.pull, rounded.grid, self.sweeps)
        return replace(rounded, values=problem.better(values, rounded.values))


def descend(
    values: torch.Tensor, gram: torch.Tensor, pull: torch.Tensor, grid: Grid, sweeps: int
) -> torch.Tensor:
    """Minimise v G v' - 2 v p' over the grid from `values`, one column of all outputs at a time."""
    values = values.clone()
    energy = gram.diagonal(dim1=1, dim2=2)
    columns = [t for t in range(values.shape[-1]) if bool((energy[:, t] > 0).any())]
    for _ in range(sweeps):
        slope = values @ gram - pull
        changed = False
        for t in columns:
            at, strength = values[..., t : t + 1], energy[:, None, t, None]
            real = torch.where(strength > 0, at - slope[..., t : t + 1] / strength, at)
            best = grid.column(t).nearest(real)
            change = best - at
            if bool(change.any()):
                changed = True
                values[..., t : t + 1] = best
                slope += change * gram[:, None, t, :]
        if not changed:
            break
    return values
