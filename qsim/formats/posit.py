"""Posits (Posit Standard 2022; Gustafson and Yonemoto 2017 for exponent sizes other than 2)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qsim.errors import SpecError
from qsim.formats.table import MAX_TABLE_BITS, TableElement


@dataclass(frozen=True)
class Posit(TableElement):
    """posit<N>.<ES>: sign, regime, up to ES exponent bits, fraction; negative codes are the two's complement.

    A value rounds to nearest on the bit string: the bound between two codes is the posit<N+1>.<ES> between
    them. No nonzero value becomes 0 and none overflows; infinity and NaN are NaR (code 2^(N-1)).
    """

    bits: int
    exponent_bits: int
    signed = True
    has_nan = True

    def __post_init__(self) -> None:
        self._check_bits(3, MAX_TABLE_BITS, self.bits)
        if self.exponent_bits < 0 or (self.bits - 1) << self.exponent_bits > 1000:
            raise SpecError(f"{self.name}: its values do not fit in float64; choose fewer exponent bits")

    @property
    def name(self) -> str:
        return f"posit{self.bits}.{self.exponent_bits}"

    @property
    def nan_code(self) -> int:
        return 1 << self.bits - 1

    @property
    def entries(self) -> tuple[float, ...]:
        positive = positive_posits(self.bits, self.exponent_bits)
        return (0.0, *positive, float("nan"), *(-v for v in reversed(positive)))

    @property
    def precision(self) -> int:
        return 1

    def nearest_bounds(self, values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int8]]:
        # Codes 2c + 1 of the posit one bit wider lie between codes c and c + 1; between 0 and the smallest
        # posit the bound is 0, so that nothing but zero becomes zero.
        between = positive_posits(self.bits + 1, self.exponent_bits)[2:-1:2]
        positive = np.array([0.0, *between])
        return np.concatenate([-positive[::-1], positive]), np.zeros(2 * len(positive), dtype=np.int8)


def positive_posits(bits: int, exponent_bits: int) -> list[float]:
    """The values of codes 1 to 2^(bits-1) - 1, ascending."""
    return [_positive_value(code, bits, exponent_bits) for code in range(1, 1 << bits - 1)]


def _positive_value(code: int, bits: int, exponent_bits: int) -> float:
    text = format(code, f"0{bits - 1}b")
    run = len(text) - len(text.lstrip(text[0]))
    regime = run - 1 if text[0] == "1" else -run
    rest = text[run + 1 :]
    exponent = int(rest[:exponent_bits].ljust(exponent_bits, "0") or "0", 2)
    fraction = rest[exponent_bits:]
    significand = 1.0 + int(fraction or "0", 2) / 2 ** len(fraction)
    return float(significand * 2.0 ** ((regime << exponent_bits) + exponent))
