"""The fused chain of a layer: bias and activation function, which hardware applies before a result is stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qsim.graph.ir import Graph, Node

_ACTIVATIONS = frozenset(
    "Relu Clip LeakyRelu PRelu HardSigmoid HardSwish Sigmoid Tanh Gelu QuickGelu Elu Selu Celu Softplus Softsign Mish "
    "Swish ThresholdedRelu Erf BatchNormalization Neg Abs Exp".split()
)
_ARITHMETIC = frozenset(("Add", "Sub", "Mul", "Div", "Max", "Min", "Pow"))
_LONGEST_ACTIVATION = 12  # nodes of one written-out activation function (GELU by tanh has nine)


@dataclass(frozen=True)
class Chain:
    """Where a layer's fused chain ends, the bias added on the way, and the names of its nodes."""

    output: str
    bias: str | None
    nodes: tuple[str, ...]


def fused_chain(graph: Graph, tensor: str, bias: str | None, channel_axis: int) -> Chain:
    """Follow the element-wise nodes behind a layer's result for as long as nothing else reads what is between.

    The other operand of an arithmetic node must be a constant for all elements or per channel. Activations written
    out in several nodes (x * sigmoid(x), GELU by Erf) belong to the chain where their branches meet again.
    """
    nodes: list[str] = []
    while tensor not in graph.outputs:
        region = _next_region(graph, tensor, channel_axis)
        if not region:
            break
        only = region[0]
        if bias is None and not nodes and len(region) == 1 and only.op == "Add":
            constant = next(str(name) for name in only.inputs if name != tensor)
            bias = constant if graph.parameters[constant].size > 1 else None
        nodes += [node.name for node in region]
        tensor = region[-1].outputs[0]
    return Chain(tensor, bias, tuple(nodes))


def _next_region(graph: Graph, start: str, channel_axis: int) -> list[Node]:
    """The fewest nodes behind `start` after which one tensor alone is left to read; empty if there are none."""
    region: list[Node] = []
    known = {start}
    rank = len(graph.sample_shapes[start])
    open_readers = {start: len(graph.consumers[start])}
    while len(region) < _LONGEST_ACTIVATION:
        node = _next_node(graph, known, region, rank, channel_axis)
        if node is None:
            return []
        region.append(node)
        for name in dict.fromkeys(node.inputs):
            if name in open_readers:
                open_readers[name] -= 1
        output = node.outputs[0]
        known.add(output)
        open_readers[output] = len(graph.consumers[output])
        if all(count == 0 for name, count in open_readers.items() if name != output):
            return region
        if output in graph.outputs:
            return []
    return []


def _next_node(
    graph: Graph, known: set[str], region: list[Node], rank: int, channel_axis: int
) -> Node | None:
    for tensor in known:
        for node in graph.consumers[tensor]:
            if node not in region and _is_elementwise(graph, node, known, rank, channel_axis):
                return node
    return None


def _is_elementwise(graph: Graph, node: Node, known: set[str], rank: int, channel_axis: int) -> bool:
    """Whether a node computes each element from the same element of known tensors and constants per channel."""
    if node.op not in _ACTIVATIONS | _ARITHMETIC:
        return False
    if graph.sample_shapes.get(node.outputs[0], ()) != graph.sample_shapes[next(iter(known))]:
        return False
    others = [name for name in node.inputs if name and name not in known]
    if any(name not in graph.parameters for name in others):
        return False
    if node.op in _ACTIVATIONS:
        return True
    return all(_is_per_channel(graph.parameters[name].shape, rank, channel_axis) for name in others)


def _is_per_channel(shape: tuple[int, ...], rank: int, channel_axis: int) -> bool:
    full = (1,) * (rank - len(shape)) + shape
    return len(full) == rank and all(n == 1 for axis, n in enumerate(full) if axis != channel_axis)
