"""The numbers that one weight matrix may hold: a spec whose scales are already fixed.

Methods that choose roundings work in *columns*: with the scales fixed, every weight has its own ascending list
of admissible values, scale * (element value - zero point), the same list for integers, minifloats, posits and
tables. Nearest and neighbouring values are looked up there, so no method knows which format it serves.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from qsim.casting import encode, quantize
from qsim.casting.groups import spread
from qsim.formats import Element, TwosComplement, values
from qsim.plan import TensorPlan
from qsim.spec import Cast, Spec
from qsim.views import from_matrix, matrix_axis

Array = NDArray[Any]
LARGEST_BITS = 16  # of an element whose values are listed; beyond, nearest rounding leaves nothing to gain


@dataclass(frozen=True, eq=False)
class Grid:
    """Admissible values of a weight matrix [outputs, K], seen as [groups, outputs / groups, K].

    scale, zero_point: as a plan stores them (group shape of the spec's granularity; None: no scale).
    units: every finite value of the element, ascending [levels]. step, offset: of each weight, or scalars.
    """

    spec: Spec
    shape: tuple[int, int]
    groups: int
    scale: Array | None
    zero_point: Array | None
    units: torch.Tensor
    step: torch.Tensor
    offset: torch.Tensor

    @classmethod
    def of(
        cls, spec: Spec, shape: tuple[int, int], groups: int, scale: Array | None, zero_point: Array | None
    ) -> Grid:
        """The grid of a matrix of `shape` under `spec` with the given scales."""

        def of_each_weight(value: Array | None, default: float) -> torch.Tensor:
            if value is None or spec.granularity is None:
                return torch.full((groups, shape[0] // groups, shape[1]), default, dtype=torch.float64)
            wide = spread(np.asarray(value, np.float64), spec.granularity, shape, matrix_axis(spec))
            full = np.array(np.broadcast_to(wide, shape))
            return torch.from_numpy(full).reshape(groups, shape[0] // groups, shape[1])

        units = torch.from_numpy(np.array(element_values(spec.element)))
        return cls(
            *(spec, shape, groups, scale, zero_point, units),
            step=of_each_weight(scale, 1.0),
            offset=of_each_weight(zero_point, 0.0),
        )

    def with_scale(self, scale: Array) -> Grid:
        """The same grid under other scales."""
        return Grid.of(self.spec, self.shape, self.groups, scale, self.zero_point)

    def nearest(self, weights: torch.Tensor) -> torch.Tensor:
        """The admissible value nearest to each of `weights` [groups, outputs, K]."""
        below, above = self.neighbours(weights)
        return torch.where(weights - below <= above - weights, below, above)

    def neighbours(self, weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The largest admissible value at or below each weight and the smallest above it (both the end of the
        range where there is none).
        """
        wanted = weights / self.step + self.offset
        index = torch.searchsorted(self.units, wanted.contiguous(), right=True)
        below = self.units[(index - 1).clamp(min=0)]
        above = self.units[index.clamp(max=len(self.units) - 1)]
        return (below - self.offset) * self.step, (above - self.offset) * self.step

    def permuted(self, order: torch.Tensor) -> Grid:
        """The grid of a matrix of the columns `order` [groups, columns], in that order (for lookups only)."""
        columns = order[:, None, :].expand(*self.step.shape[:2], -1)
        return replace(self, step=self.step.gather(2, columns), offset=self.offset.gather(2, columns))

    def column(self, index: int) -> Grid:
        """The grid of one column, [groups, outputs, 1] (for lookups only)."""
        return self.columns(slice(index, index + 1))

    def columns(self, part: slice) -> Grid:
        """The grid of some columns (for lookups only)."""
        return replace(self, step=self.step[..., part], offset=self.offset[..., part])

    def store(self, weights: torch.Tensor, shape: tuple[int, ...], axis: int) -> TensorPlan:
        """A plan entry that holds `weights`, which lie on the grid, for a parameter of `shape`."""
        matrix = weights.reshape(self.shape).to(torch.float32).numpy()
        spec = replace(self.spec, cast=Cast())  # they are on the grid: the codes must not depend on the cast
        coded = encode(matrix, spec, axis=matrix_axis(spec), scale=self.scale, zero_point=self.zero_point)
        codes = from_matrix(coded.codes, shape, axis)
        return TensorPlan(self.spec, "weight", axis, coded.scale, coded.zero_point, codes)

    def cast(self, matrix: Array) -> torch.Tensor:
        """A float32 matrix [outputs, K] rounded by the spec's own cast, as [groups, outputs / groups, K]."""
        rounded = quantize(
            matrix, self.spec, axis=matrix_axis(self.spec), scale=self.scale, zero_point=self.zero_point
        )
        return self.nearest(torch.from_numpy(rounded).double().reshape(self.step.shape))


def has_grid(spec: Spec) -> bool:
    """Whether the values of a spec can be listed, so that roundings can be chosen among them."""
    return spec.element.bits <= LARGEST_BITS and not spec.is_dynamic


def element_values(element: Element) -> Array:
    """Every finite value of an element, ascending, float64."""
    if isinstance(element, TwosComplement) and element.has_zero_point:
        return np.arange(element.lowest, element.largest + 1, dtype=np.float64)
    return np.asarray(values(Spec(element)), np.float64)
