"""Multiply-accumulate layers on integer codes: exact int32 sums, an int32 bias, one requantization.

A bias is int32 at scale input.scale * weight.scale. `rule` is a name of qsim.arithmetic.requantize.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.arithmetic.integer import accumulate
from qsim.arithmetic.integer.affine import Affine, Codes
from qsim.arithmetic.requantize import float32_multiplier, real_multiplier, requantize, wrap_int32
from qsim.errors import UserError

Array = NDArray[Any]


def linear(
    x: Array, w: Array, bias: Array | None, *, input: Affine, weight: Affine, output: Affine, rule: str
) -> Array:
    """Fully connected: x [..., K] by w [O, K] (weight.axis 0), codes in, codes out [..., O]."""
    acc = linear_accumulator(x, w, bias, input=input, weight=weight)
    return _finish(acc, input, weight, output, rule, axis=-1)


def linear_accumulator(x: Array, w: Array, bias: Array | None, *, input: Affine, weight: Affine) -> Codes:
    """The int32 sums of `linear`."""
    if w.ndim != 2:
        raise UserError(f"the weights of a linear layer have 2 axes [outputs, K], not shape {w.shape}")
    acc = accumulate.matmul(input.centred(x), weight.centred(w).T)
    return _add_bias(acc, bias, axis=-1)


def matmul(a: Array, b: Array, *, left: Affine, right: Affine, output: Affine, rule: str) -> Array:
    """a [..., M, K] by b [..., K, N], codes in, codes out; `right` may have one scale for each of the N columns."""
    return _finish(matmul_accumulator(a, b, left=left, right=right), left, right, output, rule, axis=-1)


def matmul_accumulator(a: Array, b: Array, *, left: Affine, right: Affine) -> Codes:
    """The int32 sums of `matmul` (ONNX's MatMulInteger); zero points may differ by row of a and column of b."""
    return accumulate.matmul(left.centred(a), right.centred(b))


@dataclass(frozen=True)
class Window:
    """How a kernel moves over an image: strides, dilations, pads (ONNX order: begins, then ends), groups."""

    strides: tuple[int, ...] = (1, 1)
    dilations: tuple[int, ...] = (1, 1)
    pads: tuple[int, ...] = (0, 0, 0, 0)
    groups: int = 1


def conv(
    x: Array,
    w: Array,
    bias: Array | None,
    window: Window,
    *,
    input: Affine,
    weight: Affine,
    output: Affine,
    rule: str,
) -> Array:
    """Convolution: x [N, C, ...] by w [O, C / groups, ...], padded with the zero point; depthwise is groups = C."""
    acc = conv_accumulator(x, w, bias, window, input=input, weight=weight)
    return _finish(acc, input, weight, output, rule, axis=1)


def conv_accumulator(
    x: Array, w: Array, bias: Array | None, window: Window, *, input: Affine, weight: Affine
) -> Codes:
    """The int32 sums of `conv`."""
    acc = accumulate.conv(
        input.centred(x),
        weight.centred(w),
        strides=window.strides,
        dilations=window.dilations,
        pads=window.pads,
        groups=window.groups,
    )
    return _add_bias(acc, bias, axis=1)


def conv_transpose(
    x: Array,
    w: Array,
    bias: Array | None,
    window: Window,
    *,
    input: Affine,
    weight: Affine,
    output: Affine,
    rule: str,
    output_padding: Sequence[int] = (),
) -> Array:
    """Transposed convolution: x [N, C, ...] by w [C, O / groups, ...] (weight.axis 1)."""
    acc = accumulate.conv_transpose(
        input.centred(x),
        weight.centred(w),
        strides=window.strides,
        dilations=window.dilations,
        pads=window.pads,
        output_padding=output_padding,
        groups=window.groups,
    )
    return _finish(_add_bias(acc, bias, axis=1), input, weight, output, rule, axis=1)


def _add_bias(acc: Codes, bias: Array | None, axis: int) -> Codes:
    if bias is None:
        return acc
    if bias.dtype.kind not in "iu" or bias.shape not in ((), (1,), (acc.shape[axis],)):
        raise UserError(f"a bias is {acc.shape[axis]} integers, not {bias.dtype} of shape {bias.shape}")
    return wrap_int32(acc + _along(bias.astype(np.int64), axis, acc.ndim))


def _finish(acc: Codes, input: Affine, weight: Affine, output: Affine, rule: str, axis: int) -> Array:
    """The accumulators as codes of `output`; per-channel scales run along `axis` of the result."""
    derive = float32_multiplier if rule == "onnx" else real_multiplier
    if input.is_per_channel:
        raise UserError("the input of a multiply-accumulate layer has one scale, not one for each channel")
    multiplier = derive(input.scale.reshape(()), output.scale, weight.scale)
    spread = [_along(values, axis, acc.ndim) for values in (multiplier, output.zero_point)]
    return requantize(acc, spread[0], rule, output.element, spread[1])


def _along(values: Array, axis: int, ndim: int) -> Array:
    if values.size == 1:
        return values.reshape(())
    return values.reshape([-1 if position == axis % ndim else 1 for position in range(ndim)])
