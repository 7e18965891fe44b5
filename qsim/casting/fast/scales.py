"""The scales of a call that gives none: a kernel finds the peaks of the groups, qsim.casting.scales the scales.

The rules themselves are not written again: a tensor of one element per group, its peak, has the same scales.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.casting.fast.blocks import peaks_of_blocks, peaks_of_columns, peaks_of_segments, stretches_of
from qsim.casting.fast.facts import amax_rule, power_of_two_rule
from qsim.casting.fast.threads import spread
from qsim.casting.scales import compute_levels
from qsim.spec import POWER_OF_TWO_RULES, Granularity, Spec

Array = NDArray[Any]

FLAT_PIECE = 1 << 15  # elements per piece where all share one scale
ALL, ABOVE, BELOW = 0, 1, -1  # which values count: all, those above zero, those below


def block_rule(x: Array, spec: Spec, working: Any) -> tuple[Any, Array]:
    """The rule `round_blocks` can follow for this spec, or None, and the peaks of the blocks if it took those."""
    assert spec.scale is not None and spec.granularity is not None
    scale, unknown = spec.scale, np.empty(0, x.dtype)
    for_zero = _scale_of_zeros(spec, x.dtype)
    if scale.rule in POWER_OF_TWO_RULES:
        return power_of_two_rule(spec.element, scale, for_zero, working), unknown
    if scale.rule not in ("amax", "amax_half"):
        return None, unknown
    if scale.scale is None or scale.granularity is None:
        return amax_rule(spec.element, scale, for_zero, 1.0, np.float64), unknown
    if scale.granularity.kind != "tensor" or scale.scale.scale is not None:
        return None, unknown
    peaks = _peaks_of_blocks(x, spec.granularity.block[0])
    levels, _ = _levels_of_peaks(peaks.max(keepdims=True), spec, -1)
    return amax_rule(spec.element, scale, for_zero, float(levels[1]), x.dtype.type), peaks


@lru_cache(maxsize=256)
def _scale_of_zeros(spec: Spec, dtype: np.dtype[Any]) -> float:
    """The stored scale of a block of zeros."""
    of_zero, _ = _levels_of_peaks(np.zeros(1, dtype), spec, -1)
    return float(of_zero[0][0])


def rows_in_blocks(x: Array, block: int) -> tuple[int, int]:
    """(length of a row, block) as `round_blocks` takes them: without ragged blocks all rows are one."""
    block = min(block, x.shape[-1])
    return (x.shape[-1] if x.shape[-1] % block else x.size), block


def dynamic_levels(x: Array, spec: Spec, axis: int) -> tuple[tuple[Array, ...], Array | None]:
    """compute_levels(x, spec, axis), from the peaks of the groups alone: the result is the same."""
    granularity, scale = spec.granularity, spec.scale
    assert granularity is not None and scale is not None
    is_nested = scale.granularity is not None
    if (is_nested and granularity.kind == "channel") or (
        scale.granularity and scale.granularity.kind == "channel"
    ):
        return compute_levels(x, spec, axis)
    if len(granularity.block) == 2 and (x.ndim < 2 or axis % x.ndim != x.ndim - 1):
        return compute_levels(x, spec, axis)
    if scale.rule == "minmax":
        low, high = (
            -_peaks_of_groups(x, granularity, axis, BELOW),
            _peaks_of_groups(x, granularity, axis, ABOVE),
        )
        return _levels_of_ranges(low, high, spec)
    peaks = _peaks_of_groups(x, granularity, axis, ALL)
    return _levels_of_peaks(peaks, spec, 0 if granularity.kind == "channel" else axis)


def _levels_of_peaks(peaks: Array, spec: Spec, axis: int) -> tuple[tuple[Array, ...], Array | None]:
    """The levels of a tensor whose groups have these peaks: a tensor of one element a group has the same."""
    return compute_levels(peaks, _of_single_elements(spec), axis)


@lru_cache(maxsize=256)
def _of_single_elements(spec: Spec) -> Spec:
    """`spec` with blocks of one element."""
    assert spec.granularity is not None
    granularity = replace(spec.granularity, block=(1,) * len(spec.granularity.block))
    return replace(spec, granularity=granularity) if spec.granularity.block else spec


def _levels_of_ranges(low: Array, high: Array, spec: Spec) -> tuple[tuple[Array, ...], Array | None]:
    """The same for the rule minmax: a tensor of two elements a group, its ends."""
    assert spec.granularity is not None
    if spec.granularity.kind == "channel":
        return compute_levels(np.stack([low, high]), spec, 1)
    ends = np.stack([low, high], axis=-1).reshape(*low.shape[:-1], -1)
    tall = (1,) * (len(spec.granularity.block) - 1)
    granularity = replace(spec.granularity, block=(*tall, 2) if spec.granularity.block else ())
    return compute_levels(ends, replace(spec, granularity=granularity), -1)


def _peaks_of_groups(x: Array, granularity: Granularity, axis: int, side: int) -> Array:
    """The largest finite magnitude of every group, in the group shape; blocks and tokens run along the last axis."""
    length, groups = x.shape[-1], x.shape[:-1]
    match granularity.kind:
        case "tensor":
            return np.asarray(_peaks_of_pieces(x, x.size, FLAT_PIECE, side).max())
        case "token":
            return _peaks_of_pieces(x, length, length, side).reshape(*groups, 1)
        case "channel":
            inner = int(np.prod(x.shape[axis % x.ndim + 1 :], dtype=np.int64))
            if inner == 1:
                return _peaks_of_columns(x, side)
            return np.asarray(_peaks_of_pieces(x, inner, inner, side).reshape(-1, x.shape[axis]).max(axis=0))
        case _:
            if side == ALL:
                peaks = _peaks_of_blocks(x, granularity.block[-1]).reshape(*groups, -1)
            else:
                peaks = _peaks_of_pieces(x, length, granularity.block[-1], side).reshape(*groups, -1)
            if len(granularity.block) == 1:
                return peaks
            starts = np.arange(0, x.shape[-2], granularity.block[0])
            return np.asarray(np.maximum.reduceat(peaks, starts, axis=-2))


def _peaks_of_blocks(x: Array, block: int) -> Array:
    """The peaks of blocks along the last axis, in order."""
    flat = x.reshape(-1)
    length, block = rows_in_blocks(x, block)
    peaks = np.empty(x.size // length * -(-length // block), x.dtype)

    def work(first: int, last: int) -> bool:
        peaks_of_blocks(flat, peaks, first, last, length, block)
        return False

    spread(work, x.size // length * stretches_of(length, block), x.size)
    return peaks


def _peaks_of_pieces(x: Array, length: int, block: int, side: int) -> Array:
    """The peak of every piece (see segments)."""
    flat = x.reshape(-1)
    pieces = x.size // length * -(-length // block)
    peaks = np.empty(pieces, x.dtype)

    def work(first: int, last: int) -> bool:
        peaks_of_segments(flat, peaks, first, last, length, block, side)
        return False

    spread(work, pieces, x.size)
    return peaks


def _peaks_of_columns(x: Array, side: int) -> Array:
    """The peak of every index of the last axis."""
    flat = x.reshape(-1)
    peaks = np.empty(x.shape[-1], x.dtype)

    def work(first: int, last: int) -> bool:
        peaks_of_columns(flat, peaks, first, last, side)
        return False

    spread(work, len(peaks), x.size)
    return peaks
