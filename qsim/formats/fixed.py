"""Numbers at equal steps from zero, in two's complement: integers and fixed point."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.errors import SpecError
from qsim.formats.element import Element

MAX_WIDTH = 53  # what float64, the type of every exact intermediate, holds


class TwosComplement(Element):
    """n * 2^step_exponent for every integer n of `bits` bits."""

    codes_are_signed = True

    @property
    def step_exponent(self) -> int:
        return 0

    @property
    def lowest_code(self) -> int:
        return -(1 << self.bits - 1) if self.signed else 0

    @property
    def largest_code(self) -> int:
        return (1 << self.bits - 1) - 1 if self.signed else (1 << self.bits) - 1

    @property
    def largest(self) -> float:
        return self.largest_code * 2.0**self.step_exponent

    @property
    def lowest(self) -> float:
        return self.lowest_code * 2.0**self.step_exponent

    @property
    def smallest(self) -> float:
        return float(2.0**self.step_exponent)

    @property
    def precision(self) -> int:
        return max(self.largest_code.bit_length(), 1)

    @property
    def code_dtype(self) -> np.dtype[Any]:
        size = next(size for size in (8, 16, 32, 64) if self.bits <= size)
        return np.dtype(f"{'int' if self.signed else 'uint'}{size}")

    def decode(self, codes: NDArray[Any]) -> NDArray[np.float64]:
        n = np.asarray(codes).astype(np.int64) & ((1 << self.bits) - 1)
        if self.signed:  # a bit pattern and the integer it stands for are both accepted
            n = (n ^ (1 << self.bits - 1)) - (1 << self.bits - 1)
        return np.ldexp(n.astype(np.float64), self.step_exponent)

    def _check_width(self, width: int) -> None:
        if not 1 <= width <= MAX_WIDTH:
            raise SpecError(f"{self.name}: a width of 1 to {MAX_WIDTH} bits is supported, not {width}")


@dataclass(frozen=True)
class Integer(TwosComplement):
    """int<N> and uint<N>; `zero_point` (+zp): the scale comes with an offset stored in the same integer type."""

    bits: int
    signed: bool = True
    zero_point: bool = False

    def __post_init__(self) -> None:
        self._check_width(self.bits)

    @property
    def has_zero_point(self) -> bool:  # type: ignore[override]
        return self.zero_point

    @property
    def name(self) -> str:
        return f"{'int' if self.signed else 'uint'}{self.bits}{'+zp' if self.zero_point else ''}"


@dataclass(frozen=True)
class Fixed(TwosComplement):
    """The values of ap_[u]fixed<width, integer>: n * 2^-(width - integer). `integer` may be negative or > width."""

    width: int
    integer: int
    signed: bool = True

    def __post_init__(self) -> None:
        self._check_width(self.width)
        if abs(self.integer) > 512:
            raise SpecError(f"{self.name}: -512 to 512 integer bits are supported")

    @property
    def bits(self) -> int:  # type: ignore[override]
        return self.width

    @property
    def step_exponent(self) -> int:
        return self.integer - self.width

    @property
    def name(self) -> str:
        return f"{'' if self.signed else 'u'}fixed{self.width}.{self.integer}"
