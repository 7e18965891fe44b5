"""The graph and plan under construction: what translated operators read from and write to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from qsim.errors import GraphError
from qsim.formats import FLOAT32, Integer
from qsim.graph.inference import with_shapes
from qsim.graph.ir import Attribute, Graph, Node, Shape, Tensor
from qsim.graph.tflite.file import FileModel, FileOperator, FileTensor
from qsim.plan import BitPlan, LayerPlan, Role, TensorPlan
from qsim.spec import Granularity, Scale, Spec

Array = npt.NDArray[Any]
Layout = Literal["as_stored", "channels_first"]

_TO_CHANNELS_FIRST = (0, 3, 1, 2)
_TO_CHANNELS_LAST = (0, 2, 3, 1)
_ELEMENTS = {
    "int8": Integer(8, True),
    "uint8": Integer(8, False),
    "int16": Integer(16, True),
    "int32": Integer(32, True),
}


@dataclass(frozen=True)
class Place:
    """Where a tensor of the file lies in the graph: its name, and the axes it was transposed by (None: as stored)."""

    name: str
    permutation: tuple[int, ...] | None

    def to_graph(self, values: Array) -> Array:
        return values if self.permutation is None else values.transpose(self.permutation)

    def from_graph(self, values: Array) -> Array:
        return values if self.permutation is None else values.transpose(np.argsort(self.permutation))


@dataclass(frozen=True, eq=False)
class TfliteModel:
    """A graph, its integer plan, and where each activation of the file (by index) lies in the graph."""

    graph: Graph
    plan: BitPlan
    places: Mapping[int, Place]


class Translator:
    """The graph and plan under construction."""

    def __init__(self, file: FileModel) -> None:
        self.file = file
        self.nodes: list[Node] = []
        self.parameters: dict[str, Array] = {}
        self.tensors: dict[str, TensorPlan] = {}
        self.layers: dict[str, LayerPlan] = {}
        self.keeps_batch = all(file.tensors[index].shape[:1] == (1,) for index in file.inputs)
        self.operator: FileOperator | None = None
        self._names = _unique_names(file.tensors)
        self._places: dict[tuple[int, Layout], str] = {}
        for index in file.inputs:
            self._places[index, "as_stored"] = self._names[index]
            self._plan_activation(index, self._names[index])

    # What an operator reads

    def tensor(self, index: int) -> FileTensor:
        return self.file.tensors[index]

    def constant(self, index: int) -> Array:
        """The value of a constant input such as axes or paddings."""
        data = self.tensor(index).data
        if data is None:
            raise GraphError(f"operator {self._label()} needs '{self._names[index]}' to be a constant")
        return data

    def layout(self, index: int) -> Layout:
        """How an activation lies in the graph so far (a constant: as stored)."""
        return (
            "channels_first"
            if (index, "as_stored") not in self._places and (index, "channels_first") in self._places
            else "as_stored"
        )

    def read(self, index: int, layout: Layout = "as_stored") -> str:
        """The name of an activation in the given layout; a Transpose is added where it lies otherwise."""
        if (index, layout) in self._places:
            return self._places[index, layout]
        if self.tensor(index).data is not None:
            return self._constant_operand(index, layout)
        other: Layout = "channels_first" if layout == "as_stored" else "as_stored"
        if (index, other) not in self._places:
            raise GraphError(f"operator {self._label()} reads '{self._names[index]}', which nothing computes")
        if len(self.tensor(index).shape) != 4:
            raise GraphError(
                f"operator {self._label()} needs images; '{self._names[index]}' has shape {self.tensor(index).shape}"
            )
        name = f"{self._names[index]}:{'nchw' if layout == 'channels_first' else 'nhwc'}"
        permutation = _TO_CHANNELS_FIRST if layout == "channels_first" else _TO_CHANNELS_LAST
        self._places[index, layout] = name
        self._plan_activation(index, name)
        self.add_node(
            "Transpose", [self._places[index, other]], [name], {"perm": permutation}, name=f"transpose:{name}"
        )
        return name

    def weights(self, index: int, permutation: Sequence[int], axis: int) -> str:
        """A constant weight, transposed, as a real parameter with its codes in the plan; `axis` is its output axis."""
        file = self.tensor(index)
        codes = np.ascontiguousarray(self.constant(index).transpose(permutation))
        name = self._names[index]
        if name in self.parameters and self.parameters[name].shape != codes.shape:
            name = f"{name}:{len(self.parameters)}"
        self._plan_constant(name, file, codes, "weight", axis)
        return name

    def bias(self, operator: FileOperator, position: int) -> str | None:
        """The int32 bias at an input position, or None where there is none."""
        if position >= len(operator.inputs) or operator.inputs[position] < 0:
            return None
        index = operator.inputs[position]
        file, codes = self.tensor(index), self.constant(index)
        if file.dtype != "int32":
            raise GraphError(f"bias '{self._names[index]}' is {file.dtype}; only int32 is supported")
        self._plan_constant(self._names[index], file, codes, "bias", 0)
        return self._names[index]

    def integers(self, label: str, values: Sequence[int]) -> str:
        """An int64 parameter (a shape, pads, axes)."""
        return self._parameter(label, np.array(values, np.int64))

    def real(self, label: str, value: float) -> str:
        """A float32 scalar parameter."""
        return self._parameter(label, np.array(value, np.float32))

    # What an operator writes

    def write(self, index: int, layout: Layout = "as_stored") -> str:
        """Declare an output of the operator in a layout and return its name."""
        name = self._names[index]
        self._places[index, layout] = name
        self._plan_activation(index, name)
        return name

    def alias(self, index: int, source: int) -> None:
        """The output is the source itself (QUANTIZE of a float input, DEQUANTIZE of a float output)."""
        for layout in ("as_stored", "channels_first"):
            if (source, layout) in self._places:
                self._places[index, layout] = self._places[source, layout]
        if self.tensor(index).is_quantized:
            self._plan_activation(index, self._places[index, self.layout(index)])

    def add_node(
        self,
        op: str,
        inputs: Sequence[str | None],
        outputs: Sequence[str],
        attributes: Mapping[str, Attribute] | None = None,
        rule: str | None = None,
        name: str | None = None,
    ) -> None:
        name = name or self._label()
        self.nodes.append(Node(name, op, tuple(inputs), tuple(outputs), attributes or {}))
        if rule is not None:
            self.layers[name] = LayerPlan(requantize=rule)

    def before(self, index: int, step: str) -> str:
        """A tensor on the way to output `index`, of the same codes (before its activation function, say)."""
        name = f"{self._names[index]}:{step}"
        self._plan_activation(index, name)
        return name

    def mix_batch(self) -> None:
        """Note that an operator moves the batch axis, so that samples can only run one by one."""
        self.keeps_batch = False

    # The parts of the plan

    def _plan_activation(self, index: int, name: str) -> None:
        file = self.tensor(index)
        if file.is_quantized:
            self.tensors[name] = _tensor_plan(file, "activation", len(file.shape) - 1, None)

    def _plan_constant(self, name: str, file: FileTensor, codes: Array, role: Role, axis: int) -> None:
        if not file.is_quantized:
            raise GraphError(f"constant '{name}' is not quantized: a fully quantized model is needed")
        plan = _tensor_plan(file, role, axis, codes)
        self.tensors[name] = plan
        self.parameters[name] = _real(plan, codes)

    def _constant_operand(self, index: int, layout: Layout) -> str:
        """A constant operand of an addition or the like, of rank 4 where images are channels first."""
        file, codes = self.tensor(index), self.constant(index)
        name = self._names[index]
        if layout == "channels_first":
            codes = codes.reshape((1,) * (4 - codes.ndim) + codes.shape).transpose(_TO_CHANNELS_FIRST)
            name = f"{name}:nchw"
        if file.scale.size > 1:
            raise GraphError(
                f"operand '{name}' has one scale a channel; operands that are no weights take one scale"
            )
        self._plan_constant(name, file, np.ascontiguousarray(codes), "weight", 0)
        self._places[index, layout] = name
        return name

    def _parameter(self, label: str, value: Array) -> str:
        name = f"{self._label()}:{label}"
        self.parameters[name] = value
        return name

    def _label(self) -> str:
        return "input" if self.operator is None else f"{self.operator.op.lower()}_{self.operator.index}"

    def is_shape_arithmetic(self, operator: FileOperator) -> bool:
        """Whether an operator only computes integers such as shapes."""
        outputs = [self.tensor(index) for index in operator.outputs]
        return bool(outputs) and all(
            out.dtype in ("int32", "int64") and not out.is_quantized for out in outputs
        )

    # The result

    def finish(self, name: str) -> TfliteModel:
        inputs = tuple(self._names[index] for index in self.file.inputs)
        outputs = tuple(self.read(index, self.layout(index)) for index in self.file.outputs)
        tensors = {}
        for index, tensor in zip(self.file.inputs, inputs, strict=True):
            shape = self.tensor(index).shape
            batched: Shape = ("batch", *shape[1:]) if self.keeps_batch else shape
            tensors[tensor] = Tensor(tensor, batched, "float32", "input")
        plain = Graph(name, inputs, outputs, tuple(self.nodes), tensors, self.parameters)
        graph = with_shapes(plain)
        missing = [
            t
            for t, facts in graph.tensors.items()
            if facts.is_float and t not in self.tensors and facts.shape != ()
        ]
        if missing:
            raise GraphError(f"tensor '{missing[0]}' is not quantized: a fully quantized model is needed")
        plan = BitPlan(self.tensors, self.layers, name, graph.hash, provenance={"source": f"{name}.tflite"})
        return TfliteModel(graph, plan, self._graph_places())

    def _graph_places(self) -> dict[int, Place]:
        places = {}
        for index in {index for index, _ in self._places}:
            layout = self.layout(index)
            permutation = _TO_CHANNELS_FIRST if layout == "channels_first" else None
            places[index] = Place(self._places[index, layout], permutation)
        return places


def _unique_names(tensors: Sequence[FileTensor]) -> list[str]:
    """The file's own names; a repeated one gets its index."""
    seen: set[str] = set()
    names = []
    for tensor in tensors:
        name = tensor.name if tensor.name not in seen else f"{tensor.name}#{tensor.index}"
        seen.add(name)
        names.append(name)
    return names


def _tensor_plan(file: FileTensor, role: Role, axis: int, codes: Array | None) -> TensorPlan:
    element = _ELEMENTS.get(file.dtype)
    if element is None:
        raise GraphError(
            f"tensor '{file.name}' is {file.dtype}; quantized tensors are {', '.join(_ELEMENTS)}"
        )
    zero_point = file.zero_point if file.zero_point.size else np.zeros(1, np.int64)
    has_zero_point = bool(zero_point.any()) or role == "activation"
    if file.scale.size > 1:
        granularity, scale = Granularity("channel"), file.scale.copy()
        zero_point = np.broadcast_to(zero_point, scale.shape).copy()
    else:
        granularity, scale, zero_point = Granularity("tensor"), file.scale.reshape(()), zero_point.reshape(())
    spec = Spec(
        Integer(element.bits, element.signed, has_zero_point), granularity=granularity, scale=Scale(FLOAT32)
    )
    return TensorPlan(spec, role, axis, scale, zero_point if has_zero_point else None, codes)


def _real(plan: TensorPlan, codes: Array) -> npt.NDArray[np.float32]:
    """The real numbers that the codes of a weight or bias stand for, in float32."""
    shape = [-1 if axis == plan.axis % max(codes.ndim, 1) else 1 for axis in range(codes.ndim)]
    facts = (np.asarray(plan.scale), np.asarray(0 if plan.zero_point is None else plan.zero_point))
    scale, zero_point = (fact.reshape(shape) if fact.size > 1 else fact for fact in facts)
    return np.asarray((codes.astype(np.int64) - zero_point).astype(np.float32) * scale, np.float32)
