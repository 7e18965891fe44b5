"""What a rounding method is given and what it returns: one layer's reconstruction on calibration data.

A layer with weights W reads inputs x in the float32 network and q in the quantized one. Its rounded weights Q
and the change b of its bias should make Q q + b follow W x. Over all calibration rows the squared error of an
output is a quadratic form in its row of Q, known from second moments alone:

    E |w x - v q|^2 = w S_xx w' - 2 w S_xq v' + v S_qq v'

so that K x K matrices, gathered in one pass over batches, stand for the data in every layer-wise method.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from qsim.ptq.grid import Grid
from qsim.ptq.layer_matrix import row_parts

if TYPE_CHECKING:
    from qsim.graph import Layer, Node

# Of Moments.regularized: one setting tried on three networks, not a tuned optimum.
FLOOR, CONFIDENCE = 0.002, 0.2


@dataclass(frozen=True, eq=False)
class Moments:
    """First and second moments of a layer's inputs, a row each output position: means over all rows, float64.

    mean_float, mean_quantized: [groups, K]. float_float, float_quantized (E x q'), quantized_quantized:
    [groups, K, K]. rows: how many they are means of.
    """

    mean_float: torch.Tensor
    mean_quantized: torch.Tensor
    float_float: torch.Tensor
    float_quantized: torch.Tensor
    quantized_quantized: torch.Tensor
    rows: int

    @classmethod
    def measure(
        cls, node: Node, layer: Layer, batches: Iterable[tuple[torch.Tensor, torch.Tensor]]
    ) -> Moments:
        """Moments over batches of (float32 input, quantized input) of a layer; few samples are unfolded at a time."""
        count, sums = 0, [torch.zeros((), dtype=torch.float64)] * 5
        for x, q in batches:
            for rows, cast in row_parts(node, layer, x, q):
                square = rows.mT @ rows
                parts = [rows.sum(1), cast.sum(1), square]
                parts += [square, square] if cast is rows else [rows.mT @ cast, cast.mT @ cast]
                sums = [total + part.double() for total, part in zip(sums, parts, strict=True)]
                count += rows.shape[1]
        x, q, xx, xq, qq = (total / max(count, 1) for total in sums)
        return cls(x, q, xx, xq, qq, count)

    @classmethod
    def of_table(cls, uses: Moments, weights: torch.Tensor) -> Moments:
        """Moments for a weight [1, outputs, K] whose rows are looked up too (an embedding tied with a head).

        A looked-up row is the output, so its error is |w - v|^2: white inputs. They count as much as `uses`, each
        error taken relative to the mean energy of its own outputs.
        """
        length = weights.shape[-1]
        energy = ((weights @ uses.float_float) * weights).sum() / weights.square().sum().clamp(min=1e-30)
        white = (energy * torch.eye(length, dtype=torch.float64))[None]
        nothing = torch.zeros(1, length, dtype=torch.float64)
        return cls(nothing, nothing, white, white, white, uses.rows)

    @classmethod
    def joined(cls, parts: Sequence[Moments]) -> Moments:
        """Moments over the rows of all `parts`: of a weight that several nodes read."""
        rows = sum(part.rows for part in parts)
        means = {
            field.name: sum(getattr(part, field.name) * (part.rows / max(rows, 1)) for part in parts)
            for field in fields(cls)
            if field.name != "rows"
        }
        return cls(**means, rows=rows)

    def centered(self) -> Moments:
        """Covariances in place of second moments: what is left once a bias absorbs the mean error."""
        x, q = self.mean_float, self.mean_quantized
        return replace(
            self,
            mean_float=torch.zeros_like(x),
            mean_quantized=torch.zeros_like(q),
            float_float=self.float_float - _outer(x, x),
            float_quantized=self.float_quantized - _outer(x, q),
            quantized_quantized=self.quantized_quantized - _outer(q, q),
        )

    def regularized(self) -> Moments:
        """The moments with white noise added to all inputs: the error gains a multiple of |w - v|^2.

        Directions that a few calibration rows did not show are then not free: the share of the mean energy
        that is added, FLOOR + CONFIDENCE * K / rows, vanishes as rows outnumber weights.
        """
        length = self.quantized_quantized.shape[-1]
        share = FLOOR + CONFIDENCE * length / max(self.rows, 1)
        energy = self.quantized_quantized.diagonal(dim1=1, dim2=2).mean(1)
        extra = (share * energy)[:, None, None] * torch.eye(length, dtype=torch.float64)
        return replace(
            self,
            float_float=self.float_float + extra,
            float_quantized=self.float_quantized + extra,
            quantized_quantized=self.quantized_quantized + extra,
        )


@dataclass(frozen=True, eq=False)
class LayerProblem:
    """One layer: its float32 weights [groups, outputs, K] and the moments of its inputs.

    moments: as measured. objective: the moments that roundings are judged by: regularized, and centered where a
    bias is corrected afterwards. bias: the float32 one [outputs], None where the layer has none of its own.
    """

    weights: torch.Tensor
    moments: Moments
    objective: Moments
    bias: torch.Tensor | None = None

    def error(self, values: torch.Tensor) -> torch.Tensor:
        """Mean squared output error of `values` [groups, outputs, K]: [groups, outputs]."""
        change = ((values @ self.gram - 2 * self.pull) * values).sum(-1)
        return (self._float_energy + change).clamp(min=0)

    @cached_property
    def _float_energy(self) -> torch.Tensor:
        """w S_xx w' of every output, what all roundings have in common: [groups, outputs]."""
        return ((self.weights @ self.objective.float_float) * self.weights).sum(-1)

    @cached_property
    def gram(self) -> torch.Tensor:
        """S_qq, the quadratic form's matrix [groups, K, K]."""
        return self.objective.quantized_quantized

    @cached_property
    def pull(self) -> torch.Tensor:
        """W S_xq [groups, outputs, K]: half the negative gradient of the error at v = 0."""
        return self.weights @ self.objective.float_quantized

    def damped_gram(self, damping: float) -> torch.Tensor:
        """S_qq with `damping` times its mean diagonal added; inputs that are always zero get 1."""
        diagonal = self.gram.diagonal(dim1=1, dim2=2)
        extra = damping * diagonal.mean(1, keepdim=True) + (diagonal <= 0).double()
        return self.gram + torch.diag_embed(extra)

    def target(self, damping: float) -> torch.Tensor:
        """The real-valued weights that best undo the error of the inputs, drawn to W by ridge `damping`.

        W + W (S_xq - S_qq) (S_qq + damping)^-1; W itself where inputs carry no error.
        """
        shift = self.weights @ (self.objective.float_quantized - self.gram)
        return self.weights + torch.linalg.solve(self.damped_gram(damping), shift, left=False)

    def better(self, candidate: torch.Tensor, incumbent: torch.Tensor) -> torch.Tensor:
        """For every output the row of less error: no method may make an output worse than it found it."""
        wins = self.error(candidate) < self.error(incumbent)
        return torch.where(wins[..., None], candidate, incumbent)


@dataclass(frozen=True, eq=False)
class Rounded:
    """A layer's present state: weights on their grid [groups, outputs, K] and bias [outputs] (None: it has none)."""

    grid: Grid
    values: torch.Tensor
    bias: torch.Tensor | None


def _outer(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return a[..., :, None] * b[..., None, :]
