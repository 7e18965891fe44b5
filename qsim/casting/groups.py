"""Groups of elements that share a scale: reducing a tensor to its groups, spreading values over them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.errors import UserError
from qsim.spec import Granularity, Spec, neighbour_axis

Array = NDArray[np.floating[Any]]


def check_axis(ndim: int, axis: int) -> None:
    """Raise UserError where a tensor of `ndim` axes has no `axis`."""
    if not isinstance(axis, int | np.integer):
        raise UserError(f"axis is an integer, not {axis!r}")
    if ndim and not -ndim <= axis < ndim:
        raise UserError(f"axis {axis} does not exist in a tensor of {ndim} axes")


def reduce_groups(
    x: Array, granularity: Granularity, axis: int, reduce: Callable[..., Any], initial: float
) -> Array:
    """`reduce` (np.max or np.min) of every group, in the shape granularity.scale_shape(x.shape, axis).

    `initial` pads ragged blocks and is the value of an empty group.
    """
    if granularity.kind == "tensor" or x.ndim == 0:
        return np.asarray(reduce(x, initial=initial))
    if granularity.kind == "token":
        return np.asarray(reduce(x, axis=axis, initial=initial, keepdims=True))
    if granularity.kind == "channel":
        others = tuple(a for a in range(x.ndim) if a != axis % x.ndim)
        return np.asarray(reduce(x, axis=others, initial=initial))
    for block_axis, size in zip(granularity.axes(x.ndim, axis), granularity.block, strict=True):
        x = _reduce_blocks(x, block_axis, size, reduce, initial)
    return x


def _reduce_blocks(x: Array, axis: int, size: int, reduce: Callable[..., Any], initial: float) -> Array:
    blocks = -(-x.shape[axis] // size)
    missing = blocks * size - x.shape[axis]
    if missing:
        pads = [(0, missing if a == axis else 0) for a in range(x.ndim)]
        x = np.pad(x, pads, constant_values=initial)
    split = x.reshape(*x.shape[:axis], blocks, size, *x.shape[axis + 1 :])
    return np.asarray(reduce(split, axis=axis + 1, initial=initial))


def spread(scale: Array, granularity: Granularity, shape: tuple[int, ...], axis: int) -> Array:
    """An array of group values as one that broadcasts against `shape`."""
    if scale.ndim == 0 or granularity.kind == "token":
        return scale
    if granularity.kind == "channel":
        return scale.reshape([-1 if a == axis % len(shape) else 1 for a in range(len(shape))])
    for block_axis, size in zip(granularity.axes(len(shape), axis), granularity.block, strict=True):
        length = shape[block_axis]
        if scale.shape[block_axis] > 1:  # one block broadcasts as it is
            repeated = np.repeat(scale, size, axis=block_axis)
            scale = repeated[(slice(None),) * block_axis + (slice(0, length),)]
    return scale


def fit(given: Any, granularity: Granularity, shape: tuple[int, ...], axis: int, what: str) -> NDArray[Any]:
    """A given scale or zero point in its group shape: a scalar for all groups, or one value a group.

    Raises UserError where the shape fits neither.
    """
    wanted = granularity.scale_shape(shape, axis)
    values = np.asarray(given)
    if values.dtype.kind not in "iufb":
        raise UserError(f"{what} must be numbers, not {values.dtype}")
    if values.size == 1:
        return np.broadcast_to(values.reshape(()), wanted)
    if [n for n in values.shape if n != 1] != [n for n in wanted if n != 1]:
        text = f"{what} of shape {values.shape} for granularity {granularity} of a tensor of shape {shape}"
        raise UserError(f"{text} (axis {axis}): expected shape {wanted}")
    return values.reshape(wanted)


def nested_axis(granularity: Granularity, ndim: int, axis: int) -> int:
    """The axis that a scale of scales goes by: blocks and tokens as the tensor does, `channel` the neighbour
    of the reduction axis (the output axis of a matrix).
    """
    if granularity.kind != "channel" or ndim < 2:
        return axis % max(ndim, 1)
    return neighbour_axis(ndim, axis % ndim)


def level_shapes(spec: Spec, shape: tuple[int, ...], axis: int) -> list[tuple[int, ...]]:
    """The group shape of every level of a scale, innermost first."""
    shapes: list[tuple[int, ...]] = []
    granularity, scale = spec.granularity, spec.scale
    while granularity is not None and scale is not None:
        shape = granularity.scale_shape(shape, axis)
        shapes.append(shape)
        granularity, scale = scale.granularity, scale.scale
        axis = 0 if granularity is None else nested_axis(granularity, len(shape), axis)
    return shapes
