"""Averages and maxima of integer codes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.arithmetic.integer.accumulate import Pads, output_shape, pad, taps
from qsim.arithmetic.integer.affine import Affine, Codes, check_one_scale
from qsim.arithmetic.requantize import (
    MANTISSA_BITS,
    dyadic,
    fixed_point,
    float32_multiplier,
    real_multiplier,
    requantize,
    saturate,
    tflite_double,
)

Array = NDArray[Any]


def max_pool(x: Array, *, kernel: Sequence[int], strides: Sequence[int], pads: Pads) -> Array:
    """The largest code of every window of x [N, C, ...]; padding is never the largest."""
    sizes = output_shape(x.shape[2:], kernel, strides, [1] * len(kernel), pads)
    padded = pad(x, pads, np.iinfo(x.dtype).min)
    views = list(taps(padded, kernel, strides, [1] * len(kernel), sizes))
    return np.asarray(np.maximum.reduce(views))


def average_pool(
    x: Array,
    *,
    kernel: Sequence[int],
    strides: Sequence[int],
    pads: Pads,
    input: Affine,
    output: Affine,
    rule: str,
) -> Array:
    """The mean of every window of x [N, C, ...], over the elements that are not padding.

    tflite rules: the mean of the codes themselves, half away from zero; input and output share scale and zero point.
    Others: the sum of centred codes requantized by input.scale / (count * output.scale).
    """
    ones = [1] * len(kernel)
    sizes = output_shape(x.shape[2:], kernel, strides, ones, pads)
    is_tflite = rule.startswith("tflite")
    values = x.astype(np.int64) if is_tflite else input.centred(x)
    total = sum(taps(pad(values, pads), kernel, strides, ones, sizes))
    seen = pad(np.ones((1, 1, *x.shape[2:]), np.int64), pads)
    count = sum(taps(seen, kernel, strides, ones, sizes))
    if is_tflite:
        half_away = np.sign(total) * ((np.abs(total) + count // 2) // count)
        return saturate(half_away, output.element)
    return _requantized_mean(np.asarray(total), np.asarray(count), input, output, rule)


def mean(
    x: Array, *, axes: Sequence[int], keep_axes: bool, input: Affine, output: Affine, rule: str
) -> Array:
    """The mean over `axes`, requantized.

    tflite rules: MEAN of LiteRT, which divides the 31-bit mantissa of the multiplier by the count in integers.
    """
    total = input.centred(x).sum(axis=tuple(axes), keepdims=keep_axes)
    count = int(np.prod([x.shape[axis] for axis in axes], dtype=np.int64))
    if not rule.startswith("tflite"):
        return _requantized_mean(total, np.array(count), input, output, rule)
    check_one_scale(f"a mean by rule '{rule}'", input, output)
    mantissa, shift = fixed_point(real_multiplier(input.scale, output.scale))
    up = min(count.bit_length() - 1, 32, 2 * MANTISSA_BITS - int(shift))
    mantissa, shift = (mantissa << up) // count, shift + up
    scaled = (tflite_double if rule == "tflite_double" else dyadic)(total, mantissa, shift)
    return saturate(scaled + output.zero_point, output.element)


def total(
    x: Array, *, axes: Sequence[int], keep_axes: bool, input: Affine, output: Affine, rule: str
) -> Array:
    """The sum over `axes`, requantized by input.scale / output.scale."""
    check_one_scale("a sum", input, output)
    sums = input.centred(x).sum(axis=tuple(axes), keepdims=keep_axes)
    return requantize(
        sums, real_multiplier(input.scale, output.scale), rule, output.element, output.zero_point
    )


def _requantized_mean(total: Codes, count: Codes, input: Affine, output: Affine, rule: str) -> Array:
    """total / count as codes. Sums that may pass 32 bits (of wide codes) are first shifted right, ties up."""
    excess = max(input.element.bits + int(count.max()).bit_length() - 32, 0)
    total = (total + ((1 << excess) >> 1)) >> excess
    scales = [side.along(side.scale, total.ndim) for side in (input, output)]
    derive = float32_multiplier if rule == "onnx" else real_multiplier
    multiplier = derive(scales[0], scales[1], 1.0) * 2.0**excess / count
    return requantize(total, multiplier, rule, output.element, output.along(output.zero_point, total.ndim))
