"""Blocks along the last axis with scales of their own, found and applied while the data is in the first-level cache.

MX, NVFP4, block floating point, group-wise integers. For a stretch of a few blocks: (1) the peak of each, (2) the scale
of each, (3) every element divided by its block's scale, rounded, multiplied back.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.extending import overload

from qsim.casting.fast.bits import kernel, power_below
from qsim.casting.fast.grid import nearest_even
from qsim.casting.fast.modes import PowerOfTwoRule
from qsim.casting.fast.segments import round_row
from qsim.casting.fast.vectors import LANES, fill_16, peak_of_16, peaks_of_16_by_16

STRETCH = 512  # elements handled at a time (one block, if that is longer); a multiple of LANES * LANES


@kernel
def peak_of(x: Any, start: int, stop: int, side: int, zero: Any) -> Any:
    """The largest finite magnitude of x[start:stop], `zero` (of the type of x) if there is none; side as in vectors."""
    peak = zero
    whole = start + (stop - start) // LANES * LANES
    for i in range(start, whole, LANES):
        peak = max(peak, peak_of_16(x, i, side))
    for i in range(whole, stop):
        magnitude = abs(x[i])
        counts = (x[i] >= 0) if side > 0 else (x[i] <= 0) | (side == 0)
        peak = magnitude if counts & (magnitude > peak) & (magnitude < np.inf) else peak
    return peak


@kernel
def peaks_of_segments(x: Any, peaks: Any, first: int, last: int, length: int, block: int, side: int) -> None:
    """peaks[p] of the pieces first..last-1 of a rows x length array whose rows are cut in blocks (see segments)."""
    pieces = (length + block - 1) // block
    zero = np.zeros(1, x.dtype)[0]
    for piece in range(first, last):
        row = piece // pieces
        start = row * length + (piece - row * pieces) * block
        peaks[piece] = peak_of(x, start, min(start + block, (row + 1) * length), side, zero)


@kernel
def peaks_of_columns(x: Any, peaks: Any, first: int, last: int, side: int) -> None:
    """peaks[j] of the columns first..last-1 of a rows x len(peaks) array."""
    own = peaks[first:last]
    own[:] = 0
    counts_above, counts_below = side >= 0, side <= 0
    for row in range(len(x) // len(peaks)):
        start = row * len(peaks) + first
        values = x[start : start + len(own)]
        for j in range(len(own)):
            value = values[j]
            magnitude = abs(value)
            counts = counts_above if value >= 0 else counts_below
            own[j] = magnitude if counts & (magnitude > own[j]) & (magnitude < np.inf) else own[j]


def scale_of_block(peak: Any, rule: Any) -> Any:
    """The scale of a block; which rule it is decided by the type of `rule` when a loop is compiled."""
    raise NotImplementedError("only compiled loops call this")


@overload(scale_of_block, strict=False)  # strict would compare the annotations too
def _scale_of_block(peak: Any, rule: Any) -> Any:
    return power_of_two_scale if rule.instance_class is PowerOfTwoRule else amax_scale


def power_of_two_scale(peak: Any, rule: Any) -> Any:
    """See PowerOfTwoRule; exponents are exact, down to subnormal peaks."""
    is_tiny = peak < rule.smallest_normal
    lifted = peak * rule.lift if is_tiny else peak
    power = power_below(lifted)
    scale = power * rule.per_power
    scale = scale + scale if lifted > power * rule.doubled_beyond else scale
    scale = scale * rule.drop if is_tiny else scale
    return rule.for_zero if peak == 0 else min(max(scale, rule.smallest), rule.largest)


def amax_scale(peak: Any, rule: Any) -> Any:
    """See AmaxRule."""
    own = peak / rule.divisor / rule.outer
    stored = nearest_even(own, rule.outer - rule.outer, rule.mode.grid)
    stored = rule.for_zero if own == 0 else max(stored, rule.smallest)
    return stored * rule.outer


@kernel
def round_blocks(
    x: Any,
    y: Any,
    first: int,
    last: int,
    length: int,
    block: int,
    rule: Any,
    one: Any,
    no_offset: Any,
    mode: Any,
) -> Any:
    """Round stretches first..last-1 of a rows x length array in blocks with scales by `rule`.

    A row is stretches_of(length, block) of them. Scales and quotients have the type of the array `one`. Returns whether
    it met a NaN.
    """
    has_nan = False
    zero = np.zeros(1, x.dtype)[0]
    blocks = max(STRETCH // block, 1)
    sixteenths = np.empty(STRETCH // LANES, x.dtype)
    scales = np.empty(blocks, one.dtype)
    spread = np.empty(blocks * block, one.dtype)
    stretches = stretches_of(length, block)
    for stretch in range(first, last):
        row = stretch // stretches
        start = row * length + (stretch - row * stretches) * len(spread)
        stop = min(start + len(spread), (row + 1) * length)
        count = (stop - start + block - 1) // block
        if stop - start == STRETCH and block % LANES == 0:
            _peaks_of_stretch(x, start, block, sixteenths, scales)
        else:
            for b in range(count):
                begin = start + b * block
                scales[b] = peak_of(x, begin, min(begin + block, stop), 0, zero)
        for b in range(count):
            scales[b] = scale_of_block(scales[b], rule)
        for b in range(count):
            _fill(spread, b * block, block, scales[b])
        has_nan |= round_row(x, y, start, spread[: stop - start], no_offset, mode)
    return has_nan


@kernel
def _peaks_of_stretch(x: Any, start: int, block: int, sixteenths: Any, peaks: Any) -> None:
    """The peaks of the blocks of one whole stretch, from those of its pieces of 16 elements."""
    for k in range(0, STRETCH // LANES, LANES):
        peaks_of_16_by_16(x, start + k * LANES, sixteenths, k)
    pieces = block // LANES
    for b in range(len(peaks)):
        peak = sixteenths[b * pieces]
        for k in range(1, pieces):
            peak = max(peak, sixteenths[b * pieces + k])
        peaks[b] = peak


@kernel
def stretches_of(length: int, block: int) -> int:
    """How many stretches `round_blocks` cuts a row into."""
    stretch = max(STRETCH // block, 1) * block
    return (length + stretch - 1) // stretch


@kernel
def _fill(spread: Any, start: int, count: int, value: Any) -> None:
    whole = start + count // LANES * LANES
    for i in range(start, whole, LANES):
        fill_16(spread, i, value)
    for i in range(whole, start + count):
        spread[i] = value
