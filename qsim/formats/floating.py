"""Floating point of any exponent and mantissa width, with every convention for its special codes.

Sources: IEEE 754-2019; OCP 8-bit Floating Point (OFP8) 1.0 and OCP Microscaling 1.0; ml_dtypes 0.6; IEEE
P3109 interim report (value sets as gfloat 0.5.2 implements them).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.errors import SpecError
from qsim.formats.element import Element

SPECIALS = ("ieee", "nan", "none", "fnuz", "p3109_extended", "p3109_finite", "e8m0")

# (exponent, mantissa) of the formats whose name in ml_dtypes and OCP ends in "fn" although they have no NaN.
_FN_WITHOUT_NAN = {(2, 1), (2, 3), (3, 2)}
_STANDARD_NAMES = {
    (5, 10): "float16",
    (8, 7): "bfloat16",
    (8, 10): "tf32",
    (8, 23): "float32",
    (11, 52): "float64",
}


@dataclass(frozen=True)
class Float(Element):
    """Sign, `exponent` bits, `mantissa` bits; value (-1)^s * 2^(e - bias) * (1 + m / 2^mantissa).

    specials: which codes hold no number.
        ieee            exponent all ones: infinity (m = 0) and NaN
        nan             only all ones is NaN; no infinity (e4m3fn)
        none            every code is a number (e2m1fn)
        fnuz            one zero, NaN at the code of -0, no infinity
        p3109_extended  one zero, NaN at the code of -0 (unsigned: all ones), infinity at the top code below NaN
        p3109_finite    the same without infinity
        e8m0            powers of two only, no zero, no sign, all ones is NaN (ml_dtypes float8_e8m0fnu)
    subnormals: exponent 0 means 2^(1 - bias) * m / 2^mantissa; without them all its codes are zero.
    """

    exponent: int
    mantissa: int
    bias: int
    specials: str = "ieee"
    subnormals: bool = True
    signed: bool = True

    def __post_init__(self) -> None:
        if self.specials not in SPECIALS:
            raise SpecError(f"unknown special codes '{self.specials}': one of {', '.join(SPECIALS)}")
        if not 1 <= self.exponent <= 11 or not 0 <= self.mantissa <= 52:
            raise SpecError(f"{self.name}: 1 to 11 exponent bits and 0 to 52 mantissa bits are supported")
        if self.mantissa == 0 and self.specials in ("ieee", "nan", "fnuz"):
            raise SpecError(f"{self.name}: without mantissa bits every code must be a number (add -inf-nan)")
        if self.specials == "fnuz" and not self.signed:
            raise SpecError(f"{self.name}: fnuz has its NaN at the code of -0 and so needs a sign")
        if self.top_code < (1 if self.subnormals else 1 << self.mantissa):
            raise SpecError(f"{self.name}: no code is left for a number above zero")
        if self.step_exponent < -1074 or self._exponent_of(self.top_code) > 1023:
            raise SpecError(f"{self.name}: its values do not fit in float64; choose another bias")

    @property
    def bits(self) -> int:  # type: ignore[override]
        return self.signed + self.exponent + self.mantissa

    @property
    def has_infinity(self) -> bool:  # type: ignore[override]
        return self.specials in ("ieee", "p3109_extended")

    @property
    def has_nan(self) -> bool:  # type: ignore[override]
        return self.specials != "none"

    @property
    def has_zero(self) -> bool:
        return self.specials != "e8m0"

    @property
    def has_negative_zero(self) -> bool:  # type: ignore[override]
        return self.signed and self.specials in ("ieee", "nan", "none")

    @property
    def is_power_of_two(self) -> bool:  # type: ignore[override]
        return self.mantissa == 0

    @property
    def top_code(self) -> int:
        """Code of the largest finite value."""
        ones = (1 << self.exponent + self.mantissa) - 1
        match self.specials:
            case "ieee":
                return ones - (1 << self.mantissa)
            case "nan" | "e8m0":
                return ones - 1
            case "p3109_extended":
                return ones - 1 - (not self.signed)
            case "p3109_finite":
                return ones - (not self.signed)
            case _:
                return ones

    @property
    def nan_code(self) -> int | None:
        """The code written for NaN: positive and quiet where there is a choice."""
        ones = (1 << self.exponent + self.mantissa) - 1
        match self.specials:
            case "none":
                return None
            case "ieee":
                return self.infinity_code + (1 << self.mantissa - 1)
            case "fnuz" | "p3109_extended" | "p3109_finite" if self.signed:
                return ones + 1
            case _:
                return ones

    @property
    def infinity_code(self) -> int:
        return self.top_code + 1

    def _exponent_of(self, code: int) -> int:
        """floor(log2) of the value of a positive code (of the smallest normal one for exponent 0)."""
        field = code >> self.mantissa
        return (field if self.specials == "e8m0" else max(field, 1)) - self.bias

    @property
    def smallest_exponent(self) -> int:
        """floor(log2) of the smallest normal value."""
        return (1 if self.has_zero else 0) - self.bias

    @property
    def step_exponent(self) -> int:
        """log2 of the step between subnormal numbers."""
        return self.smallest_exponent - self.mantissa

    @cached_property
    def largest(self) -> float:
        return float(self.decode(np.array([self.top_code]))[0])

    @property
    def lowest(self) -> float:
        return -self.largest if self.signed else 0.0 if self.has_zero else self.smallest

    @property
    def smallest(self) -> float:
        no_subnormals = not self.subnormals or not self.has_zero
        return math.ldexp(1.0, self.smallest_exponent if no_subnormals else self.step_exponent)

    @property
    def precision(self) -> int:
        return self.mantissa + 1

    def decode(self, codes: NDArray[Any]) -> NDArray[np.float64]:
        bits = np.asarray(codes).astype(np.int64)
        magnitude = bits & ((1 << self.exponent + self.mantissa) - 1)
        field = magnitude >> self.mantissa
        fraction = magnitude & ((1 << self.mantissa) - 1)
        if self.has_zero:
            is_normal = field > 0
            significand = np.where(
                is_normal, fraction + (1 << self.mantissa), fraction if self.subnormals else 0
            )
            exponent = np.maximum(field, 1) - self.bias - self.mantissa
            with np.errstate(over="ignore"):  # codes beyond top_code, replaced below
                value = np.ldexp(significand.astype(np.float64), exponent)
        else:
            value = np.ldexp(1.0, field - self.bias)
        value = np.where(magnitude > self.top_code, np.nan, value)
        if self.has_infinity:
            value = np.where(magnitude == self.infinity_code, np.inf, value)
        if self.signed:
            value = np.where(bits >> self.exponent + self.mantissa & 1 == 1, -value, value)
        if self.nan_code is not None and not self.has_negative_zero:
            value = np.where(bits == self.nan_code, np.nan, value)
        return value

    @property
    def name(self) -> str:
        if self.specials == "e8m0":
            return "e8m0"
        if self.specials.startswith("p3109"):
            return self._p3109_name()
        exponent, mantissa, has_default_bias = self.exponent, self.mantissa, self.bias == self._default_bias
        modifiers = ("" if self.subnormals else "-subnormals") + ("" if self.signed else "-sign")
        if (
            (exponent, mantissa) in _STANDARD_NAMES
            and self.specials == "ieee"
            and has_default_bias
            and not modifiers
        ):
            return _STANDARD_NAMES[exponent, mantissa]
        if (exponent, mantissa, self.bias, self.specials) == (4, 3, 11, "fnuz"):
            return "e4m3b11fnuz" + modifiers
        suffix, modifier = _specials_text(exponent, mantissa, self.specials)
        bias = "" if has_default_bias else f"+bias{self.bias}"
        return f"e{exponent}m{mantissa}{suffix}{bias}{modifier}{modifiers}"

    @property
    def _default_bias(self) -> int:
        return default_bias(self.exponent, self.specials)

    def _p3109_name(self) -> str:
        domain = "e" if self.specials == "p3109_extended" else "f"
        return f"binary{self.bits}p{self.mantissa + 1}{'s' if self.signed else 'u'}{domain}"


def _specials_text(exponent: int, mantissa: int, specials: str) -> tuple[str, str]:
    """Canonical suffix and modifier of a convention for the special codes."""
    match specials:
        case "nan":
            return ("", "-inf") if (exponent, mantissa) in _FN_WITHOUT_NAN else ("fn", "")
        case "none":
            return ("fn", "") if (exponent, mantissa) in _FN_WITHOUT_NAN else ("", "-inf-nan")
        case "fnuz":
            return "fnuz", ""
        case _:
            return "", ""


def default_bias(exponent: int, specials: str) -> int:
    """2^(E-1) - 1 as in IEEE 754; fnuz formats have one more."""
    return (1 << exponent - 1) - (specials != "fnuz")


def suffix_specials(exponent: int, mantissa: int, suffix: str) -> str:
    """What the suffix of e<E>m<M><suffix> says about the special codes."""
    if suffix == "fn":
        return "none" if (exponent, mantissa) in _FN_WITHOUT_NAN else "nan"
    return suffix or "ieee"


def p3109(bits: int, precision: int, signed: bool, extended: bool) -> Float:
    """binary<bits>p<precision><s|u><e|f> of IEEE P3109."""
    exponent = bits - precision + (not signed)
    if precision < 1 or exponent < 1:
        name = f"binary{bits}p{precision}{'s' if signed else 'u'}{'e' if extended else 'f'}"
        raise SpecError(f"{name}: precision must be 1 to {bits - 1 if signed else bits}")
    specials = "p3109_extended" if extended else "p3109_finite"
    return Float(exponent, precision - 1, 1 << exponent - 1, specials, True, signed)


E8M0 = Float(8, 0, 127, "e8m0", subnormals=False, signed=False)
FLOAT16 = Float(5, 10, 15)
BFLOAT16 = Float(8, 7, 127)
TF32 = Float(8, 10, 127)
FLOAT32 = Float(8, 23, 127)
FLOAT64 = Float(11, 52, 1023)
