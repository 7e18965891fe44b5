"""A network cut into parts that are tuned one after another: layers, or residual blocks.

A cut lies before a layer that multiplies. Blocks are cut where as few tensors are alive as anywhere (one, in most
networks), so that no shortcut crosses a cut: the units of block-wise reconstruction (Li et al., "BRECQ", ICLR
2021, section 3.2, which finds blocks to be the best unit between layers and the whole network). A depthwise layer
stays with the layer after it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qsim.graph import Graph, Layer, Node


@dataclass(frozen=True, eq=False)
class Segment:
    """Consecutive nodes; inputs: the activations that they read from before; outputs: what is read after them."""

    nodes: tuple[Node, ...]
    layers: tuple[Layer, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def layer_segments(graph: Graph) -> tuple[Segment, ...]:
    """A segment for every layer that multiplies, with what follows it."""
    return _cut(graph, {layer.node for layer in graph.layers})


def block_segments(graph: Graph) -> tuple[Segment, ...]:
    """A segment for every residual block, and for every layer outside of them."""
    position = {node.name: index for index, node in enumerate(graph.nodes)}
    layers = sorted(graph.layers, key=lambda layer: position[layer.node])
    alive = {layer.node: len(_alive(graph, position[layer.node])) for layer in layers}
    least = min(alive.values(), default=0)
    cuts = {layer.node for layer in layers if alive[layer.node] == least}
    after_depthwise = {
        after.node for before, after in zip(layers, layers[1:], strict=False) if before.kind == "depthwise"
    }
    return _cut(graph, cuts - after_depthwise)


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
    return tuple(_segment(graph, *pair) for pair in zip(edges, edges[1:], strict=False))


def _segment(graph: Graph, start: int, end: int) -> Segment:
    nodes = graph.nodes[start:end]
    names = {node.name for node in nodes}
    made = {name for node in nodes for name in node.outputs}
    after = _alive(graph, end)
    return Segment(
        nodes,
        tuple(layer for layer in graph.layers if layer.node in names),
        tuple(
            dict.fromkeys(
                name
                for node in nodes
                for name in node.inputs
                if name and name not in made | set(graph.parameters)
            )
        ),
        tuple(name for name in after if name in made),
    )


def _alive(graph: Graph, index: int) -> list[str]:
    """Activations that exist before node `index` and are read by it or after it, or are outputs."""
    before = [*graph.inputs, *(name for node in graph.nodes[:index] for name in node.outputs if name)]
    read = {name for node in graph.nodes[index:] for name in node.inputs} | set(graph.outputs)
    return [name for name in dict.fromkeys(before) if name in read and name not in graph.parameters]
