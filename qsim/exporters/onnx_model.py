"""A Graph as an ONNX model: the frame that the ONNX exporters fill."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from qsim.errors import UserError
from qsim.graph.ir import NORMALISED_OPSET
from qsim.graph.onnx_import import ADDED_KEY

if TYPE_CHECKING:
    from qsim.graph import Graph, Node

# onnxruntime reads IR 13 at most; 10 is what belongs to operator set 21.
IR_VERSION = 10
_NEWER_OPERATORS = {
    "RMSNormalization": 23,
    "Swish": 24,
}  # standard operators that came after the normalised set
_QONNX, _MICROSOFT = "qonnx.custom_op.general", "com.microsoft"
_DOMAINS = {
    **dict.fromkeys(("Quant", "IntQuant", "BipolarQuant", "Trunc", "FloatQuant"), _QONNX),
    "QuickGelu": _MICROSOFT,
}
_ELEMENT_TYPES = {"Cast": ("to",), "EyeLike": ("dtype",), "QuantizeLinear": ("output_dtype",)}


def onnx_node(node: Node, inputs: Sequence[str]) -> NodeProto:
    """One node, reading `inputs` instead of its own ("" where an input is left out)."""
    attributes = {
        key: _element_type(value) if key in _ELEMENT_TYPES.get(node.op, ()) else _attribute(value)
        for key, value in node.attributes.items()
        if value is not None and not _is_empty(value)
    }
    domain = _DOMAINS.get(node.op, "")
    return helper.make_node(
        node.op, list(inputs), list(node.outputs), name=node.name, domain=domain, **attributes
    )


def onnx_model(
    graph: Graph,
    nodes: Iterable[NodeProto],
    initializers: Mapping[str, TensorProto],
    metadata: Mapping[str, str],
) -> onnx.ModelProto:
    """A checked model with the inputs and outputs of `graph`; `metadata` goes into metadata_props.

    Raises UserError where ONNX cannot hold it.
    """
    nodes = list(nodes)
    opset = max(_NEWER_OPERATORS.get(node.op_type, NORMALISED_OPSET) for node in nodes)
    domains = sorted({node.domain for node in nodes} - {""})
    marks = {ADDED_KEY: "\n".join(sorted(graph.added))} if graph.added else {}
    used = {name for node in nodes for name in node.input} | set(graph.outputs)
    proto = helper.make_graph(
        nodes,
        graph.name or "qsim",
        [_value_info(graph, name) for name in graph.inputs],
        [_value_info(graph, name) for name in graph.outputs],
        [tensor for name, tensor in initializers.items() if name in used],
    )
    model = helper.make_model(
        proto,
        opset_imports=[helper.make_opsetid("", opset), *(helper.make_opsetid(name, 1) for name in domains)],
        ir_version=IR_VERSION,
        producer_name="qsim",
    )
    helper.set_model_props(model, {**metadata, **marks})
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise UserError(
            f"model '{graph.name}' cannot be written as ONNX: {str(error).splitlines()[0]}"
        ) from None
    return model


def initializer(name: str, array: np.ndarray[Any, Any]) -> TensorProto:
    """An array as a stored tensor."""
    return numpy_helper.from_array(np.asarray(array, order="C"), name)


def _value_info(graph: Graph, name: str) -> ValueInfoProto:
    tensor = graph.tensors[name]
    return helper.make_tensor_value_info(
        name, helper.np_dtype_to_tensor_dtype(np.dtype(tensor.dtype)), list(tensor.shape)
    )


def _element_type(value: Any) -> Any:
    """An element type by ONNX's number; a Graph names it as NumPy does."""
    return helper.np_dtype_to_tensor_dtype(np.dtype(value)) if isinstance(value, str) else value


def _attribute(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return numpy_helper.from_array(value)
    return list(value) if isinstance(value, tuple) else value


def _is_empty(value: Any) -> bool:
    return isinstance(value, tuple) and not value
