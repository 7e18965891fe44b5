"""The state of a walk through the tensors that carry some channels, and what its rules ask of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from qsim.graph.layers import weight_source
from qsim.ptq.transforms.slots import Slot

if TYPE_CHECKING:
    from qsim.graph import Graph, Node

Change = Literal["scale", "permute", "rotate"]


class BlockedError(Exception):
    """Something depends on the channels in a way that no parameter can make good."""


@dataclass(frozen=True)
class Place:
    """Channel c lies on `axis` of a tensor at c * repeat ... c * repeat + repeat - 1."""

    axis: int
    repeat: int = 1


class ChannelWalk:
    """The tensors reached so far, those still to be looked at, and the slots found."""

    def __init__(self, graph: Graph, change: Change, channels: int) -> None:
        self.graph, self.change, self.channels = graph, change, channels
        self.places: dict[str, Place] = {}
        self.queue: list[str] = []
        self.slots: list[Slot] = []
        self.joins = False
        self.keeps_ones = False

    def reach(self, tensor: str | None, axis: int, repeat: int = 1) -> None:
        """`tensor` carries the channels on `axis`; BlockedError where it cannot, or carries them otherwise already."""
        if not tensor or tensor in self.graph.parameters:
            raise BlockedError
        shape = self.graph.sample_shapes[tensor]
        place = Place(axis, repeat)
        if not 0 <= axis < len(shape) or shape[axis] != self.channels * repeat:
            raise BlockedError
        if tensor not in self.places:
            self.places[tensor] = place
            self.queue.append(tensor)
        elif self.places[tensor] != place:
            raise BlockedError

    def follow(self, node: Node, *tensors: str | None) -> None:
        """All of `tensors` (and the node's first output) carry the channels as the known one among them does."""
        names = [name for name in (*tensors, node.outputs[0]) if name]
        place = next(self.places[name] for name in names if name in self.places)
        for name in names:
            self.reach(name, place.axis, place.repeat)

    def require(self, condition: bool) -> None:
        """BlockedError unless `condition` holds."""
        if not condition:
            raise BlockedError

    def rank(self, tensor: str | None) -> int:
        """Number of axes of a tensor; BlockedError where there is none."""
        self.require(bool(tensor))
        return len(self.graph.sample_shapes[str(tensor)])

    def is_parameter(self, name: str | None) -> bool:
        """Whether a tensor is a float parameter, or a transposed view of one."""
        source = weight_source(self.graph, name) if name else None
        if source is None or not self.graph.tensors[source[0]].is_float:
            return False
        while name is not None and name != source[0]:
            maker = self.graph.producers[name]
            if maker.op != "Transpose":
                return False
            name = maker.inputs[0]
        return True

    def add_weight(
        self, node: Node, place: int, axis: int, *, reads: bool, groups: int = 1, taps: int = 1
    ) -> None:
        """The weight of a layer follows the channels of its input (`reads`) or output, `taps` rows a channel."""
        self.require(self.is_parameter(node.input(place)))
        repeat = self.places[str(node.inputs[0] if reads else node.outputs[0])].repeat * taps
        self.slots.append(Slot(node.name, place, axis, reads, repeat, groups, is_weight=True))

    def add_vector(
        self, node: Node, place: int, tensor: str, axis_from_end: int, *, reads: bool = False
    ) -> None:
        """A bias, a gain or another constant, channels `axis_from_end` (1: last), follows those of `tensor`.

        One value for all channels is spread over them where it must; a permutation leaves it.
        """
        name = node.input(place)
        if name is None:
            return
        self.require(self.is_parameter(name))
        shape = self.graph.sample_shapes[name]
        is_shared = len(shape) < axis_from_end or shape[-axis_from_end] == 1
        if not (is_shared and self.change == "permute"):
            self.slots.append(Slot(node.name, place, -axis_from_end, reads, self.places[tensor].repeat))
