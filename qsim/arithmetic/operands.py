"""What a matrix product is given: real numbers, or the codes of a number system with their scales."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.arithmetic.kernels.survey import survey
from qsim.casting.groups import spread
from qsim.errors import UserError
from qsim.formats import Float, Integer
from qsim.spec import Spec

Array = NDArray[Any]


@dataclass(frozen=True)
class Operand:
    """One operand with the reduction on its last axis: the numbers that enter the multiplier, and their scales.

    values: [..., rows, K], float32, float64 or integers. scale: None or [..., rows, 1], taken out of the sum.
    block_scale: None or [..., rows, blocks]: what `block` consecutive values share. fraction_bits: of a float format.
    """

    values: Array
    scale: Array | None = None
    block_scale: Array | None = None
    block: int = 0
    fraction_bits: int | None = None
    is_integer: bool = False
    is_coded: bool = False

    def multiplied_out(self) -> Operand:
        """With block scales in the values, exactly. Raises UserError where float64 cannot hold them."""
        if self.block_scale is None:
            return self
        scale = np.repeat(self.block_scale, self.block, axis=-1)[..., : self.values.shape[-1]]
        values = _multiply_exactly(self.values, scale)
        return Operand(values, self.scale, None, 0, self.fraction_bits, is_coded=self.is_coded)


def operand(x: Any, reduction: int, what: str) -> Operand:
    """`x` (array, nested list, Quantized) as an Operand; `reduction` is its reduction axis, -1 or -2 (-1 for a vector).

    Raises UserError for complex numbers, text, and scales that change along both axes in an unforeseen way.
    """
    if hasattr(x, "codes"):
        return _quantized_operand(x, reduction)
    values = as_array(x, what)
    return Operand(_last(values, reduction), is_integer=values.dtype.kind in "iu")


def as_array(x: Any, what: str) -> Array:
    """A NumPy array of float32, float64 or integers, from anything array-like (torch tensors included)."""
    if is_torch(x):
        x = x.detach().cpu()
        x = x.float().numpy() if str(x.dtype) in ("torch.bfloat16", "torch.float16") else x.numpy()
    values = np.asarray(x)
    if values.dtype == np.float16:
        return values.astype(np.float32)
    if values.dtype.kind == "b":
        return values.astype(np.int8)
    if values.dtype.kind in "iu" or values.dtype in (np.float32, np.float64):
        return values
    raise UserError(
        f"matmul: {what} has element type {values.dtype}; float16, float32, float64 and integers can be used"
    )


def is_torch(x: Any) -> bool:
    """Whether `x` is a torch tensor, without importing torch."""
    return type(x).__module__.partition(".")[0] == "torch"


def _last(values: Array, axis: int) -> Array:
    return values if axis == -1 or values.ndim < 2 else np.swapaxes(values, -1, -2)


def _elements(q: Any, scale: Array | None) -> tuple[Array, Array | None]:
    """Element values, zero points subtracted, and `scale` of each element (a broadcast view), or None."""
    spec: Spec = q.spec
    zero_point = None if q.zero_point is None else _numpy(q.zero_point)
    values = spec.element.decode(_numpy(q.codes)).reshape(q.shape)
    if spec.granularity is None or scale is None:
        return values, None
    if zero_point is not None:
        values = values - spread(zero_point.astype(np.float64), spec.granularity, q.shape, q.axis)
    full = spread(np.asarray(scale, np.float64), spec.granularity, q.shape, q.axis)
    return values, np.broadcast_to(full, q.shape)


def _quantized_operand(q: Any, reduction: int) -> Operand:
    """A scale that is constant along the reduction is taken out of the sum."""
    element = q.spec.element
    fraction_bits = element.mantissa if isinstance(element, Float) else None
    scale, factor = _without_tensor_scale(q)
    values, full = _elements(q, scale)
    values = _last(values, reduction)
    if full is None:
        is_integer = isinstance(element, Integer)
        return Operand(values, fraction_bits=fraction_bits, is_integer=is_integer, is_coded=True)
    full = _last(full, reduction)
    changes = np.any(full[..., 1:] != full[..., :-1], axis=tuple(range(full.ndim - 1))).nonzero()[0] + 1
    if not len(changes):
        return Operand(values, scale=full[..., :1] * factor, fraction_bits=fraction_bits, is_coded=True)
    block = int(np.gcd.reduce(changes))
    outer = None if factor == 1.0 else np.full((*full.shape[:-1], 1), factor)
    return Operand(values, outer, full[..., ::block], block, fraction_bits, is_coded=True)


def _without_tensor_scale(q: Any) -> tuple[Array | None, float]:
    """(scale, factor): of a scale whose own scale is one number (nvfp4) the stored scale and that number.

    Hardware applies that number to the finished sum. The effective scale is their product, rounded to its dtype.
    """
    scale = None if q.scale is None else _numpy(q.scale)
    if scale is None or len(q.levels) != 2 or _numpy(q.levels[1]).size != 1:
        return scale, 1.0
    stored, factor = _numpy(q.levels[0]), float(_numpy(q.levels[1]).reshape(()))
    product = stored.astype(np.float64) * factor
    return (stored, factor) if np.array_equal(product.astype(scale.dtype), scale) else (scale, 1.0)


def channel_operand(x: Any, axis: int, what: str) -> tuple[Array, Array | None]:
    """(elements, scale [shape[axis]] or [1]) of a convolution's operand: one scale, or one for each index of `axis`.

    Any other scale is multiplied into the elements, exactly, and none is returned. Raises UserError where it cannot be.
    """
    if not hasattr(x, "codes"):
        return as_array(x, what), None
    values, full = _elements(x, None if x.scale is None else _numpy(x.scale))
    if full is None:
        return values, None
    first = full[tuple(slice(None) if a == axis % full.ndim else slice(0, 1) for a in range(full.ndim))]
    if np.array_equal(np.broadcast_to(first, full.shape), full):
        per_index = first.reshape(-1)
        return values, per_index[:1] if (per_index == per_index[:1]).all() else per_index
    return _multiply_exactly(values, full), None


def _multiply_exactly(values: Array, scale: Array) -> Array:
    if survey(values).digits + survey(scale).digits > 53:
        raise UserError(
            "matmul: an element times its scale needs more than 53 bits; set mac.chunk to the block"
        )
    return np.asarray(values * scale, np.float64)


def _numpy(x: Any) -> Array:
    return np.asarray(x.detach().cpu().numpy() if is_torch(x) else x)
