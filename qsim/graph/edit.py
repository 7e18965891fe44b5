"""Rewriting a graph: nodes and parameters changed one by one, then a graph again.

    edit = GraphEdit(graph)
    edit.set_array("fc", 1, 2 * edit.array("fc", 1))
    graph = edit.finish()

A parameter that several nodes read is copied for the one that changes it, so an edit never reaches a node that it
does not name; copies that end up equal are tied again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from qsim.errors import GraphError
from qsim.graph.inference import with_shapes
from qsim.graph.ir import Array, Graph, Node
from qsim.graph.layers import weight_source
from qsim.graph.sharing import mark_states
from qsim.graph.simplify import drop_unused, tie_parameters


class GraphEdit:
    """The nodes and parameters of `graph`, to be changed; the graph itself stays as it is."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._nodes = {node.name: node for node in graph.nodes}
        self._order = [node.name for node in graph.nodes]
        self._parameters = dict(graph.parameters)
        self._added = set(graph.added)
        self._taken = {*graph.tensors, *self._nodes}
        if len(self._nodes) != len(graph.nodes):
            twice = next(name for name in self._order if self._order.count(name) > 1)
            raise GraphError(f"graph '{graph.name}' has two nodes named '{twice}'; it cannot be rewritten")

    def node(self, name: str) -> Node:
        """The node of this name as it now is."""
        return self._nodes[name]

    def fresh(self, name: str) -> str:
        """A name for a new node or tensor: `name`, or with a number where it is taken."""
        choice, number = name, 1
        while choice in self._taken:
            number += 1
            choice = f"{name}.{number}"
        self._taken.add(choice)
        return choice

    def array(self, node: str, place: int) -> Array:
        """The parameter that a node reads at input `place`, as it reads it (transposed views resolved).

        Raises GraphError where the input is no parameter.
        """
        name = self._nodes[node].input(place)
        if name in self._parameters:
            return self._parameters[name]
        source = weight_source(self.graph, name) if name else None
        if source is None or not self.is_parameter(node, place):
            raise GraphError(f"input {place} of node '{node}' is no parameter")
        return np.ascontiguousarray(self._parameters[source[0]].transpose(source[1]))

    def is_parameter(self, node: str, place: int) -> bool:
        """Whether a node reads real numbers from a parameter at `place`, itself or by a transposed view."""
        name = self._nodes[node].input(place)
        while name is not None and name not in self._parameters:
            maker = self.graph.producers.get(name)
            name = maker.inputs[0] if maker is not None and maker.op == "Transpose" else None
        return name is not None and self._parameters[name].dtype.kind == "f"

    def set_array(self, node: str, place: int, array: Array) -> None:
        """Let a node, and no other, read `array` at input `place`; the element type stays."""
        own = self._nodes[node]
        name = own.input(place)
        array = np.asarray(array, self.array(node, place).dtype if name else np.float32, order="C")
        if name in self._parameters and self._reads(name) == 1:
            self._parameters[name] = array
        else:
            inputs = [*own.inputs, *[None] * (place + 1 - len(own.inputs))]
            inputs[place] = self.add_parameter(f"{node}.{name or place}", array)
            self._nodes[node] = replace(own, inputs=tuple(inputs))

    def add_parameter(self, name: str, array: Array) -> str:
        """A new parameter; returns the name that it got."""
        name = self.fresh(name)
        self._parameters[name] = array
        return name

    def update(self, name: str, **changes: Any) -> None:
        """Change fields of a node (inputs, outputs, op, attributes); its name stays."""
        self._nodes[name] = replace(self._nodes[name], **changes)

    def read(self, name: str, old: str, new: str) -> None:
        """Let a node read tensor `new` wherever it reads `old`."""
        inputs = tuple(new if read == old else read for read in self._nodes[name].inputs)
        self.update(name, inputs=inputs)

    def insert(self, nodes: Iterable[Node], *, before: str | None = None, after: str | None = None) -> None:
        """Put new nodes in before or after the node of a name; they are marked as added (`Graph.added`)."""
        nodes = list(nodes)
        start = self._order.index(before) if before is not None else self._order.index(str(after)) + 1
        self._order[start:start] = [node.name for node in nodes]
        self._nodes.update({node.name: node for node in nodes})
        self._added.update(node.name for node in nodes)

    def bypass(self, name: str, source: str) -> None:
        """Take out a node of one output, which is no output of the graph; its readers read `source` instead."""
        node = self._nodes.pop(name)
        self._order.remove(name)
        for other in self._order:
            self.read(other, node.outputs[0], source)

    def finish(self) -> Graph:
        """The graph as it now is, with its shapes."""
        nodes = tuple(self._nodes[name] for name in self._order)
        tensors = {name: self.graph.tensors[name] for name in self.graph.inputs}
        left = frozenset(self._added & set(self._order))
        graph = replace(self.graph, nodes=nodes, parameters=self._parameters, tensors=tensors, added=left)
        return mark_states(with_shapes(drop_unused(tie_parameters(graph)), self.graph.lengths))

    def _reads(self, parameter: str) -> int:
        """How many inputs of nodes a parameter is; an output of the graph counts too."""
        reads = sum(node.inputs.count(parameter) for node in self._nodes.values())
        return reads + (parameter in self.graph.outputs)
