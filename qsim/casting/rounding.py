"""The one decision of rounding: away from zero, or not."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.errors import SpecError
from qsim.spec import Rounding


def rounds_away(
    rounding: Rounding,
    fraction: NDArray[np.float64],
    is_odd: NDArray[np.bool_],
    is_negative: NDArray[np.bool_],
    random_bits: NDArray[Any] | None = None,
) -> NDArray[np.bool_]:
    """Whether each value moves to its neighbour away from zero; otherwise it moves to the one toward zero.

    fraction: discarded part of the magnitude in units of the gap between the two neighbours, 0 <= fraction <
    1, exact (0: the value is a number of the format). is_odd: whether the neighbour toward zero has an odd
    code.
    random_bits: integers below 2^rounding.random_bits, for the stochastic kinds.
    """
    half, inexact = fraction == 0.5, fraction > 0
    match rounding.kind:
        case "nearest_even":
            away = (fraction > 0.5) | (half & is_odd)
        case "nearest_odd":
            away = (fraction > 0.5) | (half & ~is_odd)
        case "nearest_away":
            away = fraction >= 0.5
        case "nearest_zero":
            away = fraction > 0.5
        case "nearest_up":
            away = (fraction > 0.5) | (half & ~is_negative)
        case "nearest_down":
            away = (fraction > 0.5) | (half & is_negative)
        case "floor":
            away = inexact & is_negative
        case "ceil":
            away = inexact & ~is_negative
        case "toward_zero":
            away = np.zeros_like(inexact)
        case "away_from_zero":
            away = inexact
        case "to_odd":
            away = inexact & ~is_odd
        case _:
            away = _stochastically(rounding, fraction, random_bits)
    return np.asarray(away)


def _stochastically(
    rounding: Rounding, fraction: NDArray[np.float64], random_bits: NDArray[Any] | None
) -> NDArray[np.bool_]:
    """An adder of k random bits below the result: the variants differ in how the fraction is cut to k bits.

    The carry out of that adder is a comparison here, whose two sides float64 holds exactly.
    """
    if random_bits is None:
        raise SpecError(f"{rounding} rounding needs random_bits or a seed")
    scaled = fraction * float(1 << rounding.random_bits)
    missing = float(1 << rounding.random_bits) - random_bits  # what the fraction has to bring for a carry
    match rounding.kind:
        case "stochastic":
            away = scaled >= missing
        case "stochastic_even":
            away = np.rint(scaled) >= missing
        case "stochastic_odd":
            whole = np.floor(scaled)
            rest = scaled - whole
            away = whole + ((rest > 0.5) | ((rest == 0.5) & (whole % 2 == 0))) >= missing
        case _:
            away = scaled >= missing - 0.5
    return np.asarray(away)
