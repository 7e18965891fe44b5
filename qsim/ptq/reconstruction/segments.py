"""A network cut into parts that are tuned one after another: layers, or residual blocks.

Layers are cut before each one that multiplies by a parameter. Blocks are cut between such layers where as few tensors
are alive as anywhere (one, in most networks), so that no shortcut crosses a cut: the units of block-wise
reconstruction (Li et al., "BRECQ", ICLR 2021, section 3.2, which finds blocks to be the best unit between layers and
the whole network). A depthwise layer stays with the layer after it. What follows from parameters alone (a head's view
of an embedding) is no activation: every part that reads it makes it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qsim.graph import Graph, Layer, Node

Lifetimes = Mapping[str, tuple[int, int]]


@dataclass(frozen=True, eq=False)
class Segment:
    """Consecutive nodes, with those that make the constants they read; inputs: the activations that they read from
    before; outputs: what is read after them.
    """

    nodes: tuple[Node, ...]
    layers: tuple[Layer, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def layer_segments(graph: Graph) -> tuple[Segment, ...]:
    """A segment for every layer that multiplies by a parameter, with what follows it: products of two activations
    have nothing to learn, and the maps of attention stay inside a segment.
    """
    return _cut(graph, {layer.node for layer in graph.layers if layer.weights in graph.parameters})


def block_segments(graph: Graph) -> tuple[Segment, ...]:
    """A segment for every residual block, and for every layer outside of them."""
    position = {node.name: index for index, node in enumerate(graph.nodes)}
    with_weights = [layer for layer in graph.layers if layer.weights in graph.parameters]
    layers = sorted(with_weights, key=lambda layer: position[layer.node])
    gaps = [
        range(position[before.node] + 1, position[after.node] + 1)
        for before, after in zip(layers, layers[1:], strict=False)
        if before.kind != "depthwise"
    ]
    lifetimes = _lifetimes(graph)
    alive = {index: len(_alive(lifetimes, index)) for gap in gaps for index in gap}
    least = min(alive.values(), default=0)
    narrow = [[index for index in gap if alive[index] == least] for gap in gaps]
    last = [places[-1] for places in narrow if places]
    return _cut(graph, {*(layer.node for layer in layers[:1]), *(graph.nodes[index].name for index in last)})


def whole_network(graph: Graph) -> Segment:
    """All nodes, with the output of every layer as something to be matched."""
    (segment,) = _cut(graph, ())
    outputs = dict.fromkeys((*(layer.output for layer in graph.layers), *graph.outputs))
    return Segment(segment.nodes, segment.layers, segment.inputs, tuple(outputs))


def _cut(graph: Graph, cuts: Collection[str]) -> tuple[Segment, ...]:
    starts = [index for index, node in enumerate(graph.nodes) if node.name in cuts and index > 0]
    first = next((index for index, node in enumerate(graph.nodes) if node.name in cuts), 0)
    starts = [index for index in starts if index != first]  # what comes before the first layer goes with it
    edges = [0, *starts, len(graph.nodes)]
    constants, lifetimes = _constant_nodes(graph), _lifetimes(graph)
    pairs = zip(edges, edges[1:], strict=False)
    return tuple(_segment(graph, range(*pair), constants, lifetimes) for pair in pairs)


def _segment(graph: Graph, part: range, constants: Sequence[Node], lifetimes: Lifetimes) -> Segment:
    fixed = {node.name for node in constants}
    own = [graph.nodes[index] for index in part if graph.nodes[index].name not in fixed]
    nodes = (*_makers(constants, own), *own)
    made = {name for node in nodes for name in node.outputs}
    read = [name for node in own for name in node.inputs if name]
    return Segment(
        nodes,
        tuple(layer for layer in graph.layers if layer.node in {node.name for node in own}),
        tuple(dict.fromkeys(name for name in read if name not in made | set(graph.parameters))),
        tuple(name for name in _alive(lifetimes, part.stop) if name in made),
    )


def _constant_nodes(graph: Graph) -> list[Node]:
    """Nodes whose results follow from parameters alone."""
    fixed, found = set(graph.parameters), []
    for node in graph.nodes:
        if all(name in fixed for name in node.inputs if name):
            found.append(node)
            fixed |= set(node.outputs)
    return found


def _makers(constants: Sequence[Node], readers: Sequence[Node]) -> list[Node]:
    """Of the nodes `constants`, those that `readers` depend on, in order."""
    needed = {name for node in readers for name in node.inputs}
    makers: list[Node] = []
    for node in reversed(constants):
        if needed & set(node.outputs):
            makers.insert(0, node)
            needed |= set(node.inputs)
    return makers


def _lifetimes(graph: Graph) -> Lifetimes:
    """For every activation the node that makes it (-1: an input) and the last one that reads it (an output: beyond)."""
    fixed = {name for node in _constant_nodes(graph) for name in node.outputs} | set(graph.parameters)
    made = dict.fromkeys(graph.inputs, -1)
    made |= {name: index for index, node in enumerate(graph.nodes) for name in node.outputs if name}
    read = {name: index for index, node in enumerate(graph.nodes) for name in node.inputs if name}
    read |= dict.fromkeys(graph.outputs, len(graph.nodes))
    return {name: (made[name], read[name]) for name in made if name in read and name not in fixed}


def _alive(lifetimes: Lifetimes, index: int) -> list[str]:
    """Activations that exist before node `index` and are read by it or after it, or are outputs."""
    return [name for name, (made, last) in lifetimes.items() if made < index <= last]
