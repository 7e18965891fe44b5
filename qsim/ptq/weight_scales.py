"""Static scales of a weight matrix, one a tensor, output channel or block, each chosen on its own.

Every group takes the scale of least squared error among those that the scale's format can hold near the one of the
spec's rule: all exponents for powers of two (MX's e8m0), all stored values for narrow formats (NVFP4's e4m3; that
4 and 6 as the place of a block's largest value are both tried is the point of Cook et al., "Four Over Six", 2025),
a grid of factors for wide ones. Where an output channel's power of two stands under a real scale of the tensor
(ZeroQuant-FP's M2, qsim.ptq.hardware_scales), that real scale is searched over one octave too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.casting import quantize
from qsim.casting.groups import nested_axis, reduce_groups, spread
from qsim.casting.scales import compute_levels, effective_scale
from qsim.formats import values
from qsim.ptq.kl import kl_scale
from qsim.ptq.range_search import ScaleAndZero
from qsim.spec import Granularity, Scale, Spec

Array = NDArray[Any]
Levels = tuple[Array, ...]
REAL_FACTORS = np.arange(0.30, 1.301, 0.02)
EXPONENTS = (1, -1, -2, -3)
NARROW_BITS = 8  # scales of so few bits are enumerated
NARROW_FACTORS = (0.4, 1.6)
OCTAVE = 2.0 ** (np.arange(1, 8) / 8)
# A channel of all but zero weights would get a scale in whose units its bias does not fit 32 bits.
DEAD_CHANNEL = np.float32(2.0**-16)


def rule_scales(matrix: Array, spec: Spec, axis: int) -> ScaleAndZero:
    """What the spec's own rule gives: the whole range of every group."""
    levels, zero_point = _rule_levels(matrix, spec, axis)
    return effective_scale(levels, spec, axis), zero_point


def percentile_scales(matrix: Array, spec: Spec, axis: int, percentile: float) -> ScaleAndZero:
    """The rule's scales of a matrix whose rows (a whole tensor under a scale a tensor) are clipped to `percentile`,
    two-sided; blocks, whose percentile is their largest value, keep the rule's.
    """
    assert spec.granularity is not None
    if spec.granularity.kind not in ("tensor", "channel") or not matrix.size:
        return rule_scales(matrix, spec, axis)
    along = 1 if spec.granularity.kind == "channel" else None
    low, high = np.percentile(matrix, [100 - percentile, percentile], axis=along, keepdims=True)
    return rule_scales(np.clip(matrix, low, high).astype(matrix.dtype), spec, axis)


def kl_scales(matrix: Array, spec: Spec, axis: int) -> ScaleAndZero:
    """Scales of least divergence (qsim.ptq.kl) of every row, or of the whole under a scale a tensor; blocks, too small
    for a histogram, keep the rule's.
    """
    assert spec.granularity is not None and spec.scale is not None
    kind = spec.granularity.kind
    if kind not in ("tensor", "channel") or spec.scale.scale is not None or not matrix.size:
        return rule_scales(matrix, spec, axis)
    rows = matrix.reshape(1, -1) if kind == "tensor" else matrix
    alone = replace(spec, granularity=Granularity("tensor"))
    found = [kl_scale(row, (min(row.min(), 0.0), max(row.max(), 0.0)), alone) for row in rows]
    scale, shape = np.array([scale for scale, _ in found], matrix.dtype), (() if kind == "tensor" else (-1,))
    zero_point = np.array([zero for _, zero in found], np.int64) if spec.has_zero_point else None
    if kind == "channel":
        scale = np.maximum(scale, scale.max(initial=0) * DEAD_CHANNEL)
    return scale.reshape(shape), None if zero_point is None else zero_point.reshape(shape)


def least_squares_scales(matrix: Array, spec: Spec, axis: int) -> ScaleAndZero:
    """The scale of least squared error of every group: never more error than under the rule's scales.

    matrix: [outputs, K]; axis: qsim.views.matrix_axis(spec).
    """
    levels, zero_point = _rule_levels(matrix, spec, axis)
    scale, error = _best_inner(matrix, spec, axis, levels, zero_point)
    for outer in _outer_candidates(spec, levels):
        other, other_error = _best_inner(matrix, spec, axis, outer, zero_point)
        better = _by_outer_group(other_error, spec, axis) < _by_outer_group(error, spec, axis)
        assert spec.scale is not None and spec.scale.granularity is not None
        along = nested_axis(spec.scale.granularity, error.ndim, axis)
        chosen = spread(better.astype(np.float64), spec.scale.granularity, error.shape, along) > 0
        scale, error = np.where(chosen, other, scale), np.where(chosen, other_error, error)
    return np.asarray(scale, levels[0].dtype), zero_point


def group_errors(matrix: Array, spec: Spec, axis: int, scale: Array, zero_point: Array | None) -> Array:
    """Summed squared error of every group that shares a scale (float64, in the shape of `scale`)."""
    assert spec.granularity is not None
    error = matrix - quantize(matrix, spec, axis=axis, scale=scale, zero_point=zero_point).astype(np.float64)
    return reduce_groups(np.square(error), spec.granularity, axis, np.sum, 0.0)


def _rule_levels(matrix: Array, spec: Spec, axis: int) -> tuple[Levels, Array | None]:
    levels, zero_point = compute_levels(matrix, spec, axis)
    if spec.granularity is not None and spec.granularity.kind == "channel":
        levels = (np.maximum(levels[0], levels[0].max(initial=0) * DEAD_CHANNEL), *levels[1:])
    return levels, zero_point


def _best_inner(
    matrix: Array, spec: Spec, axis: int, levels: Levels, zero_point: Array | None
) -> tuple[Array, Array]:
    """For every group the innermost scale of least error under given outer levels: (effective scale, error)."""
    assert spec.scale is not None
    best = effective_scale(levels, spec, axis)
    least = group_errors(matrix, spec, axis, best, zero_point)
    for inner in _inner_candidates(levels[0], spec.scale):
        scale = effective_scale((inner, *levels[1:]), spec, axis)
        error = group_errors(matrix, spec, axis, scale, zero_point)
        best, least = np.where(error < least, scale, best), np.minimum(error, least)
    return best, least


def _inner_candidates(own: Array, scale: Scale) -> Iterator[Array]:
    """Scales near `own` that the format of `scale` holds, all above zero."""
    if scale.is_power_of_two:
        with np.errstate(over="ignore"):  # infinity is held as the format's largest
            powers = [np.ldexp(own, power) for power in EXPONENTS]
        yield from (_held(own, power, scale) for power in powers)
    elif scale.element.bits <= NARROW_BITS:
        stored = np.asarray(values(scale.element))
        stored = stored[stored > 0]
        at = np.searchsorted(stored, own)
        first, last = (np.searchsorted(stored, own * factor) - at for factor in NARROW_FACTORS)
        for step in range(int(first.min(initial=0)), int(last.max(initial=0)) + 1):
            yield stored[(at + step).clip(0, len(stored) - 1)].astype(own.dtype)
    else:
        yield from (_held(own, own * np.float32(factor), scale) for factor in REAL_FACTORS)


def _held(own: Array, wanted: Array, scale: Scale) -> Array:
    stored = quantize(wanted.astype(own.dtype), Spec(scale.element))
    return np.where(stored > 0, stored, own)


def _outer_candidates(spec: Spec, levels: Levels) -> Iterator[Levels]:
    """One octave of the scale above a power of two; its own scale absorbs whole powers."""
    assert spec.scale is not None
    if len(levels) > 1 and spec.scale.is_power_of_two:
        yield from (
            (levels[0], (levels[1] * factor).astype(levels[1].dtype), *levels[2:]) for factor in OCTAVE
        )


def _by_outer_group(error: Array, spec: Spec, axis: int) -> Array:
    assert spec.scale is not None and spec.scale.granularity is not None
    along = nested_axis(spec.scale.granularity, error.ndim, axis)
    return reduce_groups(error, spec.scale.granularity, along, np.sum, 0.0)
