"""Which tensors carry the same channels, and the parameters that must change together with them.

From one tensor the walk goes through every node that passes channels on (ReLU, pooling, residual additions, ...) up
to the parameters that write and read them. If nothing else touches the channels, they may be changed there and the
network computes the same: scaled by positive factors, permuted, or rotated by an orthogonal matrix.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qsim.ptq.transforms.channel_rules import RULES
from qsim.ptq.transforms.channel_walk import BlockedError, Change, ChannelWalk
from qsim.ptq.transforms.slots import Slot

if TYPE_CHECKING:
    from qsim.graph import Graph


@dataclass(frozen=True, eq=False)
class ChannelSpace:
    """`channels` channels and all that carries them.

    tensors: {name: axis}. slots: the parameters' axes that follow. joins: whether a residual addition is inside.
    keeps_ones: whether a LayerNorm is inside, so that a rotation must leave the vector of ones as it is.
    """

    channels: int
    tensors: Mapping[str, int]
    slots: tuple[Slot, ...]
    joins: bool
    keeps_ones: bool

    @property
    def writers(self) -> tuple[Slot, ...]:
        """Weights of the layers that make the channels."""
        return tuple(slot for slot in self.slots if slot.is_weight and not slot.reads)

    @property
    def readers(self) -> tuple[Slot, ...]:
        """Weights of the layers that sum over the channels."""
        return tuple(slot for slot in self.slots if slot.is_weight and slot.reads)


def channel_space(graph: Graph, tensor: str, axis: int, change: Change) -> ChannelSpace | None:
    """The space of the channels on `axis` of `tensor`; None where they cannot change without changing the network."""
    walk = ChannelWalk(graph, change, graph.sample_shapes[tensor][axis])
    try:
        walk.reach(tensor, axis)
        while walk.queue:
            name = walk.queue.pop(0)
            if name in graph.outputs or name not in graph.producers:
                return None
            for node in (graph.producers[name], *graph.consumers[name]):
                if node.op not in RULES:
                    return None
                RULES[node.op](walk, node, name)
    except BlockedError:
        return None
    tensors = {name: place.axis for name, place in walk.places.items()}
    slots = tuple(dict.fromkeys(walk.slots))
    return ChannelSpace(walk.channels, tensors, slots, walk.joins, walk.keeps_ones)


def channel_spaces(graph: Graph, change: Change) -> tuple[ChannelSpace, ...]:
    """All spaces that a layer with weights writes, in order of execution, each once."""
    found: list[ChannelSpace] = []
    seen: set[str] = set()
    nodes = {node.name: node for node in graph.nodes}
    for layer in graph.layers:
        tensor = nodes[layer.node].outputs[0]
        rank = len(graph.sample_shapes[tensor])
        if layer.kind in ("matmul", "recurrent") or tensor in seen or not rank:
            continue
        axis = 1 if layer.kind in ("conv", "depthwise", "transposed_conv") else rank - 1
        space = channel_space(graph, tensor, axis, change)
        if space is not None:
            seen.update(space.tensors)
            found.append(space)
    return tuple(found)
