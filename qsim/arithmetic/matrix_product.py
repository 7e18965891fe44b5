"""qsim.matmul: matrix products as a given multiply-accumulate unit computes them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.arithmetic.accumulate import Problem, accumulate
from qsim.arithmetic.kernels.general import round_product_to_odd
from qsim.arithmetic.mac import Mac
from qsim.arithmetic.operands import Operand, as_array, is_torch, operand
from qsim.casting import quantize
from qsim.errors import UserError
from qsim.formats import Integer
from qsim.parse import parse
from qsim.spec import Spec

Array = NDArray[Any]
FLOAT32_LARGEST = float(np.finfo(np.float32).max)


def matmul(
    a: Any,
    b: Any,
    mac: Mac | None = None,
    bias: Any = None,
    output: str | Spec | None = None,
    *,
    mantissa: int | None = None,
    seed: int = 0,
) -> Any:
    """a @ b, every sum formed by `mac` (default: exact sums, rounded once), in the order of the reduction index.

    a, b: arrays, torch tensors or what qsim.encode returns, freely mixed, with the shapes of numpy.matmul: [..., M, K]
        and [..., K, N], leading axes broadcast, vectors allowed. Arrays hold the numbers that enter the multiplier.
        Of encoded operands the elements enter (integers less their zero point). A scale that is constant along K
        multiplies the finished sum; one that changes multiplies the sum of each chunk where mac.chunk is set, its
        accumulator is not "exact" and chunks do not cross blocks, else every element on its way in. Of a scale that
        itself has one scale for the tensor (nvfp4), that one multiplies the finished sum.
    bias: broadcast to the result; where the accumulator starts. For encoded operands it is divided by their scale.
    output: a number system the accumulator is cast to at the end, by qsim.quantize.
    mantissa: fraction bits of array operands, for L-Mul; encoded ones know theirs. seed: for stochastic rounding.

    Returns the accumulator's value, with an "exact" accumulator the exact sum rounded once: integers of int32 or int64
    for integer arrays and an int accumulator, float32 if every number of the accumulator is one and no operand is
    float64, else float64; a torch tensor on a's device if a or b is one. K = 0 gives the bias, or 0.
    Raises UserError for shapes that do not fit, and NaN or infinity where a format has none.
    """
    x, y = operand(a, -1, "a"), operand(b, -2, "b")
    a_shape, b_shape = np.shape(getattr(a, "codes", a)), np.shape(getattr(b, "codes", b))
    _check_shapes(a_shape, b_shape)
    result = _product(x, y, mac or Mac(), bias, output, mantissa, seed)
    if len(a_shape) == 1:
        result = result[..., 0, :]
    if len(b_shape) == 1:
        result = result[..., 0]
    return like(result, a, b)


def linear(
    x: Any,
    w: Any,
    mac: Mac | None = None,
    bias: Any = None,
    output: str | Spec | None = None,
    *,
    mantissa: int | None = None,
    seed: int = 0,
) -> Any:
    """x [..., K] by the weight w [N, K] of a linear layer -> [..., N]: matmul(x, w transposed); see there.

    An encoded w has its blocks along its last axis, and one scale a row for `channel` (axis=0).
    """
    x_shape, w_shape = np.shape(getattr(x, "codes", x)), np.shape(getattr(w, "codes", w))
    if len(w_shape) != 2 or not x_shape or x_shape[-1] != w_shape[1]:
        raise UserError(f"linear: x {x_shape} and w {w_shape} do not fit: w is [outputs, inputs of x]")
    result = _product(operand(x, -1, "x"), operand(w, -1, "w"), mac or Mac(), bias, output, mantissa, seed)
    return like(result[..., 0, :] if len(x_shape) == 1 else result, x, w)


def like(result: Array, *operands: Any) -> Any:
    """A torch tensor on the device of the first operand that is one, else the array."""
    tensors = [x for x in operands if is_torch(x)]
    if not tensors:
        return result
    import torch

    return torch.from_numpy(np.ascontiguousarray(result)).to(tensors[0].device)


def _check_shapes(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    if not a or not b:
        raise UserError(f"matmul: operands of shapes {a} and {b}; both need at least one axis")
    if a[-1] != b[-2 if len(b) > 1 else -1]:
        raise UserError(
            f"matmul: shapes {a} and {b} do not fit: the last axis of a is the one before last of b"
        )
    try:
        np.broadcast_shapes(a[:-2], b[:-2])
    except ValueError:
        raise UserError(f"matmul: the leading axes of shapes {a} and {b} do not broadcast") from None


def _at_least_2d(x: Operand) -> Operand:
    return (
        x
        if x.values.ndim > 1
        else replace(x, values=x.values[None], scale=None if x.scale is None else x.scale[None])
    )


def _product(
    x: Operand, y: Operand, mac: Mac, bias: Any, output: str | Spec | None, mantissa: int | None, seed: int
) -> Array:
    """All products of the leading axes, [..., M, N]; y has its reduction axis last too."""
    x, y = (_at_least_2d(z) for z in (x, y))
    if mac.multiply != "exact":
        x, y = (replace(z, fraction_bits=mantissa) if z.fraction_bits is None else z for z in (x, y))
    blocks = [z.block for z in (x, y) if z.block]
    by_chunk = bool(blocks) and mac.chunk is not None and mac.accumulator != "exact"
    by_chunk = by_chunk and all(block % (mac.chunk or 1) == 0 for block in blocks)
    if not by_chunk:
        x, y = x.multiplied_out(), y.multiplied_out()
    lead = np.broadcast_shapes(x.values.shape[:-2], y.values.shape[:-2])
    shape = (*lead, x.values.shape[-2], y.values.shape[-2])
    scale = _product_scale(x, y)
    # Products that share b are one product with more rows.
    is_shared = math.prod(y.values.shape[:-2]) == 1
    flat = (1, math.prod(shape[:-1])) if is_shared else (math.prod(lead), shape[-2])
    fraction_bits = [z.fraction_bits for z in (x, y) if z.fraction_bits is not None]
    chunk_scales = [_chunk_scale(z, mac.chunk) if by_chunk else None for z in (x, y)]
    b_lead = () if is_shared else lead
    problem = Problem(
        _spread(x.values, lead).reshape(*flat, x.values.shape[-1]),
        _flat(y.values, b_lead),
        mac,
        bias=_start(bias, shape, scale, flat),
        a_scale=None
        if chunk_scales[0] is None
        else _spread(chunk_scales[0], lead).reshape(*flat, chunk_scales[0].shape[-1]),
        b_scale=None if chunk_scales[1] is None else _flat(chunk_scales[1], b_lead),
        fraction_bits=max(fraction_bits, default=None),
        seed=seed,
        to_odd=output is not None and scale is None,
    )
    return _finish(accumulate(problem).reshape(shape), scale, (x, y), mac, output)


def _spread(values: Array, lead: tuple[int, ...]) -> Array:
    """`values` [..., rows, k] with the leading axes `lead`."""
    return np.broadcast_to(values, (*lead, *values.shape[-2:]))


def _flat(values: Array, lead: tuple[int, ...]) -> Array:
    """[..., rows, k] as [products, rows, k]."""
    return (_spread(values, lead) if lead else values).reshape(math.prod(lead), *values.shape[-2:])


def _product_scale(x: Operand, y: Operand) -> Array | float | None:
    """[..., M or 1, N or 1], what the finished sums are multiplied by."""
    if x.scale is None and y.scale is None:
        return None
    row = np.float64(1) if x.scale is None else x.scale
    return np.asarray(row if y.scale is None else row * np.swapaxes(y.scale, -1, -2))


def _chunk_scale(z: Operand, chunk: int | None) -> Array | None:
    """[..., rows, chunks]"""
    if z.block_scale is None or chunk is None:
        return None
    chunks = -(-z.values.shape[-1] // chunk)
    return np.repeat(z.block_scale, z.block // chunk, axis=-1)[..., :chunks]


def _start(bias: Any, shape: tuple[int, ...], scale: Any, flat: tuple[int, int]) -> Array | None:
    """The bias as [products or 1, M or 1, N]: the numbers the accumulators start at."""
    if bias is None:
        return None
    is_coded = hasattr(bias, "codes")
    values = operand(bias, -1, "bias").values if is_coded else as_array(bias, "bias").astype(np.float64)
    try:
        np.broadcast_to(values, shape)
    except ValueError:
        raise UserError(
            f"matmul: a bias of shape {values.shape} does not broadcast to the result {shape}"
        ) from None
    if scale is not None and not is_coded:
        values = values / scale
    if math.prod(values.shape[:-1]) == 1:
        return np.broadcast_to(
            values, (1, 1, shape[-1] if values.ndim and values.shape[-1] > 1 else 1)
        ).copy()
    return np.broadcast_to(values, shape).reshape(*flat, shape[-1])


def _finish(
    total: Array, scale: Any, operands: tuple[Operand, Operand], mac: Mac, output: str | Spec | None
) -> Array:
    """The scale, the output format, and the element type of the result."""
    if scale is not None:
        total = multiply_once(total.astype(np.float64), np.asarray(scale), to_odd=output is not None)
    if output is not None:
        return np.asarray(quantize(total.astype(np.float64, copy=False), output))
    last = mac.chunk_accumulator if mac.chunk_accumulator is not None else mac.accumulator
    if scale is not None or last == "exact":
        return total.astype(np.float64, copy=False)
    element = parse(last).element
    if isinstance(element, Integer) and all(z.is_integer for z in operands):
        return total.astype(np.int32 if element.bits + (not element.signed) <= 32 else np.int64)
    is_double = any(z.values.dtype == np.float64 and not z.is_coded for z in operands)
    is_single = (
        element.precision <= 24 and element.largest <= FLOAT32_LARGEST and element.smallest >= 2.0**-149
    )
    return total.astype(np.float32 if is_single and not is_double else np.float64, copy=False)


def multiply_once(a: Array, b: Array, *, to_odd: bool) -> Array:
    """a * b in float64, rounded to nearest even, or to odd for a later cast."""
    with np.errstate(all="ignore"):
        product = a * b
    if not to_odd or not product.size:
        return product
    return round_product_to_odd(*(np.ascontiguousarray(np.broadcast_to(x, product.shape)) for x in (a, b)))
