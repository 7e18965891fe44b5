"""What is in memory at each step of a network's schedule: the cuts over which peak memory is the largest sum."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from qsim.graph import Graph
    from searches.candidates import Candidates

Cut = Mapping[str, int]
"""{tensor: values a sample} alive together."""
FLOAT_BITS = 32.0
PEAK = "peak_sram_bytes"


def live_cuts(graph: Graph) -> tuple[Cut, ...]:
    """The activations alive while each node runs: its operands, its results, and what a later node still reads.

    A node with one operand that nothing else reads, and as many results, works in place (an activation function, a
    reshape), so the two count once, under the name of the last. Cuts that lie within another are left out.
    """
    place = _places(graph)
    sizes = {
        name: prod(shape[1:])
        for name, shape in graph.sample_shapes.items()
        if graph.tensors[name].is_float and name not in graph.parameters
    }
    last = {name: index for index, node in enumerate(graph.nodes) for name in node.inputs if name}
    last.update(dict.fromkeys(graph.outputs, len(graph.nodes)))
    alive = {name for name in graph.inputs if name in sizes}
    cuts: list[Cut] = []
    for index, node in enumerate(graph.nodes):
        alive |= {name for name in node.outputs if name in sizes}
        cuts.append({place.get(name, name): sizes[place.get(name, name)] for name in sorted(alive)})
        alive = {name for name in alive if last.get(name, -1) > index}
    unique = [dict(items) for items in dict.fromkeys(tuple(cut.items()) for cut in cuts)]
    return tuple(cut for cut in unique if not any(cut.items() < other.items() for other in unique))


def peak_bytes(cuts: Sequence[Cut], bits: Callable[[str], float]) -> float:
    """The largest cut, when a value of a tensor takes `bits(name)` bits."""
    return max((sum(n * bits(name) for name, n in cut.items()) / 8 for cut in cuts), default=0.0)


def choice_cuts(
    cuts: Sequence[Cut], groups: Sequence[Candidates]
) -> tuple[Mapping[int, NDArray[np.float64]], ...]:
    """For each cut the bytes that every choice of each group puts into it: {group: [choices]}.

    What no group gives a format stays float32, the same under every choice, and is counted with group 0.
    """
    home = {name: index for index, group in enumerate(groups) for name in _formatted(group)}
    return tuple(_shares(cut, groups, home) for cut in cuts)


def _shares(
    cut: Cut, groups: Sequence[Candidates], home: Mapping[str, int]
) -> dict[int, NDArray[np.float64]]:
    shares: dict[int, NDArray[np.float64]] = {}
    for name, values in cut.items():
        index = home.get(name, 0)
        group = groups[index]
        bits = [
            specs[name].bits if name in specs else FLOAT_BITS
            for specs in (group.tensors(choice) for choice in group.choices)
        ]
        shares[index] = shares.get(index, np.zeros(len(bits))) + np.array(bits, np.float64) * values / 8
    return shares


def _formatted(group: Candidates) -> set[str]:
    return {name for choice in group.choices for name in group.tensors(choice)}


def _places(graph: Graph) -> dict[str, str]:
    """{tensor: the tensor that takes its place in memory} for what is worked on in place."""
    after: dict[str, str] = {}
    for node in graph.nodes:
        operands = [name for name in node.inputs if name and name not in graph.parameters]
        results = [name for name in node.outputs if name]
        if len(operands) != 1 or len(results) != 1 or node.name in _multiplying(graph):
            continue
        source, result = operands[0], results[0]
        shapes = (graph.sample_shapes.get(source), graph.sample_shapes.get(result))
        same = None not in shapes and prod(shapes[0] or ()) == prod(shapes[1] or ())
        if same and len(graph.consumers[source]) == 1 and source not in graph.inputs:
            after[source] = result
    places = dict(after)
    for name in reversed(list(after)):
        places[name] = places.get(after[name], after[name])
    return places


def _multiplying(graph: Graph) -> set[str]:
    return {layer.node for layer in graph.layers}
