"""Formats given by a list of values: small codebooks, and the base of every format with unequal steps."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.errors import SpecError
from qsim.formats.element import Element

MAX_TABLE_BITS = 16


@dataclass(frozen=True, eq=False)
class Grid:
    """The values of a table format in ascending order, as the casts need them. Read only, cached per format.

    values float64 [n]; codes int64 [n], the code written for each; is_even bool [n], which of two neighbours
    a tie to even goes to; bounds float64 [n - 1], where the nearest of two neighbours changes; bound_error
    int8 [n - 1], the sign of (exact bound - bounds), nonzero where float64 cannot hold the bound.
    """

    values: NDArray[np.float64]
    codes: NDArray[np.int64]
    is_even: NDArray[np.bool_]
    bounds: NDArray[np.float64]
    bound_error: NDArray[np.int8]


class TableElement(Element):
    """A format whose `entries` list the value of every code (NaN: the code holds no number)."""

    @property
    def entries(self) -> tuple[float, ...]:
        """Value of code 0, 1, 2, ..."""
        raise NotImplementedError

    @cached_property
    def grid(self) -> Grid:
        return _grid(self)

    def nearest_bounds(self, values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int8]]:
        """Midpoints of ascending `values`, and the sign of what float64 loses of them."""
        low, high = values[:-1] / 2, values[1:] / 2
        middle = low + high
        virtual = middle - low
        error = (low - (middle - virtual)) + (high - virtual)  # two-sum: middle + error is exact
        return middle, np.sign(error).astype(np.int8)

    def even_indices(self, codes: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of the ascending values counts as even when a tie is resolved: those with an even code."""
        return codes % 2 == 0

    @property
    def largest(self) -> float:
        return float(self.grid.values[-1])

    @property
    def lowest(self) -> float:
        return float(self.grid.values[0])

    @property
    def smallest(self) -> float:
        return float(self.grid.values[self.grid.values > 0][0])

    @property
    def precision(self) -> int:
        return 1

    def decode(self, codes: NDArray[Any]) -> NDArray[np.float64]:
        table = np.full(1 << self.bits, np.nan)
        table[: len(self.entries)] = self.entries
        return table[np.asarray(codes).astype(np.int64) & ((1 << self.bits) - 1)]

    def _check_bits(self, lowest: int, highest: int, bits: int) -> None:
        if not lowest <= bits <= highest:
            raise SpecError(f"{self.name}: {lowest} to {highest} bits are supported here, not {bits}")


@lru_cache(maxsize=64)
def _grid(element: TableElement) -> Grid:
    entries = np.array(element.entries, dtype=np.float64)
    codes = np.flatnonzero(np.isfinite(entries))
    values, first = np.unique(entries[codes] + 0.0, return_index=True)
    bounds, bound_error = element.nearest_bounds(values)
    grid = Grid(values, codes[first], element.even_indices(codes[first]), bounds, bound_error)
    for array in vars(grid).values():
        array.setflags(write=False)
    return grid


@dataclass(frozen=True)
class Bipolar(TableElement):
    """The odd integers of magnitude below 2^bits; code c is 2c - (2^bits - 1). Zero is a tie and goes to +1."""

    bits: int
    signed = True

    def __post_init__(self) -> None:
        self._check_bits(1, MAX_TABLE_BITS, self.bits)

    @property
    def name(self) -> str:
        return f"bipolar{self.bits}" if self.bits > 1 else "binary"

    @property
    def entries(self) -> tuple[float, ...]:
        return tuple(float(v) for v in range(1 - (1 << self.bits), 1 << self.bits, 2))

    @property
    def precision(self) -> int:
        return self.bits

    def even_indices(self, codes: NDArray[np.int64]) -> NDArray[np.bool_]:
        # Even counts (value - 1) / 2, so that sign(0) = +1 as binary networks have it (BinaryNet, FINN).
        return (codes - (1 << self.bits - 1)) % 2 == 0


BINARY = Bipolar(1)  # {-1, +1}; code 0 is -1


@dataclass(frozen=True)
class Ternary(TableElement):
    """{-1, 0, +1} in two bits of two's complement; code 2 holds no number."""

    bits = 2
    signed = True

    @property
    def name(self) -> str:
        return "ternary"

    @property
    def entries(self) -> tuple[float, ...]:
        return (0.0, 1.0, float("nan"), -1.0)


@dataclass(frozen=True)
class Table(TableElement):
    """table_<label>: code c is entries_[c], values that a plan brings. Without values it is a name only."""

    label: str
    table: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.table and (len(self.table) > 1 << MAX_TABLE_BITS or not np.isfinite(self.table).all()):
            raise SpecError(f"{self.name}: 1 to {1 << MAX_TABLE_BITS} finite values are needed")

    @property
    def bits(self) -> int:  # type: ignore[override]
        return max((len(self.entries) - 1).bit_length(), 1)

    @property
    def signed(self) -> bool:  # type: ignore[override]
        return min(self.entries) < 0

    @property
    def name(self) -> str:
        return f"table_{self.label}"

    @property
    def entries(self) -> tuple[float, ...]:
        if not self.table:
            raise SpecError(
                f"{self.name} has no values here: bind them with spec.bind({{'{self.label}': [...]}})"
            )
        return self.table


# QLoRA (Dettmers et al. 2023), appendix E, in the float32 values of bitsandbytes.
_NF4 = (
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
)


@dataclass(frozen=True)
class NormalFloat4(TableElement):
    """nf4: 16 quantiles of a normal distribution on [-1, 1] (QLoRA)."""

    bits = 4
    signed = True

    @property
    def name(self) -> str:
        return "nf4"

    @property
    def entries(self) -> tuple[float, ...]:
        return _NF4
