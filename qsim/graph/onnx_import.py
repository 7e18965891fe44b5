"""From ONNX protobuf to Graph: nodes, parameters and inputs, in the normalised operator set."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from qsim.errors import GraphError
from qsim.graph.ir import Array, Attribute, Graph, Node, Tensor
from qsim.graph.onnx_file import opset_of, read_model
from qsim.graph.opsets import normalise

KnownShape = tuple[int | None, ...]
_QUANTIZERS = ("Quant", "IntQuant", "BipolarQuant", "Trunc", "FloatQuant")
_DOMAINS = (
    "",
    "ai.onnx",
    "com.microsoft",
    "qonnx.custom_op.general",
    "onnx.brevitas",
    "finn.custom_op.general",
)
_CONTROL_FLOW = ("Loop", "Scan")
ADDED_KEY = "qsim_added"  # metadata of a model: Graph.added, a name a line


@dataclass(frozen=True)
class Facts:
    """What ONNX's own inference says about a tensor before anything runs: lengths (None: unknown) and type."""

    shapes: Mapping[str, KnownShape]
    dtypes: Mapping[str, str]


def import_onnx(path: Path) -> tuple[Graph, Facts]:
    """The graph of an ONNX file as written: normalised operators, nothing folded, no activation shapes yet."""
    model = read_model(path)
    supported = _supported_operators()
    try:
        _check_operators(model.graph, supported)
        facts = _infer(model)
        graph = replace(_convert(model.graph, opset_of(model), facts), added=_added(model))
    except GraphError as error:
        raise GraphError(f"'{path}': {error}") from error
    _check_names(graph, path)
    return replace(graph, name=path.stem if path.stem != "model" else path.resolve().parent.name), facts


def _added(model: onnx.ModelProto) -> frozenset[str]:
    """Names of the nodes that a transform of ours put in, from the model's metadata."""
    text = next((entry.value for entry in model.metadata_props if entry.key == ADDED_KEY), "")
    return frozenset(text.split("\n")) - {""}


def _supported_operators() -> frozenset[str]:
    from qsim.emulator.operators import OPERATORS

    return frozenset(OPERATORS)


def _infer(model: onnx.ModelProto) -> Facts:
    """Shapes and types by onnx.shape_inference, trusting the declared inputs only, not annotations inside."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.value_info[:]
    for node in copy.graph.node:
        if node.op_type in _QUANTIZERS:  # unknown to ONNX; they keep shape and type
            node.op_type, node.domain = "Identity", ""
            del node.input[1:]
            del node.attribute[:]
    try:
        _check_well_formed(copy)
        for output in copy.graph.output:
            output.type.tensor_type.ClearField("shape")
        # Following values makes onnx write these operators' results out, however long a file says they are.
        follow_values = not {"ConstantOfShape", "Range"} & {node.op_type for node in copy.graph.node}
        inferred = onnx.shape_inference.infer_shapes(copy, data_prop=follow_values).graph
    except Exception:  # inference is a help, never a need: without it less is folded
        inferred = copy.graph
    shapes: dict[str, KnownShape] = {}
    dtypes: dict[str, str] = {}
    for value in (*inferred.input, *inferred.value_info, *inferred.output):
        tensor = value.type.tensor_type
        if tensor.elem_type:
            dtypes[value.name] = dtype_name(tensor.elem_type, value.name)
        if tensor.HasField("shape"):
            dims = tensor.shape.dim
            shapes[value.name] = tuple(d.dim_value if d.HasField("dim_value") else None for d in dims)
    for tensor in inferred.initializer:
        shapes[tensor.name] = tuple(tensor.dims)
        dtypes[tensor.name] = dtype_name(tensor.data_type, tensor.name)
    return Facts(shapes, dtypes)


def _check_well_formed(model: onnx.ModelProto) -> None:
    """Raise where a node is malformed: onnx's inference would crash the whole process on some of these."""
    for output in model.graph.output:  # the checker insists on shapes that inference is to find
        output.type.tensor_type.shape.SetInParent()
    onnx.checker.check_model(model)


def dtype_name(code: int, owner: str) -> str:
    """NumPy's name of an ONNX element type."""
    if code == onnx.TensorProto.STRING:
        raise GraphError(f"tensor '{owner}' holds strings; only numbers are supported")
    try:
        return str(onnx.helper.tensor_dtype_to_np_dtype(code))
    except (KeyError, ValueError) as error:
        raise GraphError(f"tensor '{owner}' has the unknown element type {code}") from error


def _convert(proto: onnx.GraphProto, opset: int, facts: Facts) -> Graph:
    parameters = {t.name: _array(t, t.name) for t in proto.initializer}
    tensors = {v.name: _input(v) for v in proto.input if v.name not in parameters}
    nodes: list[Node] = []
    for index, node in enumerate(proto.node):
        converted = _node(node, index, opset, facts)
        if converted.op == "Constant":
            parameters[converted.outputs[0]] = _constant(converted)
        else:
            nodes += normalise(converted, opset, facts.shapes, facts.dtypes, parameters)
    return Graph(
        name=proto.name,
        inputs=tuple(tensors),
        outputs=tuple(v.name for v in proto.output),
        nodes=tuple(nodes),
        tensors=tensors,
        parameters=parameters,
    )


def _input(value: onnx.ValueInfoProto) -> Tensor:
    if value.type.WhichOneof("value") != "tensor_type":
        kind = value.type.WhichOneof("value") or "nothing"
        raise GraphError(f"input '{value.name}' is a {kind}; only tensors are supported")
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        raise GraphError(
            f"input '{value.name}' has no shape; state its rank with symbolic dimensions at least"
        )
    shape = []
    for axis, dim in enumerate(tensor.shape.dim):
        unnamed = "batch" if axis == 0 else f"{value.name}.{axis}"
        fixed = dim.HasField("dim_value") and dim.dim_value > 0
        shape.append(int(dim.dim_value) if fixed else dim.dim_param or unnamed)
    return Tensor(value.name, tuple(shape), dtype_name(tensor.elem_type, value.name), "input")


def _node(proto: onnx.NodeProto, index: int, opset: int, facts: Facts) -> Node:
    outputs = tuple(proto.output)
    name = proto.name or next((o for o in outputs if o), f"{proto.op_type}_{index}")
    attributes = {a.name: _attribute(a, name, opset, facts) for a in proto.attribute}
    return Node(name, proto.op_type, tuple(i or None for i in proto.input), _trimmed(outputs), attributes)


def _trimmed(outputs: tuple[str, ...]) -> tuple[str, ...]:
    """Without the unnamed outputs at the end, so that a node's outputs say what is asked of it."""
    while outputs and not outputs[-1]:
        outputs = outputs[:-1]
    return outputs


def _check_operators(graph: onnx.GraphProto, supported: frozenset[str]) -> None:
    """Every operator, also those inside branches, has a meaning here."""
    for node in graph.node:
        _check_supported(node, node.name or next(iter(node.output), node.op_type), supported)
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                _check_operators(attribute.g, supported)


def _check_supported(proto: onnx.NodeProto, name: str, supported: frozenset[str]) -> None:
    extra = {"Constant", "If", "Upsample"}
    if proto.op_type in _CONTROL_FLOW:
        raise GraphError(
            f"node '{name}': operator {proto.op_type} (control flow) is not supported; unroll it in the export"
        )
    if proto.domain in _DOMAINS and proto.op_type in supported | extra:
        return
    near = difflib.get_close_matches(proto.op_type, sorted(supported), n=3, cutoff=0.4)
    where = f" of domain '{proto.domain}'" if proto.domain not in ("", "ai.onnx") else ""
    hint = f"; the nearest supported ones are {', '.join(near)}" if near else ""
    raise GraphError(f"node '{name}': operator {proto.op_type}{where} is not supported{hint}")


def _attribute(proto: onnx.AttributeProto, node: str, opset: int, facts: Facts) -> Attribute:
    kinds = onnx.AttributeProto
    match proto.type:
        case kinds.FLOAT:
            return float(proto.f)
        case kinds.INT:
            return int(proto.i)
        case kinds.STRING:
            return proto.s.decode("utf-8", "replace")
        case kinds.TENSOR:
            return _array(proto.t, f"{node}.{proto.name}")
        case kinds.FLOATS:
            return tuple(float(v) for v in proto.floats)
        case kinds.INTS:
            return tuple(int(v) for v in proto.ints)
        case kinds.STRINGS:
            return tuple(s.decode("utf-8", "replace") for s in proto.strings)
        case kinds.GRAPH:
            return _convert(proto.g, opset, facts)
    raise GraphError(f"node '{node}': attribute '{proto.name}' has a type that is not supported")


def _array(tensor: onnx.TensorProto, name: str) -> Array:
    dtype_name(tensor.data_type, name)
    try:
        array: Array = numpy_helper.to_array(tensor)
    except Exception as error:  # malformed bytes raise whatever NumPy raises
        reason = " ".join(str(error).split())
        raise GraphError(f"tensor '{name}' does not hold what its shape and type say: {reason}") from error
    return array if array.flags.writeable else array.copy()


def _constant(node: Node) -> Array:
    known: dict[str, Any] = {"value_float": np.float32, "value_floats": np.float32}
    known |= {"value_int": np.int64, "value_ints": np.int64}
    value = node.get("value")
    if isinstance(value, np.ndarray):
        return value
    for key, dtype in known.items():
        if node.attributes.get(key) is not None:
            return np.array(node.get(key), dtype=dtype)
    raise GraphError(f"node '{node.name}': a Constant of kind {', '.join(node.attributes)} is not supported")


def _check_names(graph: Graph, path: Path) -> None:
    """Every tensor is made once, before it is used."""
    known = {*graph.inputs, *graph.parameters}
    for node in graph.nodes:
        absent = next((i for i in node.inputs if i and i not in known), None)
        if absent:
            raise GraphError(
                f"'{path}': node '{node.name}' ({node.op}) reads '{absent}', which nothing made before"
            )
        again = next((o for o in node.outputs if o and o in known), None)
        if again:
            raise GraphError(f"'{path}': node '{node.name}' ({node.op}) makes '{again}' a second time")
        known.update(o for o in node.outputs if o)
    absent = next((o for o in graph.outputs if o not in known), None)
    if absent:
        raise GraphError(f"'{path}': nothing makes the output '{absent}'")
