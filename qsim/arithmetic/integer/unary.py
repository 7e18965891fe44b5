"""Functions of one integer tensor: clamps, leaky slopes, and tables that hold a function of every code."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.arithmetic.integer.affine import Affine, Codes, check_one_scale
from qsim.arithmetic.integer.elementwise import rescaled
from qsim.arithmetic.requantize import (
    fixed_point,
    rescale,
    rounding_shift_away,
    saturate,
)
from qsim.errors import UserError

Array = NDArray[Any]
Function = Callable[[NDArray[Any]], NDArray[Any]]
MAX_TABLE_BITS = 16


def clamp(
    x: Array, low: float | None, high: float | None, *, input: Affine, output: Affine, rule: str
) -> Array:
    """Relu, Relu6 and Clip: codes held between those of the real numbers low and high, after a change of scale."""
    codes = rescaled(x, input=input, output=output, rule=rule)
    shape = (1,) * codes.ndim  # one bound, or one for each channel's scale
    bounds = [
        None if bound is None else output.quantize(np.full(shape, bound, np.float32)) for bound in (low, high)
    ]
    if bounds[0] is not None:
        codes = np.maximum(codes, bounds[0])
    return codes if bounds[1] is None else np.minimum(codes, bounds[1])


def lookup(x: Array, function: Function, *, input: Affine, output: Affine) -> Array:
    """function(x) from a table of every code, computed in float32 and rounded half away from zero.

    TFLite's LOGISTIC, TANH, ELU, GELU and EXP of 8 bits; here up to 16 bits. One scale for each tensor.
    """
    element = input.element
    if element.bits > MAX_TABLE_BITS or input.is_per_channel or output.is_per_channel:
        raise UserError(
            f"a table of {element} codes with one scale each for input and output is not possible"
        )
    codes = np.arange(element.lowest_code, element.largest_code + 1)
    reals = input.scale.reshape(()) * (codes - int(input.zero_point)).astype(np.float32)
    with np.errstate(over="ignore"):
        scaled = function(reals).astype(np.float32) * (np.float32(1) / output.scale.reshape(()))
    rounded = np.copysign(np.floor(np.abs(scaled.astype(np.float64)) + 0.5), scaled)
    table = saturate(
        np.clip(rounded, -(2.0**40), 2.0**40).astype(np.int64) + output.zero_point, output.element
    )
    return np.asarray(table[np.asarray(x).astype(np.int64) - element.lowest_code])


def sigmoid(x: NDArray[Any]) -> NDArray[Any]:
    """1 / (1 + exp(-x)) in float32, the exponential correctly rounded."""
    exponential = np.exp(-x.astype(np.float64)).astype(np.float32)
    return np.asarray(np.float32(1) / (np.float32(1) + exponential))


def tanh(x: NDArray[Any]) -> NDArray[Any]:
    """tanh, correctly rounded to float32."""
    return np.asarray(np.tanh(x.astype(np.float64)).astype(np.float32))


def elu(x: NDArray[Any]) -> NDArray[Any]:
    """x, or exp(x) - 1 below zero, correctly rounded to float32."""
    return np.where(x < 0, np.expm1(np.minimum(x, 0).astype(np.float64)).astype(np.float32), x)


def gelu(x: NDArray[Any], tanh_form: bool = False) -> NDArray[Any]:
    """x * Phi(x), or its published tanh form, correctly rounded to float32."""
    wide = x.astype(np.float64)
    if tanh_form:
        half = 0.5 * (1.0 + np.tanh(np.sqrt(2.0 / np.pi) * (wide + 0.044715 * wide**3)))
    else:
        half = 0.5 * np.array([math.erfc(-v / math.sqrt(2.0)) for v in wide.reshape(-1).tolist()]).reshape(
            x.shape
        )
    return np.asarray((wide * half).astype(np.float32))


def leaky_relu(x: Array, alpha: float, *, input: Affine, output: Affine, rule: str) -> Array:
    """x, or alpha * x below zero; both slopes requantized (the tflite rules form both multipliers in float32)."""
    check_one_scale("a leaky slope", input, output)
    centred = input.centred(x)
    slope = input.scale * np.float32(alpha) / output.scale
    kept = rescale(centred, np.float64(input.scale / output.scale), rule)
    leaked = rescale(centred, np.abs(np.float64(slope)), rule) * (-1 if slope < 0 else 1)
    return saturate(np.where(centred >= 0, kept, leaked) + output.zero_point, output.element)


def prelu(x: Array, slope: Array, *, input: Affine, slopes: Affine, output: Affine, rule: str) -> Array:
    """x, or slope * x below zero, with slopes as codes that broadcast against x."""
    check_one_scale("a leaky slope", input, slopes, output)
    centred = input.centred(x)
    leaked = np.broadcast_to(centred * slopes.centred(slope), np.broadcast_shapes(x.shape, slope.shape))
    kept = rescale(centred, np.float64(input.scale / output.scale), rule)
    below = rescale(leaked, np.float64(input.scale * slopes.scale / output.scale), rule)
    return saturate(np.where(centred >= 0, kept, below) + output.zero_point, output.element)


def hard_swish(x: Array, *, input: Affine, output: Affine, rule: str) -> Array:
    """x * clip(x + 3, 0, 6) / 6 of 8-bit codes.

    tflite rules: LiteRT's 16-bit fixed point (reference/hard_swish.h). Others: float32 by table.
    """
    if not rule.startswith("tflite"):
        return lookup(x, lambda v: v * np.clip(v + 3, 0, 6) / np.float32(6), input=input, output=output)
    check_one_scale("hard swish", input, output)
    high_resolution = input.scale * np.float32(1 / 128)
    out_mantissa, out_shift = _int16_multiplier(high_resolution / output.scale)
    gate_mantissa, gate_shift = _int16_multiplier(high_resolution / np.float32(3 / 32768))
    if out_shift < 0:
        raise UserError("hard swish: the output scale is too small for 16-bit arithmetic")
    shifted = input.centred(x) << 7
    before_shift = _high_multiply16(shifted, out_mantissa)
    gate = shifted
    if gate_shift < 0:
        gate = _saturate16(gate << (-gate_shift - 1))
    gate = _high_multiply16(gate, gate_mantissa)
    gate = _saturate16(gate << 1) if gate_shift < 0 else rounding_shift_away(gate, gate_shift)
    gate = (gate + (1 << 15)) >> 1
    product = gate * before_shift
    truncated = np.sign(product) * (np.abs(product) >> 15)
    return saturate(rounding_shift_away(truncated, out_shift) + output.zero_point, output.element)


def _int16_multiplier(real: NDArray[Any]) -> tuple[int, int]:
    """(mantissa, shift) with real ~ mantissa * 2^-15 * 2^-shift, the mantissa rounded from 31 to 15 bits, ties up."""
    mantissa, shift = fixed_point(np.float64(real))
    rounded = (min(int(mantissa), 2**31 - 1 - 2**15) + 2**15) >> 16
    return rounded, int(shift) - 31


def _high_multiply16(a: Codes, b: int) -> Codes:
    """(2 * a * b + 2^15) >> 16 for int16, ties up."""
    return np.asarray(np.minimum((a * b + (1 << 14)) >> 15, 2**15 - 1))


def _saturate16(values: Codes) -> Codes:
    return np.clip(values, -(2**15), 2**15 - 1)
