"""Formats whose products are shifts, and the power-function format: pot, apot, log2, power."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, localcontext
from itertools import product

import numpy as np
from numpy.typing import NDArray

from qsim.errors import SpecError
from qsim.formats.table import MAX_TABLE_BITS, TableElement


@dataclass(frozen=True)
class PowerOfTwo(TableElement):
    """pot<K>: 0 and +-2^-s, s of K bits. Code: zero flag, sign, s from the top; a set zero flag is the value 0."""

    shift_bits: int
    signed = True

    def __post_init__(self) -> None:
        self._check_bits(1, 9, self.shift_bits)

    @property
    def bits(self) -> int:  # type: ignore[override]
        return self.shift_bits + 2

    @property
    def name(self) -> str:
        return f"pot{self.shift_bits}"

    @property
    def entries(self) -> tuple[float, ...]:
        shifts = [2.0**-s for s in range(1 << self.shift_bits)]
        return (*shifts, *(-v for v in shifts), *[0.0] * (2 * len(shifts)))


@dataclass(frozen=True)
class AdditivePowerOfTwo(TableElement):
    """apot<K>x<T>: every sum of T pot<K> values (Li et al. 2020, "Additive Powers-of-Two Quantization").

    Code: the T pot codes one after the other, the first on top; of several codes of one value the smallest is
    written.
    """

    shift_bits: int
    terms: int
    signed = True

    def __post_init__(self) -> None:
        self._check_bits(1, 9, self.shift_bits)
        if self.terms < 1 or self.bits > MAX_TABLE_BITS:
            raise SpecError(f"{self.name}: 1 or more terms in at most {MAX_TABLE_BITS} bits are supported")

    @property
    def bits(self) -> int:  # type: ignore[override]
        return self.terms * (self.shift_bits + 2)

    @property
    def name(self) -> str:
        return f"apot{self.shift_bits}x{self.terms}"

    @property
    def entries(self) -> tuple[float, ...]:
        term = PowerOfTwo(self.shift_bits).entries
        return tuple(sum(parts) for parts in product(term, repeat=self.terms))

    @property
    def precision(self) -> int:
        return self.terms


@dataclass(frozen=True)
class Log2(TableElement):
    """log2_<N>: code c is 2^-c, the last code is 0. Unsigned: what is negative becomes 0."""

    bits: int
    signed = False

    def __post_init__(self) -> None:
        self._check_bits(1, 9, self.bits)

    @property
    def name(self) -> str:
        return f"log2_{self.bits}"

    @property
    def entries(self) -> tuple[float, ...]:
        return (*(2.0**-c for c in range((1 << self.bits) - 1)), 0.0)


@dataclass(frozen=True)
class PowerFunction(TableElement):
    """power<N>_<a>: code q (two's complement, the lowest unused) is sign(q) * |q|^(1/a).

    A value rounds where |x|^a rounds to an integer, as PowerQuant and NUPES (Yvinec et al. 2023) do: the
    bound between q and q + 1 is (q + 1/2)^(1/a). Values and bounds are the float64 nearest to the exact
    power.
    """

    bits: int
    power: str
    signed = True

    def __post_init__(self) -> None:
        self._check_bits(2, MAX_TABLE_BITS, self.bits)
        if not Decimal(self.bits) / 1000 <= Decimal(self.power) <= 64:  # (2^bits)^(1/a) must fit in float64
            raise SpecError(f"{self.name}: the power must be {self.bits / 1000} to 64")

    @property
    def name(self) -> str:
        return f"power{self.bits}_{self.power}"

    @property
    def entries(self) -> tuple[float, ...]:
        top = 1 << self.bits - 1
        positive = self._roots([Decimal(q) for q in range(top)])
        return (*positive, float("nan"), *(-v for v in reversed(positive[1:])))

    def nearest_bounds(self, values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int8]]:
        half = np.array(self._roots([q + Decimal("0.5") for q in range((1 << self.bits - 1) - 1)]))
        return np.concatenate([-half[::-1], half]), np.zeros(2 * len(half), dtype=np.int8)

    def _roots(self, magnitudes: list[Decimal]) -> list[float]:
        with localcontext() as context:
            context.prec = 40
            root = 1 / Decimal(self.power)
            return [float(m**root) if m else 0.0 for m in magnitudes]


def canonical_power(text: str) -> str:
    """The decimal without needless zeros: '0.50' and '.5' are both '0.5'."""
    return format(Decimal(text).normalize(), "f")
