"""Where the channels of an activation lie in the parameters around it, and how these follow a change of channels.

A slot is one axis of one parameter of one node. The parameter writes the channels (the rows of the layer before, a
bias, a normalisation's gain) or reads them (the columns of the layer behind). Scaling multiplies writers and divides
readers; a permutation or a rotation x' = x Q does the same to both: W Q for the writer, and Q^-1 = Q' for the reader.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.graph.edit import GraphEdit

Array = NDArray[Any]


@dataclass(frozen=True)
class Slot:
    """Axis `axis` of what `node` reads at input `place`; channel c lies at c * repeat ... c * repeat + repeat - 1.

    A negative axis counts from the end, and the parameter may have fewer axes or length 1 there (one for all).

    reads: whether the parameter reads the channels (else it writes them). groups: of a grouped convolution that
    reads them. is_weight: a layer's weight (else a bias, a gain, ...).
    """

    node: str
    place: int
    axis: int
    reads: bool = False
    repeat: int = 1
    groups: int = 1
    is_weight: bool = False


def slot_array(edit: GraphEdit, slot: Slot, channels: int) -> Array:
    """The parameter in float64; one value for all channels is spread over them."""
    array = edit.array(slot.node, slot.place).astype(np.float64)
    length = channels // slot.groups * slot.repeat
    if array.ndim < -slot.axis:
        array = array.reshape((1,) * (-slot.axis - array.ndim) + array.shape)
    if array.shape[slot.axis] == 1 and length > 1:
        array = np.repeat(array, length, slot.axis)
    return array


def slot_range(edit: GraphEdit, slot: Slot, channels: int) -> Array:
    """The largest magnitude of every channel: [channels]."""
    array = np.abs(slot_array(edit, slot, channels))
    if slot.groups > 1:
        grouped = array.reshape(slot.groups, len(array) // slot.groups, *array.shape[1:])
        return np.asarray(grouped.max(axis=(1, *range(3, grouped.ndim))).reshape(-1))
    moved = np.moveaxis(array, slot.axis, 0).reshape(channels, -1)
    return np.asarray(moved.max(1))


def scale_slot(edit: GraphEdit, slot: Slot, factors: Array) -> None:
    """Channels are `factors` times what they were."""
    array = slot_array(edit, slot, len(factors))
    own = np.repeat(1 / factors if slot.reads else factors, slot.repeat)
    if slot.groups > 1:
        grouped = own.reshape(slot.groups, 1, -1)
        rows = np.broadcast_to(grouped, (slot.groups, len(array) // slot.groups, grouped.shape[-1]))
        own = rows.reshape(*array.shape[:2], *(1,) * (array.ndim - 2))
    else:
        own = own.reshape([-1 if axis == slot.axis % array.ndim else 1 for axis in range(array.ndim)])
    edit.set_array(slot.node, slot.place, array * own)


def permute_slot(edit: GraphEdit, slot: Slot, order: Array) -> None:
    """Channel j is what channel order[j] was."""
    array = slot_array(edit, slot, len(order))
    places = (order[:, None] * slot.repeat + np.arange(slot.repeat)).reshape(-1)
    edit.set_array(slot.node, slot.place, np.take(array, places, slot.axis))


def rotate_slot(edit: GraphEdit, slot: Slot, rotation: Array) -> None:
    """Channels x are now x Q, for an orthogonal `rotation` Q."""
    array = slot_array(edit, slot, len(rotation))
    rotated = np.tensordot(array, rotation, axes=(slot.axis, 0))
    edit.set_array(slot.node, slot.place, np.moveaxis(rotated, -1, slot.axis))
