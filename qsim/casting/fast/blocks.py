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
    peaks: Any,
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

    A row is stretches_of(length, block) of them. `peaks`: those of all blocks if they are known, else empty. Scales and
    quotients have the type of the array `one`. Returns whether it met a NaN.
    """
    has_nan = False
    blocks = max(STRETCH // block, 1)
    sixteenths = np.empty(STRETCH // LANES, x.dtype)
    own = np.empty(blocks, x.dtype)
    scales = np.empty(blocks, one.dtype)
    spread = np.empty(blocks * block, one.dtype)
    for stretch in range(first, last):
        start, stop, index = _bounds(stretch, length, block)
        count = (stop - start + block - 1) // block
        if len(peaks):
            for b in range(count):  # a slice assignment would compile its error messages, for two seconds
                own[b] = peaks[index + b]
        else:
            _peaks_of_stretch(x, start, stop, block, sixteenths, own)
        for b in range(count):
            scales[b] = scale_of_block(own[b], rule)
        for b in range(count):
            _fill(spread, b * block, block, scales[b])
        has_nan |= round_row(x, y, start, spread[: stop - start], no_offset, mode)
    return has_nan


@kernel
def peaks_of_blocks(x: Any, peaks: Any, first: int, last: int, length: int, block: int) -> None:
    """The peaks of all blocks in stretches first..last-1, as `round_blocks` takes them."""
    sixteenths = np.empty(STRETCH // LANES, x.dtype)
    for stretch in range(first, last):
        start, stop, index = _bounds(stretch, length, block)
        _peaks_of_stretch(x, start, stop, block, sixteenths, peaks[index:])


@kernel
def stretches_of(length: int, block: int) -> int:
    """How many stretches a row is cut into."""
    stretch = max(STRETCH // block, 1) * block
    return (length + stretch - 1) // stretch


@kernel
def _bounds(stretch: int, length: int, block: int) -> Any:
    """First element, element after the last, and number of the first block of a stretch."""
    blocks, stretches = max(STRETCH // block, 1), stretches_of(length, block)
    row = stretch // stretches
    within = stretch - row * stretches
    start = row * length + within * blocks * block
    stop = min(start + blocks * block, (row + 1) * length)
    return start, stop, row * ((length + block - 1) // block) + within * blocks


@kernel
def _peaks_of_stretch(x: Any, start: int, stop: int, block: int, sixteenths: Any, peaks: Any) -> None:
    """The peaks of the blocks of one stretch; of a whole one from those of its pieces of 16 elements."""
    if stop - start < STRETCH or STRETCH % block or block % LANES:
        zero = np.zeros(1, x.dtype)[0]
        for b in range((stop - start + block - 1) // block):
            begin = start + b * block
            peaks[b] = peak_of(x, begin, min(begin + block, stop), 0, zero)
        return
    for k in range(0, STRETCH // LANES, LANES):
        peaks_of_16_by_16(x, start + k * LANES, sixteenths, k)
    pieces = block // LANES
    for b in range(STRETCH // block):
        peak = sixteenths[b * pieces]
        for k in range(1, pieces):
            peak = max(peak, sixteenths[b * pieces + k])
        peaks[b] = peak


@kernel
def _fill(spread: Any, start: int, count: int, value: Any) -> None:
    whole = start + count // LANES * LANES
    for i in range(start, whole, LANES):
        fill_16(spread, i, value)
    for i in range(whole, start + count):
        spread[i] = value
