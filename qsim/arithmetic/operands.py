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
        values = self.values.astype(np.float64) * scale
        is_exact = survey(self.values).digits + survey(self.block_scale).digits <= 53
        if not is_exact:
            raise UserError(
                "matmul: an element times its block scale needs more than 53 bits; set mac.chunk to the block"
            )
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


def _quantized_operand(q: Any, reduction: int) -> Operand:
    """Element values, zero points subtracted; a scale that is constant along the reduction is taken out of the sum."""
    spec: Spec = q.spec
    scale, zero_point = (None if part is None else _numpy(part) for part in (q.scale, q.zero_point))
    values = spec.element.decode(_numpy(q.codes)).reshape(q.shape)
    fraction_bits = spec.element.mantissa if isinstance(spec.element, Float) else None
    if spec.granularity is None or scale is None:
        is_integer = isinstance(spec.element, Integer)
        return Operand(
            _last(values, reduction), fraction_bits=fraction_bits, is_integer=is_integer, is_coded=True
        )
    if zero_point is not None:
        values = values - spread(zero_point.astype(np.float64), spec.granularity, q.shape, q.axis)
    full = spread(np.asarray(scale, np.float64), spec.granularity, q.shape, q.axis)
    full = _last(np.broadcast_to(full, q.shape), reduction)
    values = _last(values, reduction)
    changes = np.any(full[..., 1:] != full[..., :-1], axis=tuple(range(full.ndim - 1))).nonzero()[0] + 1
    if not len(changes):
        return Operand(values, scale=full[..., :1], fraction_bits=fraction_bits, is_coded=True)
    block = int(np.gcd.reduce(changes))
    return Operand(values, None, full[..., ::block], block, fraction_bits, is_coded=True)


def _numpy(x: Any) -> Array:
    return np.asarray(x.detach().cpu().numpy() if is_torch(x) else x)
