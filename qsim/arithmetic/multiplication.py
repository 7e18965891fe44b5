"""Other ways to multiply: L-Mul, bit planes, shift-and-add; and single operations rounded once."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from qsim.arithmetic.mac import Mac
from qsim.arithmetic.matrix_product import matmul
from qsim.errors import UserError
from qsim.formats import Element, Integer

Array = NDArray[Any]


def l_mul(x: Any, y: Any, mantissa: int, form: Literal["l_mul_real", "l_mul_int_add"]) -> NDArray[np.float64]:
    """L-Mul of x and y, arrays that broadcast, of numbers with `mantissa` fraction bits; nothing is rounded.

    form "l_mul_real": +-(1 + fx + fy + 2^-l(m)) 2^(ex + ey), which may exceed 2^(ex + ey + 1). "l_mul_int_add": the
    fields exponent|fraction added as integers, so a carry out of the fractions goes into the exponent.
    l(m) = m for m <= 3, 3 for m = 4, 4 above. Zero times anything finite is zero; infinity and NaN as in a product.
    Source: Luo and Sun, "Addition is All You Need for Energy-efficient Language Models", arXiv 2410.00907, eq. 1 to 3.
    Raises UserError for operands with more than `mantissa` fraction bits.
    """
    x, y = np.broadcast_arrays(np.asarray(x, np.float64), np.asarray(y, np.float64))
    shape = x.shape
    mac = Mac(multiply=form)
    return np.asarray(matmul(x.reshape(-1, 1, 1), y.reshape(-1, 1, 1), mac, mantissa=mantissa)).reshape(shape)


def bit_planes(codes: Array, element: Element) -> tuple[Array, NDArray[np.int64]]:
    """The binary digits of integer codes: planes [bits, *codes.shape] of 0 and 1, and the weight of each plane.

    codes == sum(weights[i] * planes[i]); the sign bit of a signed format has a negative weight (two's complement).
    Raises UserError for codes outside the format and for formats that are not int or uint.
    """
    if not isinstance(element, Integer):
        raise UserError(f"bit planes are those of int<N> and uint<N> codes, not of {element}")
    codes = np.asarray(codes)
    if codes.size and (codes.min() < element.lowest_code or codes.max() > element.largest_code):
        raise UserError(f"bit planes: {codes.min()} to {codes.max()} do not fit in {element}")
    shifts = np.arange(element.bits).reshape(-1, *[1] * codes.ndim)
    weights = np.int64(1) << np.arange(element.bits, dtype=np.int64)
    weights[-1] *= -1 if element.signed else 1
    return (codes.astype(np.int64)[None] >> shifts & 1).astype(np.int8), weights


def bit_plane_matmul(a: Array, b: Array, a_element: Element, b_element: Element) -> NDArray[np.int64]:
    """a [M, K] @ b [K, N] of integer codes, by binary matrix products of every pair of planes (ABQ-LLM).

    Source: Zeng et al., "ABQ-LLM: Arbitrary-Bit Quantized Inference Acceleration", arXiv 2408.08554, section 3.4: a
    product of binary matrices is AND and popcount; the partial results are shifted and added.
    """
    a_planes, a_weights = bit_planes(a, a_element)
    b_planes, b_weights = bit_planes(b, b_element)
    total = np.zeros((*np.asarray(a).shape[:-1], np.asarray(b).shape[-1]), np.int64)
    for a_plane, a_weight in zip(a_planes, a_weights, strict=True):
        for b_plane, b_weight in zip(b_planes, b_weights, strict=True):
            total += a_weight * b_weight * _popcount_matmul(a_plane, b_plane)
    return total


def _popcount_matmul(a: Array, b: Array) -> NDArray[np.int64]:
    """Binary a [M, K] @ binary b [K, N] as popcount(row AND column) over packed words."""
    rows, columns = np.packbits(a.astype(np.uint8), axis=-1), np.packbits(b.astype(np.uint8), axis=-2)
    both = rows[..., :, None, :] & np.swapaxes(columns, -1, -2)[..., None, :, :]
    return np.asarray(np.bitwise_count(both).sum(axis=-1, dtype=np.int64))


def shift_add_matmul(x: Array, shifts: Array, signs: Array) -> NDArray[np.int64]:
    """x [M, K] integers times weights signs * 2^shifts [K, N] (sign 0: weight 0): shifts and additions only.

    The weights are those of pot<K> with the shift counted from the smallest one: 2^-s = 2^(S - s) * 2^-S.
    Raises UserError for negative shifts, which would drop bits, and for shifts beyond 62 bits.
    """
    x, shifts, signs = np.asarray(x), np.asarray(shifts), np.asarray(signs)
    if shifts.size and (shifts.min() < 0 or shifts.max() > 62):
        raise UserError(
            f"shift_add_matmul: shifts of 0 to 62 are exact, not {shifts.min()} to {shifts.max()}"
        )
    total = np.zeros((x.shape[0], shifts.shape[1]), np.int64)
    for k in range(x.shape[1]):
        total += (x[:, k, None].astype(np.int64) << shifts[k]) * signs[k]
    return total


def add(a: Any, b: Any, spec: str) -> Any:
    """a + b elementwise, rounded once to `spec` (any element with a cast, such as "float16/ieee")."""
    return multiply_add(b, np.ones_like(np.asarray(b)), a, spec)


def multiply(a: Any, b: Any, spec: str) -> Any:
    """a * b elementwise, rounded once to `spec`; the sign of a zero is the product of the signs."""
    a, b = np.broadcast_arrays(np.asarray(a, np.float64), np.asarray(b, np.float64))
    mac = Mac(product=spec, order="pairwise")
    return np.asarray(matmul(a.reshape(-1, 1, 1), b.reshape(-1, 1, 1), mac)).reshape(a.shape)


def multiply_add(a: Any, b: Any, c: Any, spec: str) -> Any:
    """a * b + c elementwise, rounded once to `spec` (fused multiply-add)."""
    a, b, c = np.broadcast_arrays(*(np.asarray(x, np.float64) for x in (a, b, c)))
    left, right, start = (x.reshape(-1, 1, 1) for x in (a, b, c))
    return np.asarray(matmul(left, right, Mac(accumulator=spec), bias=start)).reshape(a.shape)
