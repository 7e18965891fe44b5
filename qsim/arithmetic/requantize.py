"""From an integer accumulator to the codes of the next tensor, by one of seven named rules.

A sum of products of codes, `acc`, stands for the real number acc * s_x * s_w; the next tensor holds codes q of real
value (q - zero_point) * s_y. So q = zero_point + acc * M with the real multiplier M = s_x * s_w / s_y, saturated to the
codes of the element. How hardware and runtimes form acc * M is what tells them apart:

    dyadic         M = mantissa / 2^shift; (acc * mantissa + 2^(shift-1)) >> shift: ties go up. What our circuits do.
    dyadic_even    the same M, ties to even: HAWQ-V3's own simulation (Yao et al., ICML 2021, section 3.1).
    tflite_double  gemmlowp's two roundings: saturating rounding doubling high multiply (ties up), then a rounding
                   shift (ties away from zero). LiteRT's reference convolutions.
    tflite_single  one rounding, ties up: ruy and TFLITE_SINGLE_ROUNDING. dyadic with a 31-bit mantissa.
    tflite_float   acc * M in float64, ties away from zero: LiteRT's reference fully connected layer.
    onnx           M and acc rounded to float32, one float32 product, ties to even: ONNX Runtime's QLinear operators.
    float          acc * M in float64, ties to even.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qsim.errors import UserError
from qsim.formats import Integer

Rule = Literal["dyadic", "dyadic_even", "tflite_double", "tflite_single", "tflite_float", "onnx", "float"]
RULES: tuple[str, ...] = get_args(Rule)
MANTISSA_BITS = 31
MAX_SHIFT = (
    62  # an int32 accumulator times a 31-bit mantissa is below 2^62, so beyond this shift nothing is left
)

Codes = NDArray[np.int64]
Reals = NDArray[np.float64]


def real_multiplier(input_scale: ArrayLike, output_scale: ArrayLike, weight_scale: ArrayLike = 1.0) -> Reals:
    """M = input_scale * weight_scale / output_scale in float64; the scales are float32 numbers, as stored."""
    product = np.asarray(input_scale, np.float64) * np.asarray(weight_scale, np.float64)
    return np.asarray(product / np.asarray(output_scale, np.float64))


def float32_multiplier(input_scale: ArrayLike, output_scale: ArrayLike, weight_scale: ArrayLike) -> Reals:
    """M as ONNX Runtime forms it: float32(float32(input_scale * weight_scale) / output_scale)."""
    product = np.asarray(input_scale, np.float32) * np.asarray(weight_scale, np.float32)
    return np.asarray(product / np.asarray(output_scale, np.float32), np.float64)


def fixed_point(multiplier: ArrayLike, bits: int = MANTISSA_BITS) -> tuple[Codes, Codes]:
    """(mantissa, shift) with multiplier ~ mantissa * 2^-shift and 2^(bits-1) <= mantissa < 2^bits.

    The mantissa is rounded to nearest, ties up (QuantizeMultiplier of TFLite, batch_frexp of HAWQ-V3). A multiplier
    of 0, or one so small that no 32-bit accumulator can reach 1/2, gives mantissa 0. Raises UserError for a multiplier
    that is negative, not finite or 2^31 and above, which no such circuit can apply.
    """
    real = np.asarray(multiplier, np.float64)
    if not 1 <= bits <= MANTISSA_BITS:
        raise UserError(f"a requantization multiplier has 1 to {MANTISSA_BITS} bits, not {bits}")
    if not np.all(np.isfinite(real) & (real >= 0) & (real < 2.0**31)):
        raise UserError(
            f"a requantization multiplier must be in [0, 2^31), found {real.min()} to {real.max()}"
        )
    fraction, exponent = np.frexp(real)
    mantissa = np.floor(fraction * 2.0**bits + 0.5).astype(np.int64)
    carried = mantissa == 1 << bits
    mantissa = np.where(carried, 1 << (bits - 1), mantissa)
    shift = bits - (exponent.astype(np.int64) + carried)
    vanished = (mantissa == 0) | (shift > bits + 31)
    return np.where(vanished, 0, mantissa), np.where(vanished, bits, shift)


def dyadic(acc: ArrayLike, mantissa: ArrayLike, shift: ArrayLike) -> Codes:
    """floor(acc * mantissa / 2^shift + 1/2) in integers: acc of 32 bits, (mantissa, shift) of `fixed_point`."""
    product, right = _product(acc, mantissa, shift)
    half = np.where(right > 0, np.int64(1) << np.maximum(right - 1, 0), 0)
    return np.asarray((product + half) >> right)


def dyadic_even(acc: ArrayLike, mantissa: ArrayLike, shift: ArrayLike) -> Codes:
    """acc * mantissa / 2^shift rounded to nearest, ties to even, in integers."""
    product, right = _product(acc, mantissa, shift)
    below_half = np.where(right > 0, (np.int64(1) << np.maximum(right - 1, 0)) - 1, 0)
    is_odd = np.where(right > 0, (product >> right) & 1, 0)
    return np.asarray((product + below_half + is_odd) >> right)


def tflite_double(acc: ArrayLike, mantissa: ArrayLike, shift: ArrayLike) -> Codes:
    """gemmlowp: high half of 2 * acc * mantissa (ties up), then a shift by what is left (ties away from zero).

    `shift` is that of `fixed_point` with 31 bits. Below 31 the accumulator is first shifted left, in 32 bits, as
    LiteRT's MultiplyByQuantizedMultiplier does.
    """
    exponent = MANTISSA_BITS - np.asarray(shift, np.int64)
    left = np.maximum(exponent, 0)
    shifted = wrap_int32(_int32(acc) << left)
    return rounding_shift_away(doubling_high_multiply(shifted, mantissa), left - exponent)


def tflite_single(acc: ArrayLike, mantissa: ArrayLike, shift: ArrayLike) -> Codes:
    """(acc * mantissa + 2^(shift-1)) >> shift: `dyadic` with a 31-bit mantissa."""
    return dyadic(acc, mantissa, shift)


def tflite_float(acc: ArrayLike, multiplier: ArrayLike) -> Codes:
    """acc * multiplier in float64, rounded to nearest, ties away from zero (C's round)."""
    product = np.asarray(acc, np.float64) * np.asarray(multiplier, np.float64)
    whole = np.trunc(
        product
    )  # exact, and so is the difference: adding 1/2 first could round up to an integer
    return _whole(whole + np.where(np.abs(product - whole) >= 0.5, np.sign(product), 0.0))


def onnx(acc: ArrayLike, multiplier: ArrayLike) -> Codes:
    """rint(float32(acc) * float32(multiplier)), the product rounded to float32 before the ties-to-even rint."""
    product = np.asarray(acc).astype(np.float32) * np.asarray(multiplier, np.float32)
    return _whole(np.rint(product))


def float64(acc: ArrayLike, multiplier: ArrayLike) -> Codes:
    """rint(acc * multiplier) in float64, ties to even."""
    return _whole(np.rint(np.asarray(acc, np.float64) * np.asarray(multiplier, np.float64)))


def rescale(acc: ArrayLike, multiplier: ArrayLike, rule: str) -> Codes:
    """acc * multiplier, rounded by the named rule, neither offset nor saturated."""
    match rule:
        case "dyadic":
            return dyadic(acc, *fixed_point(multiplier))
        case "dyadic_even":
            return dyadic_even(acc, *fixed_point(multiplier))
        case "tflite_double":
            return tflite_double(acc, *fixed_point(multiplier))
        case "tflite_single":
            return tflite_single(acc, *fixed_point(multiplier))
        case "tflite_float":
            return tflite_float(acc, multiplier)
        case "onnx":
            return onnx(acc, multiplier)
        case "float":
            return float64(acc, multiplier)
    raise UserError(f"unknown requantization rule '{rule}': one of {', '.join(RULES)}")


def requantize(
    acc: ArrayLike, multiplier: ArrayLike, rule: str, element: Integer, zero_point: ArrayLike = 0
) -> NDArray[Any]:
    """Codes of `element`: saturate(zero_point + rescale(acc, multiplier, rule)).

    acc: int32 accumulators of any shape; multiplier (see `real_multiplier`, for rule onnx `float32_multiplier`) and
    zero_point broadcast against it. Raises UserError for an unknown rule or accumulators beyond 32 bits.
    """
    return saturate(rescale(acc, multiplier, rule) + np.asarray(zero_point, np.int64), element)


def saturate(values: ArrayLike, element: Integer) -> NDArray[Any]:
    """Integers clamped to the codes of `element`, in its code type."""
    return np.asarray(np.clip(values, element.lowest_code, element.largest_code), element.code_dtype)


def doubling_high_multiply(a: ArrayLike, b: ArrayLike) -> Codes:
    """(2 * a * b + 2^31) >> 32 for int32 a and b, ties up, saturated (gemmlowp's SaturatingRoundingDoublingHighMul)."""
    product = np.asarray(a, np.int64) * np.asarray(b, np.int64)
    return np.asarray(np.minimum((product + (1 << 30)) >> 31, 2**31 - 1))


def rounding_shift_away(value: ArrayLike, shift: ArrayLike) -> Codes:
    """value / 2^shift rounded to nearest, ties away from zero (gemmlowp's RoundingDivideByPOT); shift >= 0."""
    value, shift = np.asarray(value, np.int64), np.asarray(shift, np.int64)
    half = np.where(shift > 0, np.int64(1) << np.maximum(shift - 1, 0), 0)
    return np.asarray((value + half - ((value < 0) & (shift > 0))) >> shift)


def wrap_int32(values: ArrayLike) -> Codes:
    """Integers modulo 2^32, as a 32-bit accumulator holds them."""
    return np.asarray(values, np.int64).astype(np.int32).astype(np.int64)


def _product(acc: ArrayLike, mantissa: ArrayLike, shift: ArrayLike) -> tuple[Codes, Codes]:
    """acc * mantissa and the right shift that remains; a shift beyond MAX_SHIFT leaves nothing of the product."""
    mantissa, shift = np.asarray(mantissa, np.int64), np.asarray(shift, np.int64)
    product = (_int32(acc) * np.where(shift > MAX_SHIFT, 0, mantissa)) << np.maximum(-shift, 0)
    return product, np.clip(shift, 0, MAX_SHIFT)


def _int32(acc: ArrayLike) -> Codes:
    wide = np.asarray(acc)
    if wide.dtype.kind not in "iub":
        raise UserError(f"accumulators are integers, these are {wide.dtype}")
    wide = wide.astype(np.int64)
    if wide.size and (wide.max() > 2**31 - 1 or wide.min() < -(2**31)):
        raise UserError(f"an accumulator needs more than 32 bits: {wide.min()} to {wide.max()}")
    return wide


def _whole(values: NDArray[Any]) -> Codes:
    # Far beyond every code and every accumulator, yet within int64.
    return np.clip(values.astype(np.float64), -(2.0**53), 2.0**53).astype(np.int64)
