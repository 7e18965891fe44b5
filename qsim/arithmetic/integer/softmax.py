"""Softmax on integer codes as LiteRT's reference kernel computes it: gemmlowp fixed point, no floating point.

Qm.n is an int32 with m integer and n = 31 - m fraction bits. A product of Qa and Qb is Q(a + b), by
`doubling_high_multiply`. Source of the constants: gemmlowp, fixedpoint/fixedpoint.h.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.arithmetic.integer.affine import Affine, Codes
from qsim.arithmetic.requantize import doubling_high_multiply as multiply
from qsim.arithmetic.requantize import fixed_point, rounding_shift_away, saturate
from qsim.errors import UserError

Array = NDArray[Any]
INPUT_INTEGER_BITS = 5  # Q5.26: exp(-32) and below count as 0
SUM_INTEGER_BITS = 12  # Q12.19: up to 4096 terms of at most 1
ONE = 2**31 - 1

# exp(-2^k) in Q0.31 for k = -2 .. 4, each multiplied in when that bit of the argument is set.
_EXP_OF_POWERS = {-2: 1672461947, -1: 1302514674, 0: 790015084, 1: 290630308, 2: 39332535, 3: 720401, 4: 242}
_EXP_OF_MINUS_EIGHTH = 1895147668  # Q0.31
_THIRD = 715827883  # Q0.31
_48_OVER_17, _32_OVER_17 = 1515870810, 1010580540  # Q2.29, the first guess of Newton's division


def softmax(x: Array, *, input: Affine, output: Affine, beta: float = 1.0) -> Array:
    """exp(beta * x) / sum over the last axis, int8 or uint8 codes in and out.

    The output scale is 1/256 with the lowest code as zero point, as TFLite requires; UserError otherwise.
    """
    _check(input, output)
    real = min(beta * float(input.scale) * 2.0 ** (31 - INPUT_INTEGER_BITS), 2.0**31 - 1)
    mantissa, shift = fixed_point(real)
    left = 31 - int(shift)
    if left < 0:
        raise UserError(f"softmax: an input scale of {float(input.scale)} is too small for Q5.26")
    lowest = -int(np.floor((2**INPUT_INTEGER_BITS - 1) * 2.0 ** (31 - INPUT_INTEGER_BITS) / 2.0**left))
    wide = np.asarray(x).astype(np.int64)
    difference = wide - wide.max(axis=-1, keepdims=True)
    counts = difference >= lowest
    exponentials = exp_of_negative(multiply(np.where(counts, difference, 0) << left, mantissa))
    terms = np.where(counts, rounding_shift_away(exponentials, SUM_INTEGER_BITS), 0)
    scale, exponent = _reciprocal(terms.sum(axis=-1, keepdims=True))
    result = rounding_shift_away(multiply(scale, exponentials), exponent + 31 - output.element.bits)
    return saturate(np.where(counts, result, 0) + output.element.lowest_code, output.element)


def exp_of_negative(a: Codes) -> Codes:
    """exp(a) in Q0.31 for a <= 0 in Q5.26: the last quarter by a polynomial, the rest bit by bit."""
    quarter = 1 << 24
    fraction = (a & (quarter - 1)) - quarter  # in [-1/4, 0)
    result = _exp_of_last_quarter(fraction << INPUT_INTEGER_BITS)
    remainder = fraction - a
    for power, factor in _EXP_OF_POWERS.items():
        is_set = (remainder & (1 << (26 + power))) != 0
        result = np.where(is_set, multiply(result, factor), result)
    return np.where(a == 0, ONE, result)


def _exp_of_last_quarter(a: Codes) -> Codes:
    """exp(a) for a in [-1/4, 0), Q0.31: exp(-1/8) times the Taylor polynomial of degree 4 around -1/8."""
    x = a + (1 << 28)
    x2 = multiply(x, x)
    x3 = multiply(x2, x)
    x4_over_4 = rounding_shift_away(multiply(x2, x2), 2)
    tail = rounding_shift_away(multiply(x4_over_4 + x3, _THIRD) + x2, 1)
    return np.asarray(_EXP_OF_MINUS_EIGHTH + multiply(_EXP_OF_MINUS_EIGHTH, x + tail))


def _reciprocal(total: Codes) -> tuple[Codes, Codes]:
    """(r, e) with 1 / total = r * 2^-e, total in Q12.19, r in Q0.31."""
    leading_zeros = 32 - np.frexp(total.astype(np.float64))[1].astype(np.int64)
    minus_one = (total << leading_zeros) - (1 << 31)
    return _one_over_one_plus(minus_one), SUM_INTEGER_BITS - leading_zeros


def _one_over_one_plus(a: Codes) -> Codes:
    """1 / (1 + a) for a in [0, 1), Q0.31, by three Newton steps on half the denominator (Q2.29)."""
    half_denominator = (a + ONE + 1) >> 1
    x = _48_OVER_17 + multiply(half_denominator, -_32_OVER_17)
    for _ in range(3):
        error = (1 << 29) - multiply(half_denominator, x)
        x = x + (multiply(x, error) << 2)
    return np.asarray(np.minimum(x << 1, ONE))


def _check(input: Affine, output: Affine) -> None:
    element = output.element
    fits = (
        element.bits == 8 and input.element.bits == 8 and not (input.is_per_channel or output.is_per_channel)
    )
    exact = float(output.scale) == 2.0**-8 and int(output.zero_point) == element.lowest_code
    if not (fits and exact):
        raise UserError(
            f"softmax by a tflite rule takes 8-bit codes and gives them at scale 1/256 with zero point "
            f"{element.lowest_code}; this output is {element} with scale {output.scale}, zero point {output.zero_point}"
        )
