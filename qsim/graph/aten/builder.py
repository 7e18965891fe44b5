"""What every converter from torch's operators works with: the table and the builder of nodes and constants.

A converter takes the builder and the operator's arguments (tensors by name, numbers as they are) and returns the
name of its result, or a list of names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from qsim.graph.ir import Array, Attribute, Node

Value = Any  # a tensor's name, a list of names, a number, None
Converter = Callable[..., Value]
CONVERTERS: dict[str, Converter] = {}
LAST = 2**62  # an end beyond every axis
_LAYER_OPS = ("Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum", "LSTM", "GRU", "RNN")


def aten(*names: str) -> Callable[[Converter], Converter]:
    """Register the converter of the named overloads ("conv2d.default")."""

    def register(converter: Converter) -> Converter:
        CONVERTERS.update({f"aten.{name}": converter for name in names})
        return converter

    return register


class Builder:
    """Collects nodes and constants while the calls of an exported program are converted in order."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.constants: dict[str, Array] = {}
        self.values: dict[str, Value] = {}
        self.current: Any = None  # the torch.fx node being converted
        self._names: set[str] = set()
        self._outputs: set[str] = set()

    def resolve(self, argument: Any) -> Value:
        """torch.fx nodes replaced by what they became, inside lists too."""
        if isinstance(argument, torch.fx.Node):
            return self.values[argument.name]
        if isinstance(argument, (list, tuple)):
            return [self.resolve(item) for item in argument]
        return argument

    def emit(
        self, op: str, *inputs: Any, name: str | None = None, outputs: int = 1, **attributes: Attribute
    ) -> Value:
        """Add a node; numbers among the inputs become constants. Returns its output, or a list of several."""
        while inputs and inputs[-1] is None:
            inputs = inputs[:-1]
        names = tuple(self.tensor(value) if value is not None else None for value in inputs)
        base = name or self._unique(self.current.name)
        results = (base,) if outputs == 1 else tuple(f"{base}.{i}" for i in range(outputs))
        # ONNX holds attributes in float32: the same number whether a network comes from a module or from a file.
        given = {
            key: float(np.float32(value)) if isinstance(value, float) else value
            for key, value in attributes.items()
            if value is not None
        }
        self.nodes.append(Node(self._node_name(op, base), op, names, results, given))
        self._names.add(base)
        return results[0] if outputs == 1 else list(results)

    def tensor(self, value: Any) -> str:
        """The name of a tensor, or of a new constant that holds a number or array."""
        if isinstance(value, str):
            return value
        array = np.asarray(value, dtype=np.float32 if isinstance(value, float) else None)
        return self.constant(array)

    def constant(self, array: Array) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants[name] = array
        return name

    def integers(self, values: Sequence[Any]) -> str:
        """A one-dimensional tensor of integers, some of which may be computed at run time."""
        if all(isinstance(v, int) for v in values):
            return self.constant(np.array(values, dtype=np.int64))
        parts = [
            self.emit("Unsqueeze", v, np.array([0])) if isinstance(v, str) else np.array([v]) for v in values
        ]
        return str(self.emit("Concat", *parts, axis=0))

    def integer(self, value: Any) -> str:
        return value if isinstance(value, str) else self.constant(np.array(value, dtype=np.int64))

    def example(self, index: int = 0) -> Any:
        """What torch knows of the argument at `index`: shape and element type."""
        argument = self.current.args[index]
        return argument.meta["val"]

    def result(self) -> Any:
        """What torch knows of the result."""
        return self.current.meta["val"]

    def output(self, value: Any, name: str) -> str:
        """A graph output: inputs, parameters and doubly used results go through an Identity of their own."""
        made = {output for node in self.nodes for output in node.outputs}
        if isinstance(value, str):
            value = self.values.get(value, value)
        if value in made and value not in self._outputs:
            self._outputs.add(value)
            return str(value)
        self.nodes.append(Node(name, "Identity", (self.tensor(value),), (name,)))
        return name

    def _unique(self, base: str) -> str:
        name, count = base, 0
        while name in self._names:
            count += 1
            name = f"{base}_{count}_"
        return name

    def _node_name(self, op: str, base: str) -> str:
        """The module's own path ("layer1.0.conv1") for what multiplies and accumulates, else the result's name."""
        stack = list((self.current.meta.get("nn_module_stack") or {}).values())
        path = str(stack[-1][0]) if stack else ""
        if op not in _LAYER_OPS or not path:
            return base
        return path if path not in {node.name for node in self.nodes} else f"{path}.{base}"


def like(build: Builder, value: Any, index: int = 0) -> Any:
    """A number as a constant of the element type of the tensor argument at `index`."""
    if isinstance(value, str) or value is None:
        return value
    dtype = build.example(index).dtype
    if isinstance(value, float) and not dtype.is_floating_point:
        return np.array(value, dtype=np.float32)
    return np.array(
        value, dtype=np.dtype(str(dtype).removeprefix("torch.")) if dtype != torch.bfloat16 else np.float32
    )


def sizes_of(value: Any, rank: int) -> tuple[int, ...]:
    """A number or list of torch as one length per spatial axis."""
    values = tuple(value) if isinstance(value, (list, tuple)) else (value,)
    return values * rank if len(values) == 1 else values
