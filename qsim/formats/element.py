"""What every element format tells about itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Element(ABC):
    """A set of numbers and their codes. Subclasses are frozen dataclasses of facts; all else is derived.

    A code is an integer: two's complement for int and fixed, else the bit pattern (see `code_dtype`).
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """Canonical expression of the format."""

    @property
    @abstractmethod
    def largest(self) -> float:
        """Largest finite value."""

    @property
    @abstractmethod
    def lowest(self) -> float:
        """Lowest finite value: negative, or 0 for an unsigned format."""

    @property
    @abstractmethod
    def smallest(self) -> float:
        """Smallest value above zero."""

    @property
    @abstractmethod
    def precision(self) -> int:
        """Significant bits of the largest value, the leading one included."""

    @abstractmethod
    def decode(self, codes: NDArray[Any]) -> NDArray[np.float64]:
        """The value of each code, as float64 (exact); NaN for codes that hold none."""

    bits: int
    signed: bool
    has_infinity: bool = False
    has_nan: bool = False
    has_negative_zero: bool = False
    has_zero_point: bool = False
    is_power_of_two: bool = False
    codes_are_signed: bool = False

    @property
    def code_dtype(self) -> np.dtype[Any]:
        """Smallest NumPy integer that holds a code: signed for two's complement codes, else unsigned."""
        size = next(size for size in (8, 16, 32, 64) if self.bits <= size)
        return np.dtype(f"{'int' if self.codes_are_signed else 'uint'}{size}")

    def __str__(self) -> str:
        return self.name
