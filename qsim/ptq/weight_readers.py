"""Who reads a weight: one layer mostly; tied and shared weights have several readers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qsim.graph import Graph, Layer, Node


@dataclass(frozen=True)
class WeightReaders:
    """layers: that multiply by the weight, in order. tables: Gathers of its rows (an embedding tied with a head).
    others: nodes that do something else with it.
    """

    layers: tuple[Layer, ...]
    tables: tuple[Node, ...]
    others: tuple[Node, ...]

    @property
    def is_shared(self) -> bool:
        """Whether more than one node is served by one rounding."""
        return len(self.layers) + len(self.tables) > 1

    def first(self, graph: Graph) -> Node:
        """The reader that runs before the others."""
        names = {*(layer.node for layer in self.layers), *(table.name for table in self.tables)}
        return next(node for node in graph.nodes if node.name in names)


def weight_readers(graph: Graph, weight: str) -> WeightReaders:
    """All nodes that read the parameter `weight`, transposed views of it included."""
    layers = tuple(layer for layer in graph.layers if layer.weights == weight)
    nodes = {layer.node for layer in layers}
    axes = {layer.weight_axis for layer in layers}
    tables, others = [], []
    pending = [(node, weight) for node in graph.consumers[weight]]
    for node, name in pending:
        if node.name in nodes:
            continue
        if node.op == "Transpose":
            pending += [(reader, node.outputs[0]) for reader in graph.consumers[node.outputs[0]]]
        elif node.op == "Gather" and axes == {node.get("axis", 0)} and name == weight:
            tables.append(node)
        else:
            others.append(node)
    return WeightReaders(layers, tuple(tables), tuple(others))
