"""The loops: every element divided by its scale, rounded, multiplied back, in one pass over memory.

A contiguous array is `rows x length` elements; each row is cut into pieces of `block` elements (the last one ragged),
and all elements of a piece share one scale. That covers a tensor, channels, tokens and blocks.
"""

from __future__ import annotations

from typing import Any

from numba.extending import overload

from qsim.casting.fast.bits import kernel
from qsim.casting.fast.codebook import Codebook, look_up
from qsim.casting.fast.grid import directed, nearest_even, nearest_even_wide, stochastic
from qsim.casting.fast.modes import Directed, Given, NearestEven, NearestEvenWide, Seeded
from qsim.casting.fast.stochastic import seeded_bits


def round_value(value: Any, index: Any, zero_point: Any, mode: Any) -> Any:
    """Round one scaled value; which function does it is decided by the type of `mode` when a loop is compiled."""
    raise NotImplementedError("only compiled loops call this")


@overload(round_value, strict=False)  # strict would compare the annotations too
def _round_value(value: Any, index: Any, zero_point: Any, mode: Any) -> Any:
    if mode.instance_class is NearestEven:
        return lambda value, index, zero_point, mode: nearest_even(value, zero_point, mode.grid)
    if mode.instance_class is NearestEvenWide:
        return lambda value, index, zero_point, mode: nearest_even_wide(value, mode)
    if mode.instance_class is Directed:
        return lambda value, index, zero_point, mode: directed(value, zero_point, mode)
    if mode.instance_class is Given:
        return lambda value, index, zero_point, mode: stochastic(
            value, zero_point, mode.random_bits[index], mode.mode
        )
    if mode.instance_class is Seeded:
        return lambda value, index, zero_point, mode: stochastic(
            value, zero_point, seeded_bits(index, mode), mode.mode
        )
    if mode.instance_class is Codebook:
        return lambda value, index, zero_point, mode: look_up(value, mode)
    return None


@kernel
def round_piece(x: Any, y: Any, start: int, stop: int, scale: Any, zero_point: Any, mode: Any) -> Any:
    """Round x[start:stop] into y with one scale; returns whether it met a NaN."""
    has_nan = False
    x = x[start:stop]
    y = y[start:stop]
    for i in range(len(x)):
        value = x[i] / scale
        y[i] = round_value(value, start + i, zero_point, mode) * scale
        has_nan |= value != value
    return has_nan


@kernel
def round_segments(
    x: Any, y: Any, first: int, last: int, length: int, block: int, scale: Any, zero_point: Any, mode: Any
) -> Any:
    """Round the pieces first..last-1; piece p takes scale[p % len(scale)]. Returns whether it met a NaN."""
    pieces = (length + block - 1) // block
    has_nan = False
    for piece in range(first, last):
        row = piece // pieces
        start = row * length + (piece - row * pieces) * block
        stop = min(start + block, (row + 1) * length)
        k = piece % len(scale)
        has_nan |= round_piece(x, y, start, stop, scale[k], zero_point[piece % len(zero_point)], mode)
    return has_nan


@kernel
def round_row(x: Any, y: Any, start: int, scale: Any, zero_point: Any, mode: Any) -> Any:
    """Round len(scale) elements from `start` on, each with its own scale. Returns whether it met a NaN."""
    has_nan = False
    x = x[start : start + len(scale)]
    y = y[start : start + len(scale)]
    for j in range(len(x)):
        value = x[j] / scale[j]
        y[j] = round_value(value, start + j, zero_point, mode) * scale[j]
        has_nan |= value != value
    return has_nan


@kernel
def round_columns(x: Any, y: Any, first: int, last: int, scale: Any, zero_point: Any, mode: Any) -> Any:
    """Round the rows first..last-1 of len(scale) elements each, element j with scale[j] and zero_point[j]."""
    has_nan = False
    for row in range(first, last):
        start = row * len(scale)
        source = x[start : start + len(scale)]
        target = y[start : start + len(scale)]
        for j in range(len(source)):
            value = source[j] / scale[j]
            target[j] = round_value(value, start + j, zero_point[j], mode) * scale[j]
            has_nan |= value != value
    return has_nan
