"""Older forms of ONNX operators rewritten to the newest one.

Most operators moved attributes to inputs over time (axes, split, pads, min and max); a node that still has the
attribute gets a constant input instead. `parameters` receives these constants.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from qsim.errors import GraphError
from qsim.graph.ir import Array, Node

# operator -> (attribute, place among the inputs, element type), in the order of the inputs
_MOVED: dict[str, tuple[tuple[str, int, str], ...]] = {
    "Squeeze": (("axes", 1, "int64"),),
    "Unsqueeze": (("axes", 1, "int64"),),
    "Split": (("split", 1, "int64"),),
    "Slice": (("starts", 1, "int64"), ("ends", 2, "int64"), ("axes", 3, "int64")),
    "Pad": (("pads", 1, "int64"), ("value", 2, "float32")),
    "Clip": (("min", 1, "float32"), ("max", 2, "float32")),
    "TopK": (("k", 1, "int64"),),
    "Upsample": (("scales", 1, "float32"),),
    "Tile": (("repeats", 1, "int64"),),
}
_MOVED |= {
    f"Reduce{kind}": (("axes", 1, "int64"),)
    for kind in ("Sum", "Mean", "Prod", "Max", "Min", "L1", "L2", "SumSquare", "LogSum", "LogSumExp")
}


def normalise(
    node: Node,
    opset: int,
    shapes: Mapping[str, tuple[int | None, ...]],
    dtypes: Mapping[str, str],
    parameters: dict[str, Array],
) -> list[Node]:
    """The nodes of the newest operator set that compute what `node` of `opset` does."""
    node = _attributes_to_inputs(node, parameters)
    match node.op:
        case "Softmax" | "LogSoftmax" | "Hardmax" if opset < 13:
            return _flattened_softmax(node, shapes)
        case "Upsample":
            return [replace(_resize_from_ten(node), op="Resize")]
        case "Resize" if opset == 10:
            return [_resize_from_ten(node)]
        case "BatchNormalization" if node.get("training_mode", 0):
            raise GraphError(
                f"node '{node.name}': BatchNormalization in training mode; export the model in eval mode"
            )
        case "BatchNormalization":
            return [replace(node, outputs=node.outputs[:1])]
        case "Cast" | "EyeLike" | "QuantizeLinear":
            return [_named_dtype(node, dtypes, parameters)]
    return [node]


def _attributes_to_inputs(node: Node, parameters: dict[str, Array]) -> Node:
    moved = [entry for entry in _MOVED.get(node.op, ()) if entry[0] in node.attributes]
    if not moved:
        return node
    inputs: list[str | None] = list(node.inputs)
    for attribute, place, dtype in moved:
        name = f"{node.outputs[0]}.{attribute}"
        value = np.array(node.get(attribute), dtype=dtype)
        parameters[name] = value.reshape(1) if node.op == "TopK" else value
        inputs += [None] * (place + 1 - len(inputs))
        inputs[place] = name
    names = {attribute for attribute, _, _ in moved}
    return _without(replace(node, inputs=tuple(inputs)), names)


def _without(node: Node, names: set[str]) -> Node:
    return replace(
        node, attributes={key: value for key, value in node.attributes.items() if key not in names}
    )


def _flattened_softmax(node: Node, shapes: Mapping[str, tuple[int | None, ...]]) -> list[Node]:
    """Before opset 13 softmax ran over all axes from `axis` (default 1) on, flattened to one."""
    source, target = str(node.inputs[0]), node.outputs[0]
    axis = node.get("axis", 1)
    rank = len(shapes[source]) if source in shapes else None
    if axis == -1 or (rank is not None and axis % rank == rank - 1):
        return [replace(node, attributes={"axis": -1})]
    flat, soft, shape = f"{target}.flat", f"{target}.soft", f"{target}.shape"
    return [
        Node(f"{node.name}/shape", "Shape", (source,), (shape,)),
        Node(f"{node.name}/flatten", "Flatten", (source,), (flat,), {"axis": axis}),
        Node(node.name, node.op, (flat,), (soft,), {"axis": -1}),
        Node(f"{node.name}/reshape", "Reshape", (soft, shape), (target,)),
    ]


def _resize_from_ten(node: Node) -> Node:
    """Upsample and Resize-10 (x, scales): output coordinate / scale, nearest rounds down."""
    if len(node.inputs) < 2:
        raise GraphError(f"node '{node.name}': {node.op} needs scales")
    attributes = {"mode": node.get("mode", "nearest"), "nearest_mode": "floor"}
    attributes["coordinate_transformation_mode"] = "asymmetric"
    return replace(node, inputs=(node.inputs[0], None, node.inputs[1]), attributes=attributes)


def _named_dtype(node: Node, dtypes: Mapping[str, str], parameters: Mapping[str, Array]) -> Node:
    """Element types by name instead of ONNX's number; QuantizeLinear states its output's."""
    from qsim.graph.onnx_import import dtype_name

    attributes: dict[str, Any] = dict(node.attributes)
    key = {"Cast": "to", "EyeLike": "dtype", "QuantizeLinear": "output_dtype"}[node.op]
    if isinstance(attributes.get(key), int) and attributes[key]:
        attributes[key] = dtype_name(attributes[key], node.name)
    elif node.op == "QuantizeLinear":
        zero = node.input(2) or ""
        held = str(parameters[zero].dtype) if zero in parameters else dtypes.get(zero, "uint8")
        attributes[key] = held
    return replace(node, attributes=attributes)
