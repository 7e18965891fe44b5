"""Scales of blocks computed while the weights in them change."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from qsim.casting.scales import compute_levels, compute_scale, effective_scale
from qsim.ptq.grid import Grid
from qsim.ptq.problem import LayerProblem, Rounded
from qsim.views import matrix_axis

Array = NDArray[Any]


def block_width(grid: Grid) -> int:
    """How many columns share scales; 0 where scales are not those of blocks."""
    granularity = grid.spec.granularity
    return granularity.block[-1] if granularity is not None and granularity.kind == "block" else 0


def outer_scale(weights: torch.Tensor, grid: Grid) -> Array:
    """The scale of the scales of every block [outputs / height, blocks] by the spec's own rule, or 1."""
    matrix = weights.reshape(grid.shape).float().numpy()
    levels, _ = compute_levels(matrix, grid.spec, matrix_axis(grid.spec))
    return effective_scale((np.ones_like(levels[0]), *levels[1:]), grid.spec, matrix_axis(grid.spec))


def with_block_scale(grid: Grid, outer: Array, block: int, weights: torch.Tensor) -> Grid:
    """The grid with the scales of one block of columns computed from `weights` [groups, outputs, width]."""
    spec, own = grid.spec, outer[:, block : block + 1]
    assert spec.scale is not None and grid.scale is not None
    matrix = weights.reshape(grid.shape[0], -1).float().numpy()
    inner = replace(spec, scale=replace(spec.scale, granularity=None, scale=None))
    unit = np.repeat(own, _height(grid), axis=0)[: len(matrix)]
    computed, zero_point = compute_scale(matrix / unit, inner, matrix_axis(spec))
    scale, points = np.array(grid.scale), grid.zero_point
    scale[:, block : block + 1] = computed * own
    if zero_point is not None and points is not None:
        points = np.array(points)
        points[:, block : block + 1] = zero_point
    return Grid.of(spec, grid.shape, grid.groups, scale, points)


def better_rows(problem: LayerProblem, candidate: Rounded, incumbent: Rounded) -> Rounded:
    """Of two states with scales of blocks the one of less error, for all outputs that share scales."""
    old, new, height = incumbent.grid, candidate.grid, _height(incumbent.grid)
    assert old.scale is not None and new.scale is not None
    gain = (problem.error(incumbent.values) - problem.error(candidate.values)).reshape(-1).numpy()
    wins = np.add.reduceat(gain, np.arange(0, len(gain), height))[:, None] > 0
    points = old.zero_point
    if points is not None and new.zero_point is not None:
        points = np.where(wins, new.zero_point, points)
    grid = Grid.of(old.spec, old.shape, old.groups, np.where(wins, new.scale, old.scale), points)
    rows = torch.from_numpy(np.repeat(wins, height, axis=0)[: len(gain)]).reshape(
        *problem.weights.shape[:2], 1
    )
    return replace(incumbent, grid=grid, values=torch.where(rows, candidate.values, incumbent.values))


def _height(grid: Grid) -> int:
    """How many outputs share the scale of a block."""
    assert grid.spec.granularity is not None
    block = grid.spec.granularity.block
    return block[0] if len(block) == 2 else 1
