"""The scales of a call that gives none: a kernel finds the peaks of the groups, qsim.casting.scales the scales.

The rules themselves are not written again: a tensor of one element per group, its peak, has the same scales.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.casting.fast.blocks import peaks_of_segments
from qsim.casting.fast.facts import amax_rule, power_of_two_rule
from qsim.casting.fast.threads import spread
from qsim.casting.scales import compute_levels
from qsim.spec import POWER_OF_TWO_RULES, Spec

Array = NDArray[Any]

FLAT_PIECE = 1 << 15  # elements per piece where all share one scale


def block_rule(x: Array, spec: Spec, working: Any) -> Any:
    """The rule `round_blocks` can follow for this spec, or None."""
    assert spec.scale is not None and spec.granularity is not None
    scale = spec.scale
    of_zero, _ = _levels_of_peaks(np.zeros(1, x.dtype), spec, -1)
    for_zero = float(of_zero[0][0])
    if scale.rule in POWER_OF_TWO_RULES:
        return power_of_two_rule(spec.element, scale, for_zero, working)
    if scale.rule not in ("amax", "amax_half"):
        return None
    if scale.scale is None or scale.granularity is None:
        return amax_rule(spec.element, scale, for_zero, 1.0, np.float64)
    if scale.granularity.kind != "tensor" or scale.scale.scale is not None:
        return None
    levels, _ = _levels_of_peaks(_peaks(x, x.size, FLAT_PIECE).max(keepdims=True), spec, -1)
    return amax_rule(spec.element, scale, for_zero, float(levels[1]), x.dtype.type)


def dynamic_levels(x: Array, spec: Spec, axis: int) -> tuple[tuple[Array, ...], Array | None]:
    """compute_levels(x, spec, axis), from the peaks of the groups alone where those decide."""
    granularity, scale = spec.granularity, spec.scale
    assert granularity is not None and scale is not None
    is_plain = scale.rule != "minmax" and (scale.granularity is None or scale.granularity.kind != "channel")
    if not is_plain:
        return compute_levels(x, spec, axis)
    length = x.shape[-1]
    match granularity.kind:
        case "tensor":
            return _levels_of_peaks(_peaks(x, x.size, FLAT_PIECE).max(), spec, axis)
        case "token":
            return _levels_of_peaks(_peaks(x, length, length).reshape(*x.shape[:-1], 1), spec, axis)
        case "block" if len(granularity.block) == 1:
            return _levels_of_peaks(
                _peaks(x, length, granularity.block[0]).reshape(*x.shape[:-1], -1), spec, axis
            )
        case "block" if x.ndim >= 2 and axis % x.ndim == x.ndim - 1:
            tall, wide = granularity.block
            rows = _peaks(x, length, wide).reshape(*x.shape[:-1], -1)
            tiles = np.maximum.reduceat(rows, np.arange(0, x.shape[-2], tall), axis=-2)
            return _levels_of_peaks(tiles, spec, axis)
        case "channel" if scale.granularity is None:
            inner = int(np.prod(x.shape[axis % x.ndim + 1 :], dtype=np.int64))
            if inner > 1:
                channels = _peaks(x, inner, inner).reshape(-1, x.shape[axis]).max(axis=0)
                return _levels_of_peaks(channels, spec, 0)
    return compute_levels(x, spec, axis)


def _levels_of_peaks(peaks: Array, spec: Spec, axis: int) -> tuple[tuple[Array, ...], Array | None]:
    """The levels of a tensor whose groups have these peaks: a tensor of one element a group has the same."""
    assert spec.granularity is not None
    granularity = replace(spec.granularity, block=(1,) * len(spec.granularity.block))
    return compute_levels(peaks, replace(spec, granularity=granularity), axis)


def _peaks(x: Array, length: int, block: int) -> Array:
    """The largest finite magnitude of every piece (see segments)."""
    flat = x.reshape(-1)
    pieces = x.size // length * -(-length // block)
    peaks = np.empty(pieces, x.dtype)

    def work(first: int, last: int) -> bool:
        return bool(peaks_of_segments(flat, peaks, first, last, length, block))

    spread(work, pieces, x.size)
    return peaks
