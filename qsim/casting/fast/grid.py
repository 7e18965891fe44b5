"""One value onto the grid of a minifloat, a fixed-point number or an integer.

All three are the same grid: equal steps up to `smallest_normal`, then steps that double with every power of two. An
integer or fixed-point format simply never leaves the first part. So one description and one set of functions serve
them all, in every rounding mode; the functions are branch-free and pure floating point, so that LLVM vectorises them.

The trick that rounds is old (Dekker, 1971): adding a power of two C whose last significand bit weighs one step
makes the adder round to that step, to nearest even; subtracting C again is exact.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from qsim.casting.fast.bits import float_like, is_odd, kernel, power_below, with_sign
from qsim.casting.fast.modes import Directed, Grid, NearestEvenWide, Stochastic


@kernel
def nearest_even(value: Any, zero_point: Any, grid: Grid) -> Any:
    """See NearestEven."""
    magnitude = abs(value)
    magnitude = grid.cap if magnitude > grid.cap else magnitude
    power = power_below(magnitude)
    magic = grid.lowest_magic if power < grid.smallest_normal else power * grid.magic_of_power
    return _within_range(value, (magnitude + magic) - magic, zero_point, grid)


@kernel
def nearest_even_wide(value: Any, mode: NearestEvenWide) -> Any:
    """`nearest_even` where `cap` is infinity and smallest_normal is below `lower`."""
    grid = mode.grid
    magnitude = abs(value)
    is_high = magnitude >= 1
    lowered = magnitude * mode.lower if is_high else magnitude
    power = power_below(lowered)
    magic = grid.lowest_magic if power < grid.smallest_normal else power * grid.magic_of_power
    rounded = (lowered + magic) - magic
    rounded = rounded * mode.lift if is_high else rounded
    return _within_range(value, rounded, grid.zero - grid.zero, grid)


@kernel
def directed(value: Any, zero_point: Any, mode: Directed) -> Any:
    """See Directed."""
    lower, rest, step, odd = _split(value, mode.grid)
    if_positive = mode.positive_odd if odd else mode.positive_even
    if_negative = mode.negative_odd if odd else mode.negative_even
    threshold = if_negative if value < 0 else if_positive
    rounded = lower + step if rest > threshold * step else lower
    return _within_range(value, rounded, zero_point, mode.grid)


@kernel
def stochastic(value: Any, zero_point: Any, random: Any, mode: Stochastic) -> Any:
    """See Stochastic; `random` is the integer r."""
    lower, rest, step, _ = _split(value, mode.grid)
    threshold = (mode.certain - float_like(random, mode.certain)) * mode.resolution * step
    ties = mode.ties_odd if random & 1 else mode.ties_even
    away = (rest > threshold) | ((rest == threshold) & ties)
    return _within_range(value, lower + step if away else lower, zero_point, mode.grid)


@kernel
def _split(value: Any, grid: Grid) -> Any:
    """The magnitude as (multiple of the step below it, what is left, the step, whether that multiple is odd)."""
    magnitude = abs(value)
    magnitude = grid.cap if magnitude > grid.cap else magnitude
    power = power_below(magnitude)
    step = grid.lowest_step if power < grid.smallest_normal else power * grid.step_of_power
    magic = grid.lowest_magic if power < grid.smallest_normal else power * grid.magic_of_power
    sum_ = magnitude + magic
    nearest = sum_ - magic
    too_far = nearest > magnitude
    lower = nearest - step if too_far else nearest
    return lower, magnitude - lower, step, is_odd(sum_) ^ too_far


@kernel
def _within_range(value: Any, rounded: Any, zero_point: Any, grid: Grid) -> Any:
    """Overflow, infinities and the sign. NaN passes every comparison unchanged."""
    negative = value < 0
    top = grid.top_negative + zero_point if negative else grid.top_positive - zero_point
    over = grid.over_negative + zero_point if negative else grid.over_positive - zero_point
    infinite = grid.infinite_negative + zero_point if negative else grid.infinite_positive - zero_point
    rounded = over if rounded > top else rounded
    rounded = infinite if abs(value) == np.inf else rounded
    return with_sign(rounded, value) + grid.zero
