"""How integer codes stand for real numbers: real = scale * (code - zero_point)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.errors import UserError
from qsim.formats import Integer

Array = NDArray[Any]
Codes = NDArray[np.int64]


def _array(value: Any, dtype: type) -> Any:
    return field(default_factory=lambda: np.array(value, dtype))


@dataclass(frozen=True, eq=False)
class Affine:
    """The facts of one integer tensor.

    element: its codes. scale (float32) and zero_point (int64): scalars, or one value for each index of `axis`.
    """

    element: Integer
    scale: Array = _array(1.0, np.float32)
    zero_point: Array = _array(0, np.int64)
    axis: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "scale", np.asarray(self.scale, np.float32))
        object.__setattr__(self, "zero_point", np.asarray(self.zero_point, np.int64))
        if self.scale.ndim > 1 or self.zero_point.ndim > 1:
            raise UserError("integer arithmetic takes one scale for a tensor or one for each channel")
        if not np.all(np.isfinite(self.scale) & (self.scale > 0)):
            raise UserError(
                f"a scale must be positive and finite, found {self.scale.min()} to {self.scale.max()}"
            )

    @property
    def is_per_channel(self) -> bool:
        return self.scale.ndim == 1 and self.scale.size > 1

    def along(self, values: Array, ndim: int) -> Array:
        """Per-channel `values` shaped to broadcast against a tensor of `ndim` axes."""
        if values.ndim == 0 or values.size == 1:
            return values.reshape(())
        return values.reshape([-1 if axis == self.axis % ndim else 1 for axis in range(ndim)])

    def centred(self, codes: Array) -> Codes:
        """codes - zero_point, as int64."""
        return np.asarray(codes).astype(np.int64) - self.along(self.zero_point, np.ndim(codes))

    def dequantize(self, codes: Array) -> NDArray[np.float32]:
        """scale * (code - zero_point) in float32."""
        return self.centred(codes).astype(np.float32) * self.along(self.scale, np.ndim(codes))

    def quantize(self, values: Array) -> Array:
        """Codes of real values: divided in float32, rounded half away from zero (TFLite's QUANTIZE), saturated."""
        scaled = np.asarray(values, np.float32) / self.along(self.scale, np.ndim(values))
        if np.isnan(scaled).any():
            raise UserError(f"NaN has no {self.element} code")
        limit = 2.0**40
        rounded = np.copysign(np.floor(np.abs(scaled.astype(np.float64)) + 0.5), scaled)
        offset = np.clip(rounded, -limit, limit).astype(np.int64) + self.along(
            self.zero_point, np.ndim(values)
        )
        return np.clip(offset, self.element.lowest_code, self.element.largest_code).astype(
            self.element.code_dtype
        )

    def is_same_as(self, other: Affine) -> bool:
        """Whether equal codes mean equal numbers, so that a tensor passes from one to the other untouched."""
        return (
            self.element.code_dtype == other.element.code_dtype
            and np.array_equal(self.scale, other.scale)
            and np.array_equal(self.zero_point, other.zero_point)
        )


def check_one_scale(what: str, *tensors: Affine) -> None:
    """Raise UserError where a tensor has one scale a channel and the arithmetic takes one for each tensor."""
    if any(tensor.is_per_channel for tensor in tensors):
        raise UserError(f"{what} takes one scale for each tensor, not one for each channel")
