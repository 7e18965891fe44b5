"""GPFQ: greedy path following, each weight rounded so that the output so far stays on the float path.

Lybrand and Saab, "A Greedy Algorithm for Quantizing Neural Networks", JMLR 2021, in the form for
quantized inputs of Zhang, Zhou, Saab, "Post-training Quantization for Neural Networks with Provable
Guarantees", 2023: with u the output error of the columns so far,
q_t = round(<q-input_t, u + w_t x_t> / |q-input_t|^2). The inner products are entries of the moments.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from qsim.ptq.problem import LayerProblem, Rounded


@dataclass(frozen=True)
class GPFQ:
    """An output that ends up worse than it was keeps its values."""

    def __call__(self, problem: LayerProblem, rounded: Rounded) -> Rounded:
        weights, grid = problem.weights, rounded.grid
        gram, cross = problem.gram, problem.objective.float_quantized
        values = torch.zeros_like(weights)
        for t in range(weights.shape[-1]):
            wanted = (weights[..., : t + 1] @ cross[:, : t + 1, t, None]) - (
                values[..., :t] @ gram[:, :t, t, None]
            )
            energy = gram[:, None, t, t, None]
            real = torch.where(energy > 0, wanted / energy, weights[..., t : t + 1])
            values[..., t : t + 1] = grid.column(t).nearest(real)
        return replace(rounded, values=problem.better(values, rounded.values))
