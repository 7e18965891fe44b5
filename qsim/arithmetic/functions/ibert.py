"""Integer-only functions by second-order polynomials, as I-BERT has them (Kim et al., ICML 2021, arXiv 2101.01321).

Every function takes integer codes q with a scale S (x = q * S) and gives integers; the only real numbers are constants
known before the run. The polynomials need a fine scale (I-BERT feeds them int32 sums): coarser codes are first shifted
left until S <= 2^-11. Sums and products stay within int64 for codes of up to 16 bits and 2^-14 <= S <= 2^4.
Maximum errors over the whole domain, measured exhaustively (tests/functions) for int8 and int16 inputs:

    exp         1.95e-3: 64 ulp of its own Q0.15 result, 1/2 ulp of an 8-bit one
    gelu        1.85e-2 (that of the polynomial, section 3.4) plus 1/2 ulp of the output
    softmax     1.25 ulp of an 8-bit result
    sqrt        exact: the floor of the square root
    layer_norm  1.25 ulp of an 8-bit result at scale 2^-5
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qsim.arithmetic.integer.affine import Affine
from qsim.arithmetic.requantize import dyadic, fixed_point, requantize, saturate
from qsim.errors import UserError

Codes = NDArray[np.int64]
Array = NDArray[Any]

EXP_BITS = 15  # results of `exp` are Q0.15: 1.0 is 2^15
_EXP = (
    0.35815147,
    0.96963238,
    1.0,
)  # exp(r) ~ 0.3585 (r + 1.353)^2 + 0.344 on (-ln 2, 0], equation 13 expanded
_ERF = (-0.2888, -1.769)  # erf(x) ~ sgn(x) (a (min(|x|, -b) + b)^2 + 1), equation 8
_RECIPROCAL_BITS = 31
_FINEST_SCALE = 2.0**-11
_FINE_BITS = 26  # rows are shifted left to this many bits before their mean is taken; squares then have 52
_LONGEST_ROW = 4096
_NORMAL_BITS = 12


def exp(q: ArrayLike, scale: float) -> Codes:
    """exp of q * scale, q <= 0, in Q0.15 (algorithm 2): halved for every ln 2, the rest by the polynomial."""
    codes = np.asarray(q, np.int64)
    _check(codes, scale)
    if codes.size and codes.max() > 0:
        raise UserError("the integer exponential is for arguments of at most 0: subtract the largest first")
    codes, scale = _refined(codes, scale)
    a, b, c = _EXP
    ln2 = max(math.floor(math.log(2.0) / scale), 1)
    linear, constant = math.floor(b / a / scale), math.floor(c / a / scale**2)
    halvings = -codes // ln2
    rest = codes + halvings * ln2
    polynomial = (rest + linear) * rest + constant  # in units of a * scale^2
    mantissa, shift = fixed_point(a * scale**2 * 2.0**EXP_BITS)
    return dyadic(polynomial, mantissa, shift + np.minimum(halvings, 62))


def softmax(x: Array, *, input: Affine, output: Affine) -> Array:
    """softmax over the last axis, codes in, codes out; output of unsigned or offset codes at scale 2^-bits.

    The reciprocal of the sum has 31 bits; the result is truncated, as in I-BERT.
    """
    bits = output.element.bits
    lowest = output.element.lowest_code
    if float(output.scale) != 2.0**-bits or int(output.zero_point) != lowest:
        raise UserError(f"integer softmax gives {output.element} at scale 2^-{bits} with zero point {lowest}")
    codes = np.asarray(x).astype(np.int64)
    terms = exp(codes - codes.max(axis=-1, keepdims=True), float(input.scale))
    factor = (1 << _RECIPROCAL_BITS) // terms.sum(axis=-1, keepdims=True)
    return saturate(((terms * factor) >> (_RECIPROCAL_BITS - bits)) + lowest, output.element)


def gelu(x: Array, *, input: Affine, output: Affine) -> Array:
    """x * (1 + erf(x / sqrt 2)) / 2 (algorithm 1), requantized to the output by a dyadic multiplier."""
    _check(input.centred(x), float(input.scale))
    codes, scale = _refined(input.centred(x), float(input.scale))
    a, b = _ERF
    inner = scale / math.sqrt(2.0)
    knee, one = math.floor(b / inner), math.floor(1.0 / a / inner**2)
    magnitude = np.minimum(np.abs(codes), -knee)
    erf = np.sign(codes) * ((magnitude + knee) ** 2 + one)  # in units of a * inner^2, which is negative
    product = codes * (erf + math.floor(1.0 / (a * inner**2)))
    unit = scale * a * inner**2 / 2.0
    drop = max(int(np.abs(product).max(initial=0)).bit_length() - 31, 0)
    multiplier = -unit * 2.0**drop / float(output.scale)
    return requantize(-product >> drop, multiplier, "dyadic", output.element, output.zero_point)


def sqrt(n: ArrayLike) -> Codes:
    """floor(sqrt(n)) of non-negative int64 by Newton's iteration in integers (algorithm 4)."""
    numbers = np.asarray(n, np.int64)
    if numbers.size and numbers.min() < 0:
        raise UserError("the integer square root is for numbers of at least 0")
    bits = np.frexp(numbers.astype(np.float64))[1]
    root = np.int64(1) << ((bits + 2) // 2).astype(np.int64)  # above the root, so that the steps only go down
    root = np.where(numbers == 0, 1, root)
    while True:
        following = (root + numbers // root) >> 1
        if not np.any(following < root - (root == 1)):
            return np.where(numbers == 0, 0, root)
        root = np.maximum(np.minimum(root, following), 1)


def layer_norm(x: Array, weight: ArrayLike, bias: ArrayLike, *, input: Affine, output: Affine) -> Array:
    """(x - mean) / deviation * weight + bias over the last axis in integers (section 3.5), no epsilon.

    Codes are first widened to 26 bits; mean and deviation are floored there, the reciprocal of the deviation to
    2^-40, the normalised value to 2^-12. weight and bias are real constants of the row's length; they enter as one
    dyadic multiplier and one integer offset an element. A constant row gives the bias.
    """
    codes = np.asarray(x).astype(np.int64)
    _check(codes, float(input.scale))
    length = codes.shape[-1]
    if not 1 <= length <= _LONGEST_ROW:
        raise UserError(f"integer layer norm takes rows of 1 to {_LONGEST_ROW} elements, not {length}")
    fine = codes << max(_FINE_BITS - input.element.bits, 0)
    centred = fine - fine.sum(axis=-1, keepdims=True) // length
    deviation = sqrt((centred**2).sum(axis=-1, keepdims=True) // length)
    factor = np.where(deviation > 0, (1 << 40) // np.maximum(deviation, 1), 0)
    normal = (centred * factor) >> (40 - _NORMAL_BITS)
    gains = np.broadcast_to(np.asarray(weight, np.float64), (length,)) / float(output.scale)
    offset = np.rint(np.broadcast_to(np.asarray(bias, np.float64), (length,)) / float(output.scale)).astype(
        np.int64
    )
    mantissa, shift = fixed_point(np.abs(gains) * 2.0**-_NORMAL_BITS)
    scaled = dyadic(normal * np.sign(gains).astype(np.int64), mantissa, shift)
    return saturate(scaled + offset + output.zero_point, output.element)


def _refined(codes: Codes, scale: float) -> tuple[Codes, float]:
    """The same numbers as larger codes of a scale of at most 2^-11."""
    shift = max(math.ceil(math.log2(scale / _FINEST_SCALE)), 0)
    return codes << shift, scale / 2.0**shift


def _check(codes: Codes, scale: float) -> None:
    if not 2.0**-14 <= scale <= 2.0**4:
        raise UserError(f"an integer polynomial takes scales of 2^-14 to 2^4, not {scale}")
    if codes.size and max(-int(codes.min()), int(codes.max())) >= 1 << 17:
        raise UserError("an integer polynomial takes codes of up to 16 bits")
