"""Coordinate descent: every weight set to its best admissible value given all others, sweep after sweep.

Behdin, Acharya, Gupta, Keerthi, Mazumder, "QuantEase: Optimization-based Quantization for Language Models",
2023, algorithm 1 (COMQ, Zhang et al. 2024, is the same iteration). The error never rises; a sweep that changes
nothing ends it. Best after GPTQ or GPFQ, whose result it polishes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numba import njit

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
    """Minimise v G v' - 2 v p' over the grid from `values`, one column after another, every output by itself."""
    values = values.clone().contiguous()
    slope = (values @ gram - pull).contiguous()
    step, offset = (part.expand_as(values).contiguous().numpy() for part in (grid.step, grid.offset))
    _descend(
        values.numpy(), slope.numpy(), gram.contiguous().numpy(), grid.units.numpy(), step, offset, sweeps
    )
    return values


# In this file, not beside Grid.nearest: numba's cache is renewed when the file of the kernel changes, no other.
@njit(nogil=True, cache=True)
def nearest_value(weight: float, units: Any, step: float, offset: float) -> Any:
    """`Grid.nearest` for one weight."""
    index = int(np.searchsorted(units, weight / step + offset, side="right"))
    below = (units[max(index - 1, 0)] - offset) * step
    above = (units[min(index, len(units) - 1)] - offset) * step
    return below if weight - below <= above - weight else above


@njit(nogil=True, cache=True)
def _descend(values: Any, slope: Any, gram: Any, units: Any, step: Any, offset: Any, sweeps: int) -> None:
    """`descend` in place; slope: v G - p, kept up with every change."""
    groups, outputs, length = values.shape
    for g in range(groups):
        for row in range(outputs):
            for _ in range(sweeps):
                changed = False
                for t in range(length):
                    strength, at = gram[g, t, t], values[g, row, t]
                    if strength <= 0:
                        continue
                    wanted = at - slope[g, row, t] / strength
                    best = nearest_value(wanted, units, step[g, row, t], offset[g, row, t])
                    change = best - at
                    if change != 0:
                        changed = True
                        values[g, row, t] = best
                        for j in range(length):
                            slope[g, row, j] += change * gram[g, t, j]
                if not changed:
                    break
