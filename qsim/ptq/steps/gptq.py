"""GPTQ: columns rounded one after another, each error made good by the columns still to come.

Frantar, Ashkboos, Hoefler, Alistarh, "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
Transformers", ICLR 2023, algorithm 1: with U the upper Cholesky factor of the inverse of H = E q q', column t
is rounded and its error over U_tt, times U_t, is taken from the columns after it.

`activation_order` rounds the columns of strongest input first (the authors' --act-order). The spec's scales
stay those given, whatever the granularity ("static groups"). `follow_float` starts from the weights that also
undo the error of the inputs (see `LayerProblem.target`; Li et al., "GPTAQ", ICML 2025, and Zhang et al.,
"Qronos", 2025, correct the same mismatch), where the paper starts from W.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from qsim.ptq.grid import Grid
from qsim.ptq.problem import LayerProblem, Rounded


@dataclass(frozen=True)
class GPTQ:
    """damping: of H, in units of its mean diagonal. An output that ends up worse than it was keeps its values."""

    activation_order: bool = True
    damping: float = 0.01
    follow_float: bool = True

    def __call__(self, problem: LayerProblem, rounded: Rounded) -> Rounded:
        start = problem.target(self.damping) if self.follow_float else problem.weights
        gram = problem.damped_gram(self.damping)
        values = round_columns(start, gram, rounded.grid, _order(gram, self.activation_order))
        return replace(rounded, values=problem.better(values, rounded.values))


def round_columns(weights: torch.Tensor, gram: torch.Tensor, grid: Grid, order: torch.Tensor) -> torch.Tensor:
    """`weights` [groups, outputs, K] on the grid, their columns rounded in `order` [groups, K]."""
    columns = order[:, None, :].expand_as(weights)
    left, grid = weights.gather(2, columns), grid.permuted(order)
    ordered = gram.gather(1, order[:, :, None].expand_as(gram))
    ordered = ordered.gather(2, order[:, None, :].expand_as(gram))
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(ordered))
    upper = torch.linalg.cholesky(inverse, upper=True)
    rounded = torch.empty_like(left)
    for t in range(left.shape[-1]):
        column = left[..., t : t + 1]
        rounded[..., t : t + 1] = grid.column(t).nearest(column)
        error = (column - rounded[..., t : t + 1]) / upper[:, None, t, t, None]
        left[..., t + 1 :] -= error * upper[:, None, t, t + 1 :]
    return torch.empty_like(rounded).scatter_(2, columns, rounded)


def _order(gram: torch.Tensor, by_activation: bool) -> torch.Tensor:
    diagonal = gram.diagonal(dim1=1, dim2=2)
    if by_activation:
        return diagonal.argsort(dim=1, descending=True, stable=True)
    return torch.arange(gram.shape[-1]).expand(len(gram), -1)
