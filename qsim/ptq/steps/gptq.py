"""GPTQ: columns rounded one after another, each error made good by the columns still to come.

Frantar, Ashkboos, Hoefler, Alistarh, "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
Transformers", ICLR 2023, algorithm 1: with U the upper Cholesky factor of the inverse of H = E q q', column t
is rounded and its error over U_tt, times U_t, is taken from the columns after it.

`activation_order` rounds the columns of strongest input first (the authors' --act-order). With `static_groups`
(theirs too) the scales of blocks stay those of the first weights; without, the scale of a block is computed
when its first column is reached, from the weights as corrected so far. `follow_float` starts from the weights
that also undo the error of the inputs (see `LayerProblem.target`; Li et al., "GPTAQ", ICML 2025, corrects the
same mismatch), where the paper starts from W.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from qsim.errors import UserError
from qsim.ptq.grid import Grid
from qsim.ptq.problem import LayerProblem, Rounded
from qsim.ptq.steps.block_scales import better_rows, block_width, outer_scale, with_block_scale


@dataclass(frozen=True)
class GPTQ:
    """damping: of H, in units of its mean diagonal. An output that ends up worse than it was keeps its values.

    static_groups matters to block granularities alone; False needs activation_order False, as a block's columns
    must follow one another.
    """

    activation_order: bool = True
    damping: float = 0.01
    follow_float: bool = True
    static_groups: bool = True

    def __post_init__(self) -> None:
        if self.activation_order and not self.static_groups:
            raise UserError(
                "ptq.steps gptq: static_groups false computes a block's scale when its columns are reached in order; "
                "set activation_order: false with it"
            )

    def __call__(self, problem: LayerProblem, rounded: Rounded) -> Rounded:
        start = problem.target(self.damping) if self.follow_float else problem.weights
        gram = problem.damped_gram(self.damping)
        if not self.static_groups and block_width(rounded.grid):
            values, grid = round_blocks(start, gram, rounded.grid)
            return better_rows(problem, replace(rounded, values=values, grid=grid), rounded)
        values = round_columns(start, gram, rounded.grid, column_order(gram, self.activation_order))
        return replace(rounded, values=problem.better(values, rounded.values))


def round_columns(
    weights: torch.Tensor,
    gram: torch.Tensor,
    grid: Grid,
    order: torch.Tensor,
    *,
    first: torch.Tensor | None = None,
) -> torch.Tensor:
    """`weights` [groups, outputs, K] on the grid, their columns rounded in `order` [groups, K].

    first: the rounded values of the first column [groups, outputs, 1], where they are not the nearest.
    """
    columns = order[:, None, :].expand_as(weights)
    left, grid = weights.gather(2, columns), grid.permuted(order)
    ordered = gram.gather(1, order[:, :, None].expand_as(gram))
    upper = _inverse_factor(ordered.gather(2, order[:, None, :].expand_as(gram)))
    rounded = torch.empty_like(left)
    for t in range(left.shape[-1]):
        column = left[..., t : t + 1]
        value = first if first is not None and t == 0 else grid.column(t).nearest(column)
        rounded[..., t : t + 1] = value
        _spread_error(left, value, upper, t)
    return torch.empty_like(rounded).scatter_(2, columns, rounded)


def round_blocks(weights: torch.Tensor, gram: torch.Tensor, grid: Grid) -> tuple[torch.Tensor, Grid]:
    """As `round_columns` in their own order, the scales of a block of columns computed when it is reached."""
    upper, left, rounded = _inverse_factor(gram), weights.clone(), torch.empty_like(weights)
    outer, width = outer_scale(weights, grid), block_width(grid)
    for t in range(left.shape[-1]):
        if t % width == 0:
            grid = with_block_scale(grid, outer, t // width, left[..., t : t + width])
        value = grid.column(t).nearest(left[..., t : t + 1])
        rounded[..., t : t + 1] = value
        _spread_error(left, value, upper, t)
    return rounded, grid


def column_order(gram: torch.Tensor, by_activation: bool) -> torch.Tensor:
    """The order in which columns are rounded [groups, K]: as they are, or by falling energy of their inputs."""
    diagonal = gram.diagonal(dim1=1, dim2=2)
    if by_activation:
        return diagonal.argsort(dim=1, descending=True, stable=True)
    return torch.arange(gram.shape[-1]).expand(len(gram), -1)


def _inverse_factor(gram: torch.Tensor) -> torch.Tensor:
    """The upper Cholesky factor of the inverse."""
    return torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(gram)), upper=True)


def _spread_error(left: torch.Tensor, value: torch.Tensor, upper: torch.Tensor, t: int) -> None:
    """What column t lost to rounding, taken from the columns after it (in place)."""
    error = (left[..., t : t + 1] - value) / upper[:, None, t, t, None]
    left[..., t + 1 :] -= error * upper[:, None, t, t + 1 :]
