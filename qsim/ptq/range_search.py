"""Static scales of one tensor by searching clipping ranges: least squared error, least divergence, a percentile.

A candidate is a fraction of the range that calibration saw, turned into a scale (and a zero point) by the spec's
own rule and held in the scale's own format. Scales that are powers of two get every exponent near the range's own,
one above it included: the best power of two is found, not a real scale rounded to one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.casting import quantize
from qsim.casting.scales import compute_scale
from qsim.spec import Spec

Array = NDArray[Any]
Ends = tuple[float, float]
ScaleAndZero = tuple[Array, Array | None]
# 1 first: ties keep the whole range. Above 1 for grids with wide steps at the top, where a larger scale can fit better
# (Liu et al., "LLM-FP4", EMNLP 2023, search up to 1.2 times the range).
REAL_FACTORS = np.concatenate([[1.0], np.arange(0.04, 1.201, 0.02)])
POWER_FACTORS = np.array([1.0, 2.0, 0.5, 0.25, 0.125, 0.0625])


def factors_of(spec: Spec) -> Array:
    """Fractions of a range that are worth trying as its clip under `spec`."""
    assert spec.scale is not None
    return POWER_FACTORS if spec.scale.is_power_of_two else REAL_FACTORS


def scale_of_range(ends: Ends, spec: Spec) -> ScaleAndZero:
    """(scale, zero point) by the spec's rule for values from ends[0] to ends[1]."""
    return compute_scale(np.array(ends, np.float32), spec, -1)


def search_range(ends: Ends, spec: Spec, cost: Callable[[ScaleAndZero], float]) -> ScaleAndZero:
    """The scale of least `cost` among those of the range's fractions.

    With a zero point the two ends are then shrunk on their own, so that a long tail on one side does not take the
    other side's resolution.
    """
    factors = factors_of(spec)
    (low, high), least = _least([(ends[0] * f, ends[1] * f) for f in factors], spec, cost)
    if spec.has_zero_point and ends[0] < 0 < ends[1]:
        alone = [(ends[0] * f, high) for f in factors] + [(low, ends[1] * f) for f in factors]
        moved, cost_moved = _least(alone, spec, cost)
        if cost_moved < least:
            low, high = moved
    return scale_of_range((low, high), spec)


def _least(
    candidates: Sequence[Ends], spec: Spec, cost: Callable[[ScaleAndZero], float]
) -> tuple[Ends, float]:
    costs = [cost(scale_of_range(ends, spec)) for ends in candidates]
    best = int(np.argmin(costs))
    return candidates[best], costs[best]


def least_squares_scale(sample: Array, ends: Ends, spec: Spec) -> ScaleAndZero:
    """The scale under which `sample` has the least mean squared error; never above that of the whole range."""
    if not sample.size:
        return scale_of_range(ends, spec)
    return search_range(ends, spec, lambda found: squared_error(sample, spec, found))


def squared_error(sample: Array, spec: Spec, found: ScaleAndZero) -> float:
    """Mean squared error of `sample` cast under a scale (float64)."""
    scale, zero_point = found
    error = sample - quantize(sample, spec, scale=scale, zero_point=zero_point).astype(np.float64)
    return float(np.square(error).mean())


def percentile_range(sample: Array, percentile: float, seen: Ends) -> Ends:
    """The range that holds all but the outermost (100 - percentile) % of `sample` on either side."""
    if not sample.size:
        return seen
    low, high = np.percentile(sample, [100 - percentile, percentile])
    return float(low), float(high)
