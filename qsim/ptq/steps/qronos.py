"""Qronos: the first column rounded for the error of the inputs, the others corrected for it, then for each rounding.

Zhang, Zhang, Colbert, Saab, "Qronos: Correcting the Past by Shaping the Future... in Post-Training
Quantization", 2025 (arXiv 2505.11695). With x the float32 and q the quantized inputs, in order of the columns:

    q_1 = nearest to the scalar that brings v_1 q_1 + w_2 q_2 + ... closest to w x
    w_2.. = argmin |w x - v_1 q_1 - w_2.. q_2..|^2       all that is past is corrected in what is left
    then each column is rounded and the ones after it solve the same least squares given it

The last line is GPTQ's update, since the weights left solve the least squares before it too: the paper's
efficient form, and here `round_columns`. Against `GPTQ(follow_float=True)` only the first column differs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from qsim.ptq.problem import LayerProblem, Rounded
from qsim.ptq.steps.gptq import column_order, round_columns


@dataclass(frozen=True)
class Qronos:
    """damping: of the least squares, towards W, in units of the mean diagonal of E q q'. An output that ends up
    worse than it was keeps its values.
    """

    activation_order: bool = True
    damping: float = 0.01

    def __call__(self, problem: LayerProblem, rounded: Rounded) -> Rounded:
        gram = problem.damped_gram(self.damping)
        order = column_order(gram, self.activation_order)
        first = _first_column(problem, rounded, order[:, :1])
        target = problem.target(self.damping)
        values = round_columns(target, gram, rounded.grid, order, first=first)
        return replace(rounded, values=problem.better(values, rounded.values))


def _first_column(problem: LayerProblem, rounded: Rounded, column: torch.Tensor) -> torch.Tensor:
    """The rounded weights of the first `column` [groups, 1], all others still those of the float32 network."""
    place = column[:, None, :].expand(*problem.weights.shape[:2], 1)
    slope = (problem.pull - problem.weights @ problem.gram).gather(2, place)
    strength = problem.gram.diagonal(dim1=1, dim2=2).gather(1, column)[:, :, None]
    own = problem.weights.gather(2, place)
    wanted = torch.where(strength > 0, own + slope / strength, own)
    return rounded.grid.permuted(column).nearest(wanted)
