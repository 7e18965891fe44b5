"""Sums and products of two integer tensors, and a change of scale of one, each by a named rule."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.arithmetic.integer.affine import Affine, Codes, check_one_scale
from qsim.arithmetic.requantize import real_multiplier, requantize, rescale, saturate

Array = NDArray[Any]
LEFT_SHIFT = 20  # headroom bits of TFLite's ADD and SUB


def rescaled(x: Array, *, input: Affine, output: Affine, rule: str) -> Array:
    """The same numbers as codes of another scale and zero point (TFLite's QUANTIZE from integer to integer)."""
    if input.is_same_as(output):
        return np.asarray(x)
    ndim = np.ndim(x)
    multiplier = real_multiplier(input.along(input.scale, ndim), output.along(output.scale, ndim))
    return requantize(
        input.centred(x), multiplier, rule, output.element, output.along(output.zero_point, ndim)
    )


def add(a: Array, b: Array, *, left: Affine, right: Affine, output: Affine, rule: str) -> Array:
    """a + b as codes of `output`.

    tflite rules: both inputs shifted left by 20 bits and brought to twice the larger scale, summed, brought to the
    output scale. onnx: ONNX Runtime's fused multiply-adds. Others: each input rescaled to the output (rounded by the
    rule), then summed, as HAWQ-V3 does; "float" sums before it rounds.
    """
    return _sum(a, b, 1, left, right, output, rule)


def subtract(a: Array, b: Array, *, left: Affine, right: Affine, output: Affine, rule: str) -> Array:
    """a - b as codes of `output`; see `add`."""
    return _sum(a, b, -1, left, right, output, rule)


def multiply(a: Array, b: Array, *, left: Affine, right: Affine, output: Affine, rule: str) -> Array:
    """a * b as codes of `output`: the product of centred codes requantized by left.scale * right.scale / output.scale.

    The tflite rules form that multiplier in float32. onnx: every step in float32 and the zero point added before the
    rounding, as ONNX Runtime's QLinearMul does.
    """
    if rule == "onnx":
        check_one_scale("a product by rule 'onnx'", left, right, output)
        return _onnx_multiply(a, b, left, right, output)
    products = left.centred(a) * right.centred(b)
    scales = [side.along(side.scale, products.ndim) for side in (left, right, output)]
    if rule.startswith("tflite"):
        multiplier: Array = np.asarray(scales[0] * scales[1] / scales[2], np.float64)
    else:
        multiplier = real_multiplier(scales[0], scales[2], scales[1])
    return requantize(
        products, multiplier, rule, output.element, output.along(output.zero_point, products.ndim)
    )


def fused_multiply_add(a: Array, b: Array, c: Array) -> NDArray[np.float32]:
    """float32 a * b + c with one rounding.

    The product of two float32 is exact in float64. The sum is rounded to odd there, which keeps what the second
    rounding, to float32, needs (Boldo and Melquiond, "Emulation of a FMA and correctly rounded sums", 2008).
    """
    product = np.asarray(a, np.float32).astype(np.float64) * np.asarray(b, np.float32).astype(np.float64)
    addend = np.asarray(c, np.float32).astype(np.float64)
    total = product + addend
    virtual = total - product
    error = (product - (total - virtual)) + (addend - virtual)
    is_even = (total.view(np.int64) & 1) == 0
    toward_error = np.nextafter(total, np.where(error > 0, np.inf, -np.inf))
    return np.where((error != 0) & is_even, toward_error, total).astype(np.float32)


def _sum(a: Array, b: Array, sign: int, left: Affine, right: Affine, output: Affine, rule: str) -> Array:
    ndim = max(np.ndim(a), np.ndim(b))
    zero_point = output.along(output.zero_point, ndim)
    if rule == "onnx" or rule.startswith("tflite"):
        check_one_scale(f"a sum by rule '{rule}'", left, right, output)
    if rule.startswith("tflite"):
        return saturate(_tflite_sum(a, b, sign, left, right, output, rule) + zero_point, output.element)
    if rule == "onnx":
        return _onnx_sum(a, b, sign, left, right, output)
    scale = output.along(output.scale, ndim)
    terms = [
        (side.centred(codes), real_multiplier(side.along(side.scale, np.ndim(codes)), scale))
        for codes, side in ((a, left), (b, right))
    ]
    if rule == "float":
        total = np.rint(terms[0][0] * terms[0][1] + sign * (terms[1][0] * terms[1][1])).astype(np.int64)
    else:
        total = rescale(*terms[0], rule) + sign * rescale(*terms[1], rule)
    return saturate(total + zero_point, output.element)


def _tflite_sum(
    a: Array, b: Array, sign: int, left: Affine, right: Affine, output: Affine, rule: str
) -> Codes:
    twice_larger = 2.0 * max(float(left.scale), float(right.scale))
    terms = [
        rescale(side.centred(codes) << LEFT_SHIFT, float(side.scale) / twice_larger, rule)
        for codes, side in ((a, left), (b, right))
    ]
    return rescale(terms[0] + sign * terms[1], twice_larger / (2.0**LEFT_SHIFT * float(output.scale)), rule)


def _onnx_sum(a: Array, b: Array, sign: int, left: Affine, right: Affine, output: Affine) -> Array:
    """rint(fma(a, s_a/s_y, fma(b, s_b/s_y, z_y - (s_a/s_y z_a + s_b/s_y z_b)))), every step in float32."""
    ratios = [side.scale / output.scale for side in (left, right)]
    ratios[1] = ratios[1] * np.float32(sign)
    zeros = [side.zero_point.astype(np.float32) for side in (left, right, output)]
    offset = zeros[2] - (ratios[0] * zeros[0] + ratios[1] * zeros[1])
    codes = [np.asarray(values).astype(np.float32) for values in (a, b)]
    total = fused_multiply_add(codes[0], ratios[0], fused_multiply_add(codes[1], ratios[1], offset))
    return saturate(np.rint(total).astype(np.int64), output.element)


def _onnx_multiply(a: Array, b: Array, left: Affine, right: Affine, output: Affine) -> Array:
    """rint(p * (s_a s_b / s_y) + z_y) of the integer products p, every step in float32: ties follow the zero point."""
    products = (left.centred(a) * right.centred(b)).astype(np.float32)
    total = products * (left.scale * right.scale / output.scale) + output.zero_point.astype(np.float32)
    return saturate(np.rint(total).astype(np.int64), output.element)
