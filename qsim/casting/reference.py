"""The specification of the casts: one number at a time, in exact fractions, slow and obvious.

Everything faster in this package must agree with it bit for bit; the tests compare them on midpoints, their
neighbours, overflow thresholds and special values. Nothing here is shared with the fast paths but the facts
of the formats.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from fractions import Fraction

from qsim.errors import UserError
from qsim.formats import Element, Float, Posit, TableElement, TwosComplement
from qsim.spec import Cast, Rounding


@dataclass(frozen=True)
class Neighbours:
    """The two numbers of a format around a magnitude: the one toward zero and the next one away from it.

    is_odd: parity of the code toward zero. bound: where the nearest of the two changes; None for the middle.
    """

    toward: Fraction
    away: Fraction
    is_odd: bool
    bound: Fraction | None = None


def quantize_number(x: float | Fraction, element: Element, cast: Cast, random_bits: int = 0) -> float:
    """The value of `element` that one real number becomes. float infinities, NaN and -0 are understood.

    Raises UserError for NaN in a format without it and infinity with a wrapping overflow.
    """
    if isinstance(x, float) and math.isnan(x):
        if not element.has_nan:
            raise UserError(f"NaN in the input, but {element} has no NaN")
        return math.nan
    if isinstance(x, float) and math.isinf(x):
        return _infinity(x, element, cast)
    if isinstance(element, TableElement):
        return float(_table(Fraction(x), element, cast, random_bits))
    if isinstance(element, TwosComplement):
        return float(_fixed(Fraction(x), element, cast, random_bits))
    assert isinstance(element, Float)
    return _float(x, element, cast, random_bits)


def takes_away(
    d: Fraction, near: Neighbours, is_negative: bool, rounding: Rounding, random_bits: int
) -> bool:
    """Whether a magnitude at `d` (0 to 1) between its neighbours goes to the one away from zero."""
    half = Fraction(1, 2)
    if rounding.is_stochastic:
        return _takes_away_at_random(d, rounding, random_bits)
    if rounding.kind.startswith("nearest") and d != half:
        return d > half
    is_tie_away = {
        "nearest_even": near.is_odd,
        "nearest_odd": not near.is_odd,
        "nearest_away": True,
        "nearest_zero": False,
        "nearest_up": not is_negative,
        "nearest_down": is_negative,
    }
    is_inexact_away = {
        "floor": is_negative,
        "ceil": not is_negative,
        "toward_zero": False,
        "away_from_zero": True,
        "to_odd": not near.is_odd,
    }
    if rounding.kind in is_tie_away:
        return is_tie_away[rounding.kind]
    return d > 0 and is_inexact_away[rounding.kind]


def _takes_away_at_random(d: Fraction, rounding: Rounding, random_bits: int) -> bool:
    full = 1 << rounding.random_bits
    match rounding.kind:
        case "stochastic":
            return math.floor(d * full) + random_bits >= full
        case "stochastic_even":
            return round(d * full) + random_bits >= full
        case "stochastic_odd":
            whole = math.floor(d * full)
            rest = d * full - whole
            up = rest > Fraction(1, 2) or (rest == Fraction(1, 2) and whole % 2 == 0)
            return whole + up + random_bits >= full
        case _:
            return d + (random_bits + Fraction(1, 2)) / full >= 1


def _choose(
    magnitude: Fraction, near: Neighbours, is_negative: bool, cast: Cast, random_bits: int
) -> Fraction:
    gap = near.away - near.toward
    d = (magnitude - near.toward) / gap if gap else Fraction(0)
    if near.bound is not None and d and not cast.rounding.is_stochastic:
        # The bound is where the middle usually is; on either side of it any fraction of that half will do.
        d = Fraction(1, 2) + Fraction((magnitude > near.bound) - (magnitude < near.bound), 4)
    return near.away if takes_away(d, near, is_negative, cast.rounding, random_bits) else near.toward


def _fixed(x: Fraction, element: TwosComplement, cast: Cast, random_bits: int) -> Fraction:
    step = Fraction(2) ** element.step_exponent
    whole = math.floor(abs(x) / step)
    near = Neighbours(whole * step, (whole + 1) * step, whole % 2 == 1)
    rounded = _choose(abs(x), near, x < 0, cast, random_bits) / step
    code = int(-rounded if x < 0 else rounded)
    before_rounding = math.floor(x / step)
    return _overflow_code(code, before_rounding, element, cast) * step


def _overflow_code(code: int, before_rounding: int, element: TwosComplement, cast: Cast) -> int:
    low, high, bits = element.lowest_code, element.largest_code, element.bits
    if cast.overflow == "saturate_symmetric":
        return max(-high if element.signed else low, min(high, code))
    if low <= code <= high:
        return code
    match cast.overflow:
        case "saturate" | "saturate_finite":
            return max(low, min(high, code))
        case "saturate_zero":
            return 0
    wrapped = (code - low) % (1 << bits) + low
    if cast.overflow == "wrap":
        return wrapped
    sign = before_rounding >> bits & 1
    return wrapped if sign == (wrapped < 0) else ~wrapped


def floor_log2(x: Fraction) -> int:
    """The largest e with 2^e <= x, for x > 0."""
    e = x.numerator.bit_length() - x.denominator.bit_length()
    return e if Fraction(2) ** e <= x else e - 1


def _float_neighbours(magnitude: Fraction, element: Float) -> Neighbours:
    lowest = element.smallest_exponent
    exponent = floor_log2(magnitude) if magnitude else lowest - 1
    if exponent < lowest and not element.subnormals:
        return Neighbours(Fraction(0), Fraction(2) ** lowest, False)
    step = Fraction(2) ** (max(exponent, lowest) - element.mantissa)
    whole = math.floor(magnitude / step)
    code = whole
    if exponent >= lowest:
        code += (exponent - lowest + (1 if element.has_zero else 0) - 1) * (1 << element.mantissa)
    return Neighbours(whole * step, (whole + 1) * step, code % 2 == 1)


def _float(x: float | Fraction, element: Float, cast: Cast, random_bits: int) -> float:
    is_negative = math.copysign(1.0, x) < 0 if isinstance(x, float) else x < 0
    magnitude = abs(Fraction(x))
    if not element.has_zero:
        if is_negative or not magnitude:
            return math.nan
        magnitude = max(magnitude, Fraction(element.smallest))
    if element.specials == "e8m0" and cast.rounding == Rounding():
        cast = Cast(Rounding("nearest_away"), cast.overflow)
    near = _float_neighbours(magnitude, element)
    rounded = _choose(magnitude, near, is_negative, cast, random_bits)
    if is_negative and not element.signed and rounded:
        return math.nan if cast.overflow == "ieee" else 0.0
    if rounded > Fraction(element.largest):
        return _overflow_float(is_negative, element, cast)
    value = float(rounded)
    return -value if is_negative and (rounded or element.has_negative_zero) else value


def _overflow_float(is_negative: bool, element: Float, cast: Cast) -> float:
    sign = -1.0 if is_negative else 1.0
    if cast.overflow == "saturate_zero":
        return math.copysign(0.0, sign) if element.has_negative_zero else 0.0
    if cast.overflow != "ieee":
        return sign * element.largest
    stops = {"toward_zero": True, "to_odd": True, "floor": not is_negative, "ceil": is_negative}
    if stops.get(cast.rounding.kind, False):
        return sign * element.largest
    return sign * math.inf if element.has_infinity else math.nan


def _infinity(x: float, element: Element, cast: Cast) -> float:
    end = element.largest if x > 0 else element.lowest
    if cast.overflow.startswith("wrap"):
        raise UserError(f"infinity in the input, but {element} overflows by '{cast.overflow}'")
    if isinstance(element, Float):
        if not element.has_zero and x < 0:
            return math.nan
        if x < 0 and not element.signed:
            return math.nan if cast.overflow == "ieee" else 0.0
        if cast.overflow == "ieee":
            return x if element.has_infinity else math.nan
        if cast.overflow == "saturate_finite" and element.has_infinity:
            return x
        if cast.overflow == "saturate_zero":
            return math.copysign(0.0, x) if element.has_negative_zero else 0.0
        return end
    if cast.overflow == "ieee":
        return math.nan
    if cast.overflow == "saturate_zero":
        return 0.0
    if cast.overflow == "saturate_symmetric" and x < 0:
        return 0.0 - min(element.largest, -element.lowest) if element.signed else element.lowest
    if cast.overflow == "saturate_symmetric" and isinstance(element, TableElement) and element.signed:
        return min(element.largest, -element.lowest)
    return end


def _table(x: Fraction, element: TableElement, cast: Cast, random_bits: int) -> Fraction:
    values = [Fraction(v) for v in element.grid.values.tolist()]
    low, high = values[0], values[-1]
    is_outside = not low <= x <= high
    inside = max(low, min(high, x))
    index = bisect_right(values, inside) - 1
    if values[index] == inside:
        rounded = inside
    else:
        first, second = (index + 1, index) if inside < 0 else (index, index + 1)
        has_own_bounds = isinstance(element, Posit) or element.name.startswith("power")
        bound = Fraction(float(element.grid.bounds[index])) if has_own_bounds else None
        near = Neighbours(values[first], values[second], not element.grid.is_even[first], bound)
        rounded = _choose_signed(inside, near, cast, random_bits)
    if cast.overflow == "saturate_zero" and is_outside:
        return Fraction(0)
    if cast.overflow == "saturate_symmetric" and element.signed:
        limit = min(-low, high)
        return max(-limit, min(limit, rounded))
    return rounded


def _choose_signed(x: Fraction, near: Neighbours, cast: Cast, random_bits: int) -> Fraction:
    """As `_choose`, for neighbours on either side of zero (binary formats have no number between)."""
    if x < 0:
        bound = None if near.bound is None else -near.bound
        mirrored = Neighbours(-near.toward, -near.away, near.is_odd, bound)
        return -_choose(-x, mirrored, True, cast, random_bits)
    return _choose(x, near, False, cast, random_bits)


def power_of_two_exponent(amax: Fraction, element: Element, rule: str) -> int:
    """k of the scale 2^k that a power-of-two rule gives a group whose largest magnitude is `amax` > 0."""
    largest = Fraction(element.largest)
    emax = floor_log2(largest)
    match rule:
        case "floor":
            return floor_log2(amax) - emax
        case "ceil":
            return -floor_log2(1 / amax) - emax
        case "rceil":
            return -floor_log2(largest / amax)
        case _:  # even: amax rounded to the element's precision first
            step = Fraction(2) ** (floor_log2(amax) - (element.precision - 1))
            return floor_log2(round(amax / step) * step) - emax
