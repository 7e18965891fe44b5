"""Exact sums of products of integers, as a 32-bit accumulator holds them.

The products are summed by floating-point matrix multiplication where that is proven exact: with every partial sum below
2^24 float32 holds each of them in any order, below 2^53 float64 does. Larger sums are formed in int64.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.arithmetic.requantize import wrap_int32
from qsim.errors import UserError

Codes = NDArray[np.int64]
Pads = Sequence[int]  # ONNX order: every axis' begin, then every axis' end


def matmul(a: Codes, b: Codes) -> Codes:
    """a @ b ([..., M, K] by [..., K, N], NumPy's broadcasting), modulo 2^32."""
    if a.ndim == 0 or b.ndim == 0 or a.shape[-1] != b.shape[-2 if b.ndim > 1 else 0]:
        raise UserError(f"matrix product of shapes {a.shape} and {b.shape}: the inner lengths differ")
    dtype = _exact_type(_largest(a) * _largest(b) * a.shape[-1])
    return wrap_int32((a.astype(dtype) @ b.astype(dtype)).astype(np.int64))


def conv(
    x: Codes, w: Codes, *, strides: Sequence[int], dilations: Sequence[int], pads: Pads, groups: int = 1
) -> Codes:
    """Convolution of centred codes (padding is 0), modulo 2^32: a matrix product for each position of the kernel.

    x: [N, C, ...]; w: [O, C / groups, ...kernel]; result: [N, O, ...].
    """
    _check_conv(x, w, groups, w.shape[1] * groups)
    sizes = output_shape(x.shape[2:], w.shape[2:], strides, dilations, pads)
    dtype = _exact_type(_largest(x) * float(np.abs(w).reshape(len(w), -1).sum(axis=1).max(initial=0)))
    points = math.prod(sizes)
    total = np.zeros((len(x), groups, len(w) // groups, points), dtype)
    views = taps(pad(x.astype(dtype), pads), w.shape[2:], strides, dilations, sizes)
    for kernel, seen in zip(_kernels(w.astype(dtype), groups), views, strict=True):
        rows = seen.reshape(len(x), groups, w.shape[1], points)
        total += kernel * rows if w.shape[1] == 1 else kernel @ rows
    return wrap_int32(total.astype(np.int64).reshape(len(x), len(w), *sizes))


def conv_transpose(
    x: Codes,
    w: Codes,
    *,
    strides: Sequence[int],
    dilations: Sequence[int],
    pads: Pads,
    output_padding: Sequence[int] = (),
    groups: int = 1,
) -> Codes:
    """Transposed convolution of centred codes, modulo 2^32: every input scatters its kernel into the output.

    x: [N, C, ...]; w: [C, O / groups, ...kernel]; result: [N, O, ...] with `pads` cut off. `pads` may be negative.
    """
    _check_conv(x, w, groups, len(w))
    extra = tuple(output_padding) or (0,) * (x.ndim - 2)
    dtype = _exact_type(_largest(x) * float(np.abs(w).sum()))
    kernel_span = [d * (k - 1) + 1 for k, d in zip(w.shape[2:], dilations, strict=True)]
    full = [s * (n - 1) + k for n, s, k in zip(x.shape[2:], strides, kernel_span, strict=True)]
    total = np.zeros((len(x), groups * w.shape[1], *full), dtype)
    seen = x.astype(dtype).reshape(len(x), groups, len(w) // groups, math.prod(x.shape[2:]))
    targets = taps(total, w.shape[2:], strides, dilations, x.shape[2:])
    for kernel, target in zip(_kernels(w.astype(dtype), groups), targets, strict=True):
        target += (kernel.swapaxes(1, 2) @ seen).reshape(target.shape)
    half = x.ndim - 2
    edges = [
        *(-begin for begin in pads[:half]),
        *(e - end for end, e in zip(pads[half:], extra, strict=True)),
    ]
    return wrap_int32(pad(total, edges).astype(np.int64))


def output_shape(
    shape: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int], pads: Pads
) -> tuple[int, ...]:
    """Spatial shape of a convolution or pooling (ONNX's floor rule)."""
    half = len(shape)
    spans = [d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True)]
    sizes = tuple(
        (n + begin + end - span) // s + 1
        for n, begin, end, span, s in zip(shape, pads[:half], pads[half:], spans, strides, strict=True)
    )
    if min(sizes, default=1) < 1:
        raise UserError(
            f"a kernel of {tuple(kernel)} does not fit an input of {tuple(shape)} with pads {tuple(pads)}"
        )
    return sizes


def taps(
    padded: NDArray[Any],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    sizes: Sequence[int],
) -> Iterator[NDArray[Any]]:
    """For every position of the kernel, in order, the elements of `padded` [N, C, ...] it meets: [N, C, *sizes]."""
    for position in np.ndindex(*kernel):
        window = tuple(
            slice(p * d, p * d + s * (n - 1) + 1, s)
            for p, d, s, n in zip(position, dilations, strides, sizes, strict=True)
        )
        yield padded[(slice(None), slice(None), *window)]


def pad(x: NDArray[Any], pads: Pads, value: float = 0) -> NDArray[Any]:
    """x [N, C, ...] with `value` added to (positive pads) or elements cut from (negative) its spatial axes."""
    half = len(pads) // 2
    edges = list(zip(pads[:half], pads[half:], strict=True))
    cut = tuple(
        slice(max(-begin, 0), n - max(-end, 0)) for n, (begin, end) in zip(x.shape[2:], edges, strict=True)
    )
    grown = [(0, 0), (0, 0), *((max(begin, 0), max(end, 0)) for begin, end in edges)]
    return np.pad(x[(slice(None), slice(None), *cut)], grown, constant_values=value)


def _kernels(w: NDArray[Any], groups: int) -> NDArray[Any]:
    """[positions, groups, rows, columns]: the weight matrices of every position of the kernel, in order."""
    return np.moveaxis(w.reshape(groups, len(w) // groups, w.shape[1], -1), -1, 0)


def _check_conv(x: Codes, w: Codes, groups: int, channels: int) -> None:
    if x.ndim != w.ndim or x.ndim < 3 or x.shape[1] != channels or w.size == 0 or len(w) % groups:
        raise UserError(
            f"convolution of input {x.shape} with weights {w.shape} in {groups} groups does not fit"
        )


def _exact_type(largest_sum: float) -> type[np.generic]:
    if largest_sum < 2.0**24:
        return np.float32
    return np.float64 if largest_sum < 2.0**53 else np.int64


def _largest(values: Codes) -> float:
    return float(max(-int(values.min(initial=0)), int(values.max(initial=0))))
