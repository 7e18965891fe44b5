"""The scale rules: from the magnitudes in a group to the scale it gets, in the scale's own format.

With A the largest finite magnitude of the group, L the largest value of the element and emax = floor(log2 L):

    floor      2^(floor(log2 A) - emax)               OCP Microscaling 1.0
    ceil       2^(ceil(log2 A) - emax)
    even       floor, with A first rounded to the element's precision       (torchao EVEN)
    rceil      2^ceil(log2(A / L))                    NVIDIA's MX rule (torchao RCEIL)
    amax       A / L
    amax_half  A / (2^(N-1) - 1/2)                    int<N>, uint<N>: the ends of the range round onto it
    minmax     (max - min) / (2^N - 1) with the zero point at round(lowest code - min / scale), 0 in the range

Exponents are taken from the floating-point representation, never from a logarithm. The result is cast to the
scale's element: nearest even, saturating. An all-zero group: the power-of-two rules take A = 2^-126
(microxcaling); otherwise the scale is 1, or, in formats of 8 bits and fewer, the smallest value above zero,
which also stands for any scale that rounds to zero. Infinities and NaN do not count. The scale of a scale
follows the same rules, with A the largest magnitude under it and L the product of both levels, so that
NVFP4's global scale is amax / (6 * 448).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.casting.elements import cast_to_element
from qsim.casting.groups import nested_axis, reduce_groups, spread
from qsim.errors import UserError
from qsim.formats import Element, Integer, TwosComplement
from qsim.spec import POWER_OF_TWO_RULES, Cast, Scale, Spec

Array = NDArray[np.floating[Any]]

ZERO_AMAX_EXPONENT = -126


def compute_scale(x: Array, spec: Spec, axis: int = -1) -> tuple[Array, NDArray[np.int64] | None]:
    """(scale, zero point or None) of `x` by the scale rule of `spec`; shapes: Granularity.scale_shape.

    The scale is the effective one, the product of all its levels, in the dtype of `x`.
    """
    levels, zero_point = compute_levels(x, spec, axis)
    return effective_scale(levels, spec, axis), zero_point


def compute_levels(
    x: Array, spec: Spec, axis: int = -1
) -> tuple[tuple[Array, ...], NDArray[np.int64] | None]:
    """The scale of each level, the innermost first, each in its own group shape, and the zero point."""
    if spec.granularity is None or spec.scale is None:
        raise UserError(f"spec {spec} has no scale to compute")
    finite = np.where(np.isfinite(x), x, 0).astype(np.float64)
    if spec.scale.rule == "minmax":
        return _minmax(finite, spec, axis, x.dtype)
    peaks = reduce_groups(np.abs(finite), spec.granularity, axis, np.max, 0.0)
    divisor = divisor_of(spec.element, spec.scale.rule)
    return tuple(_levels(peaks, divisor, spec.element, spec.scale, axis, x.dtype)), None


def effective_scale(levels: tuple[Array, ...], spec: Spec, axis: int = -1) -> Array:
    """The product of the levels in the shape of the first, rounded to its dtype after every level."""
    assert spec.scale is not None
    return _product(list(levels), spec.scale, axis)


def _product(levels: list[Array], scale: Scale, axis: int) -> Array:
    if len(levels) == 1 or scale.granularity is None or scale.scale is None:
        return levels[0]
    outer, shape = _product(levels[1:], scale.scale, axis), levels[0].shape
    outer_axis = nested_axis(scale.granularity, len(shape), axis)
    return np.asarray(levels[0] * spread(outer, scale.granularity, shape, outer_axis))


def inverse_scale(levels: tuple[Array, ...], spec: Spec, axis: int = -1) -> Array:
    """1 / scale for a multiplier: the outermost level inverted, then divided by one level after the other.

    Each step is rounded to their dtype (torchao's NVFP4: (1 / global) / block).
    """
    assert spec.scale is not None
    return _inverse(list(levels), spec.scale, axis)


def _inverse(levels: list[Array], scale: Scale, axis: int) -> Array:
    if len(levels) == 1 or scale.granularity is None or scale.scale is None:
        return np.asarray(1 / levels[0], levels[0].dtype)
    outer, shape = _inverse(levels[1:], scale.scale, axis), levels[0].shape
    outer_axis = nested_axis(scale.granularity, len(shape), axis)
    return np.asarray(spread(outer, scale.granularity, shape, outer_axis) / levels[0])


def divisor_of(element: Element, rule: str) -> float:
    """What the largest magnitude of a group is divided by: amax and amax_half."""
    if rule == "amax_half":
        assert isinstance(element, Integer)
        return element.largest_code + 0.5
    return element.largest


def _levels(
    peaks: Array, divisor: float, element: Element, scale: Scale, axis: int, dtype: np.dtype[Any]
) -> list[Array]:
    if scale.rule in POWER_OF_TWO_RULES:
        power = power_of_two_scale(peaks, element, scale.rule)
        return [_to_scale_format(power, scale.element).astype(dtype)]
    ideal = peaks / divisor
    if scale.scale is None or scale.granularity is None:
        return [_to_scale_format(ideal, scale.element).astype(dtype)]
    outer_axis = nested_axis(scale.granularity, peaks.ndim, axis)
    outer_peaks = reduce_groups(peaks, scale.granularity, outer_axis, np.max, 0.0)
    outer_divisor = divisor * divisor_of(scale.element, scale.scale.rule)
    outer = _levels(outer_peaks, outer_divisor, scale.element, scale.scale, axis, dtype)
    outer_product = _product(outer, scale.scale, axis)
    own = ideal.astype(dtype) / spread(outer_product, scale.granularity, peaks.shape, outer_axis)
    return [_to_scale_format(own.astype(np.float64), scale.element).astype(dtype), *outer]


def _to_scale_format(ideal: Array, element: Element) -> NDArray[np.float64]:
    is_wide = element.bits >= 16
    zero = 1.0 if is_wide else element.smallest
    positive = np.where(ideal > 0, ideal, zero)
    stored = cast_to_element(positive, element, Cast())
    return np.where(stored > 0, stored, element.smallest)


def power_of_two_scale(peaks: Array, element: Element, rule: str) -> NDArray[np.float64]:
    """2^k by one of the rules floor, ceil, even and rceil, for the largest magnitude of each group."""
    mantissa, exponent = np.frexp(
        np.where(peaks > 0, peaks, 2.0**ZERO_AMAX_EXPONENT)
    )  # peak = mantissa * 2^exponent
    largest_mantissa, largest_exponent = np.frexp(element.largest)
    power = exponent - largest_exponent
    match rule:
        case "ceil":
            power = power + (mantissa > 0.5)
        case "even":
            power = power + (mantissa >= 1 - 2.0 ** -(element.precision + 1))
        case "rceil":
            power = power + (mantissa > largest_mantissa)
    return np.ldexp(1.0, np.clip(power, -1074, 1023))


def _minmax(
    finite: NDArray[np.float64], spec: Spec, axis: int, dtype: np.dtype[Any]
) -> tuple[tuple[Array, ...], NDArray[np.int64]]:
    assert (
        spec.granularity is not None and spec.scale is not None and isinstance(spec.element, TwosComplement)
    )
    low = reduce_groups(finite, spec.granularity, axis, np.min, 0.0)
    high = reduce_groups(finite, spec.granularity, axis, np.max, 0.0)
    first, last = spec.element.lowest_code, spec.element.largest_code
    levels = tuple(_levels(high - low, float(last - first), spec.element, spec.scale, axis, dtype))
    scale = effective_scale(levels, spec, axis).astype(np.float64)
    zero_point = np.clip(np.rint(first - low / scale), first, last)
    return levels, zero_point.astype(np.int64)
