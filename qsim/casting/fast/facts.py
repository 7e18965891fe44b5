"""From a format and a cast to the scalars the kernels compute with. No numba here, only facts.

`mode_of` answers None where no kernel is exact, and the caller takes the general path.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from qsim.casting.fast.modes import (
    AmaxRule,
    Directed,
    Grid,
    NearestEven,
    NearestEvenWide,
    PowerOfTwoRule,
    Stochastic,
)
from qsim.formats import E8M0, Element, Float, Integer, TwosComplement
from qsim.spec import Cast, Rounding, Scale, Spec

Carrier = type[np.float32] | type[np.float64]
Mode = NearestEven | NearestEvenWide | Directed | Stochastic

_MANTISSA = {np.float32: 23, np.float64: 52}
_SMALLEST_EXPONENT = {np.float32: -126, np.float64: -1022}
_LARGEST_EXPONENT = {np.float32: 127, np.float64: 1023}
_SHIFT = 64  # how many binades lower a wide grid rounds its upper half

# Thresholds of `Directed`, in steps: the discarded part rounds away from zero iff it is larger.
_IF_INEXACT = 0.0
_NEVER = 1.0


@lru_cache(maxsize=1024)
def choose_mode(spec: Spec, dtype: Carrier, needs_wide: bool = False) -> tuple[Carrier, Mode] | None:
    """(type of scales and quotients, mode) for data of type `dtype`; None where no mode is exact.

    needs_wide: a scale was given that is no power of two although the spec's are, so that quotients are float64.
    """
    element, cast = spec.element, spec.cast
    if spec.has_zero_point and cast.overflow not in ("saturate", "saturate_finite"):
        return None  # a zero point outside the symmetric range, or 0 put where the zero point is
    divides_exactly = spec.scale is not None and spec.scale.is_power_of_two
    if dtype is np.float32 and not needs_wide:
        mode = mode_of(element, cast, np.float32)
        # A quotient that underflows float32 rounds to nearest all the same, but not in the other modes.
        if mode is not None and (not divides_exactly or (isinstance(mode, NearestEven) and saturates(cast))):
            return np.float32, mode
    mode = mode_of(element, cast, np.float64)
    if mode is None:
        return None
    return (np.float64 if divides_exactly else dtype), mode


def saturates(cast: Cast) -> bool:
    """Whether a quotient that overflowed to infinity ends like any other large one."""
    return cast.overflow in ("saturate", "saturate_symmetric")


@lru_cache(maxsize=1024)
def mode_of(element: Element, cast: Cast, carrier: Carrier) -> Mode | None:
    """How a value of type `carrier` gets onto the grid of `element`; None if this carrier cannot do it exactly."""
    if isinstance(element, TwosComplement):
        mantissa = element.bits + 1  # two binades more than needed: a zero point may shift the range by one
        smallest = largest = element.step_exponent + mantissa
        lowest_step = element.step_exponent
    elif isinstance(element, Float) and element.has_zero and element.mantissa > 0:
        mantissa, smallest = element.mantissa, element.smallest_exponent
        largest = math.frexp(element.largest)[1]
        lowest_step = element.step_exponent if element.subnormals else smallest
    else:
        return None
    overflow = _overflow(element, cast)
    guard = _MANTISSA[carrier] - mantissa
    lowest_magic = lowest_step + _MANTISSA[carrier]
    if overflow is None or guard < 2 or not _is_normal(lowest_magic, carrier):
        return None
    facts = (
        _power(smallest, carrier),
        2.0**-mantissa,
        2.0**guard,
        _power(lowest_step, carrier),
        2.0**lowest_magic,
        _power(largest, carrier),
        *overflow,
        -0.0 if element.has_negative_zero else 0.0,
    )
    with np.errstate(over="ignore"):  # a top beyond the carrier is infinity, which nothing exceeds
        grid = Grid(*map(carrier, facts))
    if _is_normal(largest + guard, carrier) and _is_normal(smallest - mantissa - 2, carrier):
        return _with_rounding(grid, cast.rounding, carrier)
    is_wide = largest > _LARGEST_EXPONENT[carrier] and smallest < -_SHIFT
    if is_wide and cast.rounding.kind == "nearest_even":
        return NearestEvenWide(grid, carrier(2.0**-_SHIFT), carrier(2.0**_SHIFT))
    return None


def _is_normal(exponent: int, carrier: Carrier) -> bool:
    return _SMALLEST_EXPONENT[carrier] <= exponent <= _LARGEST_EXPONENT[carrier]


def _power(exponent: int, carrier: Carrier) -> float:
    """2^exponent, infinity beyond the carrier."""
    return math.inf if exponent > _LARGEST_EXPONENT[carrier] else 2.0**exponent


def _overflow(element: TwosComplement | Float, cast: Cast) -> tuple[float, ...] | None:
    """top, over and infinite, each for positive and negative values (see `Grid`)."""
    top = (element.largest, -element.lowest)
    match cast.overflow:
        case "saturate":
            return top * 3
        case "saturate_symmetric":
            return (top[0], min(top)) * 3
        case "saturate_finite":
            infinite = (math.inf, math.inf if element.signed else 0.0) if element.has_infinity else top
            return (*top, *top, *infinite)
        case "saturate_zero":
            return (*top, 0.0, 0.0, 0.0, 0.0)
        case "ieee":
            return (*top, *_beyond(element, cast.rounding, top))
        case _:
            return None


def _beyond(
    element: TwosComplement | Float, rounding: Rounding, top: tuple[float, float]
) -> tuple[float, ...]:
    """What overflows is infinity (NaN without one), but finite values stay where the rounding goes toward the format.

    Source: IEEE 754-2019, 7.4.
    """
    outside = math.inf if element.has_infinity else math.nan
    infinite = (outside, outside if element.signed else math.nan)
    stops_positive = rounding.kind in ("toward_zero", "to_odd", "floor")
    stops_negative = rounding.kind in ("toward_zero", "to_odd", "ceil") and element.signed
    over = (top[0] if stops_positive else outside, top[1] if stops_negative else infinite[1])
    return (*over, *infinite)


def _with_rounding(grid: Grid, rounding: Rounding, carrier: Carrier) -> Mode | None:
    if rounding.kind == "nearest_even":
        return NearestEven(grid)
    if rounding.is_stochastic:
        return _stochastic(grid, rounding, carrier)
    half = carrier(0.5)
    tie_away, tie_back = np.nextafter(half, carrier(0)), half
    always, never = carrier(_IF_INEXACT), carrier(_NEVER)
    positive, negative = {
        "nearest_away": ((tie_away, tie_away), (tie_away, tie_away)),
        "nearest_zero": ((tie_back, tie_back), (tie_back, tie_back)),
        "nearest_up": ((tie_away, tie_away), (tie_back, tie_back)),
        "nearest_down": ((tie_back, tie_back), (tie_away, tie_away)),
        "nearest_odd": ((tie_away, tie_back), (tie_away, tie_back)),
        "floor": ((never, never), (always, always)),
        "ceil": ((always, always), (never, never)),
        "toward_zero": ((never, never), (never, never)),
        "away_from_zero": ((always, always), (always, always)),
        "to_odd": ((always, never), (always, never)),
    }[rounding.kind]
    return Directed(grid, *positive, *negative)


def _stochastic(grid: Grid, rounding: Rounding, carrier: Carrier) -> Stochastic | None:
    bits = rounding.random_bits
    if bits > _MANTISSA[carrier] - 1:
        return None
    offset, ties_even, ties_odd = {
        "stochastic": (0.0, True, True),
        "stochastic_even": (0.5, True, False),
        "stochastic_odd": (0.5, False, True),
        "stochastic_centered": (0.5, True, True),
    }[rounding.kind]
    return Stochastic(grid, carrier(2.0**bits - offset), carrier(2.0**-bits), ties_even, ties_odd)


def power_of_two_rule(
    element: Element, scale: Scale, for_zero: float, working: Carrier
) -> PowerOfTwoRule | None:
    """The scale rules floor, ceil, even and rceil with an e8m0 scale; `for_zero` is the scale of a block of zeros."""
    mantissa, exponent = math.frexp(element.largest)
    if scale.element != E8M0 or not -60 <= exponent <= 60:
        return None
    doubled_beyond = {
        "floor": working(2),
        "ceil": working(1),
        "even": np.nextafter(working(2 - 2.0**-element.precision), working(0)),
        "rceil": working(2 * mantissa),
    }[scale.rule]
    lift = 2.0 ** (_MANTISSA[working] + 9)
    facts = (E8M0.smallest, E8M0.largest, for_zero, 2.0 ** _SMALLEST_EXPONENT[working], lift, 1 / lift)
    return PowerOfTwoRule(working(2.0 ** (1 - exponent)), doubled_beyond, *map(working, facts))


def amax_rule(
    element: Element, scale: Scale, for_zero: float, outer: float, carrier: Carrier
) -> AmaxRule | None:
    """The rules amax and amax_half; `outer` is the scale of the scale, 1 without one."""
    divisor = element.largest
    if scale.rule == "amax_half":
        assert isinstance(element, Integer)
        divisor = element.largest_code + 0.5
    mode = mode_of(scale.element, Cast(), carrier)  # type: ignore[arg-type]  # numpy's classes are hashable
    if not isinstance(mode, NearestEven) or float(carrier(divisor)) != divisor:
        return None
    return AmaxRule(
        carrier(divisor), carrier(outer), mode, carrier(for_zero), carrier(scale.element.smallest)
    )
