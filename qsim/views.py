"""How a number system sees a tensor: which axis holds channels, which the reduction.

A weight is seen as a matrix [outputs, K]: blocks run along K, one scale a channel means one a row. K is in
channel-last order (kernel height, kernel width, input channels), so that with 32 or more input channels a
block of 32 lies at one kernel position, beside the activation block that it meets.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.spec import Spec

Array = NDArray[Any]


def to_matrix(weight: Array, axis: int) -> Array:
    """A weight with its output channels on `axis`, as [outputs, K] (K channel-last for convolutions)."""
    moved = np.moveaxis(weight, axis, 0)
    if moved.ndim > 2:  # (inputs, kh, kw) -> (kh, kw, inputs)
        moved = np.moveaxis(moved, 1, -1)
    return moved.reshape(len(moved), -1)


def from_matrix(matrix: Array, shape: tuple[int, ...], axis: int) -> Array:
    """The inverse of `to_matrix`."""
    rest = shape[: axis % len(shape)] + shape[axis % len(shape) + 1 :]
    if len(rest) > 1:
        moved = np.moveaxis(matrix.reshape(len(matrix), *rest[1:], rest[0]), -1, 1)
    else:
        moved = matrix.reshape(len(matrix), *rest)
    return np.ascontiguousarray(np.moveaxis(moved, 0, axis))


def matrix_axis(spec: Spec) -> int:
    """The axis of a weight matrix that `spec` works along: rows for a scale a channel, else the reduction."""
    return 0 if spec.granularity is not None and spec.granularity.kind == "channel" else -1
