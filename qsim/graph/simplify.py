"""Rewrites that change no result: identities removed, equal parameters tied, unused nodes dropped."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np

from qsim.graph.ir import Array, Graph, Node

_SMALLEST_TIED_ELEMENTS = (
    64  # equal small tensors are coincidence (a bias of zeros), equal weight matrices are not
)


def remove_identities(graph: Graph) -> Graph:
    """Without Identity and inference-time Dropout; a graph output keeps its name."""
    renamed: dict[str, str] = {}
    kept: list[Node] = []
    outputs = set(graph.outputs)
    for node in graph.nodes:
        inputs = tuple(renamed.get(name, name) if name else None for name in node.inputs)
        source = inputs[0] if inputs else None
        if node.op not in ("Identity", "Dropout") or len(node.outputs) > 1 or source is None:
            kept.append(replace(node, inputs=inputs))
        elif node.outputs[0] not in outputs:
            renamed[node.outputs[0]] = source
        elif not _take_over(kept, source, node.outputs[0], graph, renamed):
            kept.append(replace(node, op="Identity", inputs=(source,), attributes={}))
    return replace(graph, nodes=tuple(kept))


def _take_over(kept: list[Node], source: str, target: str, graph: Graph, renamed: dict[str, str]) -> bool:
    """Let the maker of `source` write the graph output `target` itself; False where `source` must stay."""
    maker = next((i for i, node in enumerate(kept) if source in node.outputs), None)
    if maker is None or source in graph.outputs:
        return False
    for i, node in enumerate(kept):
        kept[i] = replace(
            node,
            inputs=tuple(target if name == source else name for name in node.inputs),
            outputs=tuple(target if name == source else name for name in node.outputs),
        )
    renamed.update({name: target for name, value in renamed.items() if value == source}, **{source: target})
    return True


def drop_unused(graph: Graph) -> Graph:
    """Without nodes and parameters that no output depends on, and without names for unread optional outputs."""
    needed = set(graph.outputs)
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if needed.isdisjoint(node.outputs):
            continue
        outputs = [name if name in needed else "" for name in node.outputs]
        while not outputs[-1]:
            outputs.pop()
        # Operators of a fixed number of results (Split) keep every name: the count is part of their meaning.
        kept.append(node if node.op == "Split" else replace(node, outputs=tuple(outputs)))
        needed.update(name for name in node.inputs if name)
    parameters = {name: array for name, array in graph.parameters.items() if name in needed}
    return replace(graph, nodes=tuple(reversed(kept)), parameters=parameters)


def tie_parameters(graph: Graph) -> Graph:
    """Equal weight tensors become one parameter; a transposed copy becomes a Transpose of the first."""
    first: dict[str, str] = {}
    renamed: dict[str, str] = {}
    views: list[Node] = []
    for name, array in graph.parameters.items():
        if array.ndim < 2 or array.size < _SMALLEST_TIED_ELEMENTS or array.dtype.kind != "f":
            continue
        if np.all(array == array.flat[0]):
            continue  # a constant fill, not a trained weight
        original = first.setdefault(_content(array), name)
        if original != name:
            renamed[name] = original
        elif array.ndim == 2 and (transposed := first.get(_content(array.T))) not in (None, name):
            views.append(Node(f"{name}/tied", "Transpose", (transposed,), (name,), {"perm": (1, 0)}))
    removed = {*renamed, *(view.outputs[0] for view in views)}
    removed -= set(graph.outputs)
    nodes = [
        replace(node, inputs=tuple(renamed.get(name, name) if name else None for name in node.inputs))
        for node in graph.nodes
    ]
    parameters = {name: array for name, array in graph.parameters.items() if name not in removed}
    return replace(graph, nodes=(*views, *nodes), parameters=parameters)


def _content(array: Array) -> str:
    data = np.ascontiguousarray(array)
    return hashlib.sha256(f"{data.dtype}{data.shape}".encode() + data.tobytes()).hexdigest()
