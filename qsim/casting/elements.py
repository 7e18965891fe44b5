"""Casting numbers to an element format, unscaled: the general path, exact for every format, rounding and overflow.

All arithmetic is on float64 and exact: a value is split by powers of two into whole steps of the format and a
rest, the rest decides the rounding, and overflow is decided once on the rounded value. NaN stays NaN where
the format has one; elsewhere it is an error.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.casting.rounding import rounds_away
from qsim.casting.tables import cast_to_table
from qsim.errors import UserError
from qsim.formats import FLOAT16, FLOAT32, FLOAT64, Element, Float, TableElement, TwosComplement
from qsim.spec import Cast, Rounding

Array = NDArray[np.float64]

NATIVE: dict[Element, Any] = {FLOAT16: np.float16, FLOAT32: np.float32, FLOAT64: np.float64}

# Stands for any nonzero rest below every rounding threshold (32 random bits), where float64 would underflow.
_TINY = 2.0**-200


def cast_to_element(x: Array, element: Element, cast: Cast, random_bits: NDArray[Any] | None = None) -> Array:
    """The values of `element` that float64 `x` becomes, as float64, in the shape of `x`.

    -0 is kept by formats that have it, else becomes 0; infinity goes where `cast.overflow` sends it.
    Raises UserError for NaN in a format without NaN and for infinity with a wrapping overflow.
    """
    if not element.has_nan and np.isnan(x).any():
        raise UserError(f"NaN in the input, but {element} has no NaN")
    with np.errstate(all="ignore"):
        if isinstance(element, TwosComplement):
            return np.ldexp(cast_to_code(x, element, cast, random_bits), element.step_exponent)
        if isinstance(element, Float):
            native = NATIVE.get(element)
            if native is not None and cast == Cast():  # the processor's own conversion
                return np.clip(x, element.lowest, element.largest).astype(native).astype(np.float64)
            return _cast_to_float(x, element, cast, random_bits)
    if isinstance(element, TableElement):
        return cast_to_table(x, element, cast, random_bits)
    raise UserError(f"no cast to {element} is known")


def cast_to_code(
    x: Array,
    element: TwosComplement,
    cast: Cast,
    random_bits: NDArray[Any] | None = None,
    zero_point: NDArray[Any] | float = 0.0,
) -> Array:
    """The integer codes (as float64) of `x` in a fixed-point format: round, add the zero point, then overflow."""
    wraps = cast.overflow.startswith("wrap")
    if wraps and np.isinf(x).any():
        raise UserError(f"infinity in the input, but {element} overflows by '{cast.overflow}'")
    # Whole periods of a wrapping code are left out while that is exact; one period more keeps the bit above the sign.
    period = float(2 ** (element.bits + 1))
    within = np.fmod(x, np.ldexp(period, element.step_exponent)) if wraps else x
    steps, away = _round_steps(np.abs(within), element.step_exponent, x < 0, cast.rounding, random_bits)
    code = np.copysign(steps + away, x) + zero_point
    low, high = float(element.lowest_code), float(element.largest_code)
    match cast.overflow:
        case "saturate" | "saturate_finite":
            code = np.clip(code, low, high)
        case "saturate_symmetric":
            code = np.clip(code, -high if element.signed else low, high)
        case "saturate_zero":
            code = np.where((code < low) | (code > high), zero_point, code)
        case "wrap":
            code = _wrap(code, element)
        case "wrap_sign_magnitude":
            is_outside = (code < low) | (code > high) | (within != x)
            floor = np.floor(np.copysign(steps, x) - ((x < 0) & _has_rest(within, element.step_exponent)))
            code = _wrap_sign_magnitude(code, floor, is_outside, element)
    return np.asarray(code) + 0.0


def _wrap(code: Array, element: TwosComplement) -> Array:
    """`code` modulo 2^bits, in the range of the format."""
    wrapped = np.mod(code, 2.0**element.bits)
    return np.where(wrapped > element.largest_code, wrapped - 2.0**element.bits, wrapped)


def _wrap_sign_magnitude(
    code: Array, floor: Array, is_outside: NDArray[np.bool_], element: TwosComplement
) -> Array:
    """AP_WRAP_SM with no saturated bits: the sign comes from the first bit above the code, before rounding."""
    wrapped = _wrap(code, element)
    sign = np.floor(np.mod(floor, 2.0 ** (element.bits + 1)) / 2.0**element.bits)
    flips = is_outside & (sign != (wrapped < 0))
    complement = -1 - wrapped  # all bits inverted, the sign included, which is what the sign has to be
    return np.where(flips, complement, wrapped)


def _has_rest(x: Array, step_exponent: int) -> NDArray[np.bool_]:
    scaled = _scaled(np.abs(x), np.array(step_exponent))
    return np.asarray(scaled != np.floor(scaled))


def _scaled(magnitude: Array, step_exponent: NDArray[Any]) -> Array:
    """magnitude / 2^step_exponent; what would vanish in float64 is kept as a tiny nonzero value."""
    scaled = np.ldexp(magnitude, -step_exponent)
    return np.where((magnitude > 0) & (scaled < _TINY), _TINY, scaled)


def _round_steps(
    magnitude: Array,
    step_exponent: NDArray[Any] | int,
    is_negative: NDArray[np.bool_],
    rounding: Rounding,
    random_bits: NDArray[Any] | None,
    is_odd: NDArray[np.bool_] | None = None,
) -> tuple[Array, NDArray[np.bool_]]:
    """Whole steps of 2^step_exponent in `magnitude`, and whether one more is taken."""
    scaled = _scaled(magnitude, np.asarray(step_exponent))
    steps = np.floor(scaled)
    fraction = np.where(np.isfinite(scaled), scaled - steps, 0.0)
    odd = np.fmod(steps, 2.0) == 1 if is_odd is None else is_odd
    return steps, rounds_away(rounding, fraction, odd, is_negative, random_bits)


def _cast_to_float(x: Array, element: Float, cast: Cast, random_bits: NDArray[Any] | None) -> Array:
    magnitude = np.abs(x)
    if not element.has_zero:
        magnitude = np.where(magnitude > 0, np.maximum(magnitude, element.smallest), magnitude)
    finite = np.where(np.isfinite(magnitude), magnitude, 1.0)
    exponent = np.frexp(finite)[1] - 1
    is_normal = exponent >= element.smallest_exponent
    lowest_step = element.step_exponent if element.subnormals else element.smallest_exponent
    step = np.where(is_normal, exponent - element.mantissa, lowest_step)
    is_odd = None
    if element.mantissa == 0:  # the last bit of the code is then the last bit of the exponent
        is_odd = is_normal & ((exponent + element.bias) % 2 == 1)
    steps, away = _round_steps(finite, step, x < 0, _rounding_of(element, cast), random_bits, is_odd)
    rounded = np.where(np.isfinite(magnitude), np.ldexp(steps + away, step), magnitude)
    value = np.copysign(_overflow_float(rounded, x, element, cast), x)
    if not element.signed:
        value = _drop_negatives(value, x, element, cast)
    return value if element.has_negative_zero else np.where(value == 0, 0.0, value)


def _rounding_of(element: Float, cast: Cast) -> Rounding:
    # ml_dtypes breaks the ties of e8m0 upward: every significand is 1, the even one of a wider format is the next.
    is_tie_up = element.specials == "e8m0" and cast.rounding.kind == "nearest_even"
    return Rounding("nearest_away") if is_tie_up else cast.rounding


def _overflow_float(rounded: Array, x: Array, element: Float, cast: Cast) -> Array:
    """The magnitude that a rounded magnitude becomes in the range of `element`; NaN stays."""
    infinite, is_above = np.isinf(x), rounded > element.largest
    match cast.overflow:
        case "saturate" | "saturate_symmetric":
            return np.where(is_above, element.largest, rounded)
        case "saturate_finite":
            kept = np.inf if element.has_infinity else element.largest
            return np.where(infinite, kept, np.where(is_above, element.largest, rounded))
        case "saturate_zero":
            return np.where(is_above, 0.0, rounded)
        case _:
            outside = np.inf if element.has_infinity else np.nan
            # Directed roundings toward the format stop at its largest number, as IEEE 754 section 7.4 has it.
            stops = {"toward_zero": True, "to_odd": True, "floor": x > 0, "ceil": x < 0}
            is_kept = np.asarray(stops.get(cast.rounding.kind, False)) & ~infinite
            return np.where(is_above, np.where(is_kept, element.largest, outside), rounded)


def _drop_negatives(value: Array, x: Array, element: Float, cast: Cast) -> Array:
    """A format without sign: negative numbers are below its range; e8m0, which has no zero either, makes them NaN."""
    if not element.has_zero:
        return np.where(x > 0, value, np.nan)
    below = np.nan if cast.overflow == "ieee" else 0.0
    return np.where(value < 0, below, value)
