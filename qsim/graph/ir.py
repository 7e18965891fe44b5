"""The one intermediate representation: tensors, nodes and the graph they form.

A `Graph` is what every importer makes and what emulator, cost models and searches read. It is frozen: a pass takes
a graph and returns another. The operator of a node and its semantics are those of ONNX, in one normalised operator
set (`NORMALISED_OPSET`), plus the QONNX quantizers; older forms are rewritten on import.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Union

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from qsim.graph.layers import Layer

NORMALISED_OPSET = 21
Array = npt.NDArray[Any]
Dimension = int | str
Shape = tuple[Dimension, ...]
Attribute = Union[int, float, str, tuple[Any, ...], Array, "Graph", None]
Kind = Literal["input", "parameter", "activation", "state"]

# Where operators other than layers hold learned parameters; the gain of a written-out normalisation is a factor.
_LEARNED = {
    "BatchNormalization": (1, 2),
    "LayerNormalization": (1, 2),
    "InstanceNormalization": (1, 2),
    "GroupNormalization": (1, 2),
    "RMSNormalization": (1,),
    "PRelu": (1,),
    "Gather": (0,),
}


@dataclass(frozen=True)
class Tensor:
    """One named tensor; a dimension is a length or the name of a symbol ("batch", "time", "2*time").

    `dtype` is NumPy's name of the element type ("float32", "int64"). A `state` is a graph input that a run hands
    back as an output for the next run (hidden state of a recurrent layer, key-value cache).
    """

    name: str
    shape: Shape
    dtype: str
    kind: Kind

    @property
    def is_float(self) -> bool:
        return self.dtype.startswith(("float", "bfloat"))


@dataclass(frozen=True, eq=False)
class Node:
    """One operator: `op` names its ONNX (or QONNX) semantics; an input that is left out is None."""

    name: str
    op: str
    inputs: tuple[str | None, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Attribute] = field(default_factory=dict)

    def get(self, attribute: str, default: Any = None) -> Any:
        """The value of an attribute, or `default` where the node does not state it."""
        value = self.attributes.get(attribute)
        return default if value is None else value

    def input(self, index: int) -> str | None:
        """The name of the input at `index`, or None where it is left out."""
        return self.inputs[index] if index < len(self.inputs) else None


@dataclass(frozen=True, eq=False)
class Graph:
    """A network: `nodes` in topological order over named `tensors`.

    `parameters` holds the constants; a tensor used twice is stored once. `lengths` states, for every symbolic
    dimension of the inputs, the sample length at which shapes and MACs of the layers are evaluated (batch is 1).
    `added` names the nodes that a transform put in (a rotation, a low-rank branch): they are no layers of the user's
    network and stay in float32 unless a plan names their tensors. The arrays are shared, not copied: treat them as
    read-only.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    tensors: Mapping[str, Tensor]
    parameters: Mapping[str, Array]
    lengths: Mapping[str, int] = field(default_factory=dict)
    sample_shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    added: frozenset[str] = frozenset()

    @cached_property
    def hash(self) -> str:
        """Hex SHA-256 of the content: nodes, inputs, outputs and parameters (not the graph's own name)."""
        digest = hashlib.sha256()
        for node in self.nodes:
            attributes = {key: _plain(value) for key, value in sorted(node.attributes.items())}
            digest.update(json.dumps([node.op, node.inputs, node.outputs, attributes]).encode())
        for name in (*self.inputs, *self.outputs):
            tensor = self.tensors[name]
            digest.update(json.dumps([name, tensor.shape, tensor.dtype]).encode())
        for name, array in sorted(self.parameters.items()):
            digest.update(json.dumps([name, array.shape, str(array.dtype)]).encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    @cached_property
    def producers(self) -> dict[str, Node]:
        """The node that makes each tensor (inputs and parameters have none)."""
        return {output: node for node in self.nodes for output in node.outputs if output}

    @cached_property
    def consumers(self) -> dict[str, tuple[Node, ...]]:
        """The nodes that read each tensor, in order, each once; empty for an unused tensor."""
        readers: dict[str, list[Node]] = {name: [] for name in self.tensors}
        for node in self.nodes:
            for name in dict.fromkeys(node.inputs):
                if name:
                    readers[name].append(node)
        return {name: tuple(nodes) for name, nodes in readers.items()}

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """The layers that multiply and accumulate, in order of execution."""
        from qsim.graph.layers import find_layers

        return find_layers(self)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one sample (symbolic lengths as `lengths` states)."""
        return sum(layer.macs for layer in self.layers)

    @cached_property
    def parameter_count(self) -> int:
        """Learned parameters: of layers, embeddings and normalisations; a tied tensor counts once."""
        held = {name for layer in self.layers for name in (layer.weights, layer.bias)}
        for node in self.nodes:
            held.update(node.inputs[place] for place in _LEARNED.get(node.op, ()) if node.input(place))
            if node.op == "Mul":
                held.update(name for name in node.inputs if self._is_vector(name))
        return sum(
            array.size for name, array in self.parameters.items() if name in held and array.dtype.kind != "i"
        )

    def _is_vector(self, name: str | None) -> bool:
        """A parameter with one axis longer than 1."""
        array = self.parameters.get(name or "")
        return array is not None and array.size == max(array.shape, default=1) > 1

    def summary(self) -> str:
        """A plain table of the layers: name, kind, weights, output shape, MACs and parameters."""
        from qsim.graph.layers import summary_table

        return summary_table(self)


def _plain(value: Attribute) -> Any:
    """An attribute as JSON can hold it."""
    if isinstance(value, np.ndarray):
        return [
            str(value.dtype),
            value.shape,
            hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest(),
        ]
    return value.hash if isinstance(value, Graph) else value
