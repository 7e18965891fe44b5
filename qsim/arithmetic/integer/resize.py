"""Bilinear interpolation of integer codes in 10-bit fixed point, as LiteRT's reference kernel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.arithmetic.integer.affine import Codes

Array = NDArray[Any]
FRACTION_BITS = 10
ONE = 1 << FRACTION_BITS


def bilinear(x: Array, sizes: Sequence[int], transformation: str) -> Array:
    """x [N, C, H, W] resized to sizes (height, width); ties of the weighted mean go away from zero.

    transformation: ONNX's asymmetric, half_pixel or align_corners. Input and output share scale and zero point.
    """
    values = x.astype(np.int64)
    for axis, size in zip((2, 3), sizes, strict=True):
        lower, upper, weight = _positions(x.shape[axis], int(size), transformation)
        weight = weight.reshape([-1 if a == axis else 1 for a in range(4)])
        values = values.take(lower, axis) * (ONE - weight) + values.take(upper, axis) * weight
    half = 1 << (2 * FRACTION_BITS - 1)
    return np.asarray(np.sign(values) * ((np.abs(values) + half) >> 2 * FRACTION_BITS), x.dtype)


def _positions(length: int, size: int, transformation: str) -> tuple[Codes, Codes, Codes]:
    """For every output index the two inputs it lies between and the weight of the second, of ONE."""
    step = (ONE * length + size // 2) // size
    if transformation == "align_corners" and size > 1:
        step = (ONE * (length - 1) + (size - 1) // 2) // (size - 1)
    position = np.arange(size, dtype=np.int64) * step
    if transformation == "half_pixel":
        position += step // 2 - ONE // 2
    lower = np.maximum(position >> FRACTION_BITS, 0)
    upper = np.clip((position + ONE - 1) >> FRACTION_BITS, 0, length - 1)
    return np.minimum(lower, length - 1), upper, position - ONE * lower
