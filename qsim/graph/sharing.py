"""Which tensors may take a number system, and which must take the same one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from qsim.graph.folding import WEIGHT_QUANTIZERS
from qsim.graph.ir import Graph, Node

_PASS_THROUGH = frozenset(
    "Reshape Flatten Transpose Squeeze Unsqueeze Identity Expand Tile Slice Split Gather GatherElements GatherND "
    "DepthToSpace SpaceToDepth ReverseSequence Pad MaxPool GlobalMaxPool ReduceMax ReduceMin TopK Compress "
    "Trilu".split()
)
_ALIGNED = frozenset(("Add", "Sub", "Sum", "Max", "Min", "Mean"))  # operands are added on one scale


def quantizable(graph: Graph) -> tuple[str, ...]:
    """The tensors that may take a spec: parameters used as weights and activations that enter a layer.

    In order of use. A tensor that a quantizer of the model itself already gives its values is left out, and one
    that only layers read which a transform added; `not_quantizable` says why each other tensor is.
    """
    names = [name for layer in graph.layers if not layer.added for name in (layer.input, layer.weights)]
    fixed = _fixed_by_model(graph)
    return tuple(n for n in dict.fromkeys(names) if n not in fixed and graph.tensors[n].is_float)


def not_quantizable(graph: Graph) -> dict[str, str]:
    """For every other tensor the reason, in one phrase."""
    allowed = set(quantizable(graph))
    fixed = _fixed_by_model(graph)
    inside = {
        output: layer.name
        for layer in graph.layers
        for node in graph.nodes
        if node.name in (layer.node, *layer.chain)
        for output in node.outputs
        if output != layer.output
    }
    biases = {layer.bias: layer.name for layer in graph.layers if layer.bias}
    added = {t: layer.name for layer in graph.layers if layer.added for t in (layer.input, layer.weights)}
    reasons = {}
    for name, tensor in graph.tensors.items():
        if name in allowed:
            continue
        if not tensor.is_float:
            reasons[name] = f"holds {tensor.dtype}, no real numbers"
        elif name in fixed:
            reasons[name] = f"quantized by the model's own node '{fixed[name]}'"
        elif name in biases:
            reasons[name] = f"bias of layer '{biases[name]}': takes the scale of its accumulator"
        elif name in added:
            reasons[name] = f"read by layer '{added[name]}', which a transform added in float32"
        elif name in inside:
            reasons[name] = f"inside the fused chain of layer '{inside[name]}'"
        else:
            reasons[name] = "enters no multiply-accumulate layer"
    return reasons


def _fixed_by_model(graph: Graph) -> dict[str, str]:
    """Tensors on either side of a quantizer that came with the model."""
    fixed: dict[str, str] = {}
    for node in graph.nodes:
        if node.op in (*WEIGHT_QUANTIZERS, "Trunc"):
            fixed[node.outputs[0]] = node.name
            if node.inputs[0] in graph.parameters:
                fixed[str(node.inputs[0])] = node.name
        elif node.op in _PASS_THROUGH and node.inputs[0] in fixed:
            fixed.update(dict.fromkeys(node.outputs, fixed[str(node.inputs[0])]))
    return fixed


def share_groups(graph: Graph) -> tuple[frozenset[str], ...]:
    """Sets of tensors that must share a format.

    Operands of a residual addition, everything a concatenation joins, the two sides of an operator that only moves
    or selects values, and a state with the output that becomes it. A tied weight is one tensor already.
    """
    groups = _Groups(name for name, tensor in graph.tensors.items() if tensor.is_float)
    for node in graph.nodes:
        real = [name for name in node.inputs if name and name in groups and name not in graph.parameters]
        if node.op == "Gather" and node.inputs[0] in graph.parameters:
            continue  # an embedding: the table and the activation it becomes may differ
        if node.op in _PASS_THROUGH or (node.op == "Resize" and node.get("mode", "nearest") == "nearest"):
            groups.join([str(node.inputs[0]), *node.outputs])
        elif node.op in ("Concat", "Where"):
            groups.join([*real, *node.outputs])
        elif node.op in _ALIGNED:
            groups.join(real)
    for state, following in state_pairs(graph):
        groups.join([state, following])
    return groups.found()


class _Groups:
    """Disjoint sets of names."""

    def __init__(self, names: Iterable[str]) -> None:
        self.parent = {name: name for name in names}

    def __contains__(self, name: object) -> bool:
        return name in self.parent

    def root(self, name: str) -> str:
        while self.parent[name] != name:
            name = self.parent[name]
        return name

    def join(self, names: Iterable[str]) -> None:
        members = [name for name in names if name in self.parent]
        for name in members[1:]:
            self.parent[self.root(name)] = self.root(members[0])

    def found(self) -> tuple[frozenset[str], ...]:
        sets: dict[str, list[str]] = {}
        for name in self.parent:
            sets.setdefault(self.root(name), []).append(name)
        return tuple(frozenset(members) for members in sets.values() if len(members) > 1)


def state_pairs(graph: Graph) -> tuple[tuple[str, str], ...]:
    """(input, output) where the output of one run is the input of the next.

    Known by structure (the initial and the last state of a recurrent node, a cache that a Concat extends) or by name
    and shape (state -> stateN, h -> hn, past... -> present...).
    """
    pairs: dict[str, str] = {}
    for node in graph.nodes:
        for before, after in _node_states(node):
            source, target = _origin(graph, before), _destination(graph, after)
            if (
                source in graph.inputs
                and target in graph.outputs
                and source is not None
                and target is not None
            ):
                pairs[source] = target
    for name in graph.inputs:
        tensor = graph.tensors[name]
        wanted = name.replace("past_key_values", "present").replace("past", "present")
        for output in graph.outputs:
            follows = output.startswith(name) or output == wanted
            other = graph.tensors[output]
            if follows and tensor.is_float and other.is_float and len(tensor.shape) == len(other.shape):
                pairs.setdefault(name, output)
    return tuple(pairs.items())


def _node_states(node: Node) -> list[tuple[str, str]]:
    if node.op in ("LSTM", "GRU", "RNN"):
        pairs = zip((5, 6), (1, 2), strict=True)
        return [
            (str(node.input(i)), node.outputs[o]) for i, o in pairs if node.input(i) and o < len(node.outputs)
        ]
    if node.op == "Concat":
        return [(name, node.outputs[0]) for name in node.inputs if name]
    return []


def _origin(graph: Graph, tensor: str) -> str | None:
    """The graph input that `tensor` is a view of."""
    while tensor not in graph.inputs:
        node = graph.producers.get(tensor)
        if node is None or node.op not in _PASS_THROUGH or node.inputs[0] is None:
            return None
        tensor = node.inputs[0]
    return tensor


def _destination(graph: Graph, tensor: str) -> str | None:
    """The graph output that is a view of `tensor`."""
    if tensor in graph.outputs:
        return tensor
    for node in graph.consumers.get(tensor, ()):
        if node.op == "Concat" or (node.op in _PASS_THROUGH and node.inputs[0] == tensor):
            found = _destination(graph, node.outputs[0])
            if found is not None:
                return found
    return None


def mark_states(graph: Graph) -> Graph:
    """`graph` with the inputs that carry state marked as such."""
    states = {name for name, _ in state_pairs(graph)}
    tensors = {n: replace(t, kind="state") if n in states else t for n, t in graph.tensors.items()}
    return replace(graph, tensors=tensors)
