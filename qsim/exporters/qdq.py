"""ONNX with QuantizeLinear / DequantizeLinear pairs (operator set 21): what onnxruntime, OpenVINO, TVM and
IREE read.

Every tensor of the plan becomes a pair with the plan's own codes, scale and zero point. Widths between the
ONNX types are stored in the next wider one; an activation is clipped to its range before its QuantizeLinear,
which gives the same codes. With power-of-two scales every float32 step of the exported graph is exact, so it
computes the emulator's bits; with other scales the consumer sums dequantized float32 values and may land one
code away (the QLinear operators do not).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper

from qsim.errors import UserError
from qsim.exporters.onnx_model import initializer, onnx_model, onnx_node
from qsim.formats import Float, Integer
from qsim.plan import BitPlan, TensorPlan
from qsim.spec import Cast

if TYPE_CHECKING:
    from qsim.graph import Graph

Array = NDArray[Any]
FLOAT8 = {"e4m3fn": TensorProto.FLOAT8E4M3FN, "e5m2": TensorProto.FLOAT8E5M2}


@dataclass(frozen=True)
class OnnxCode:
    """The ONNX type that holds the codes of an element, and the codes that the element itself has (None: all)."""

    type: int
    lowest: int | None = None
    largest: int | None = None


def export_qdq(graph: Graph, plan: BitPlan, path: str | Path, *, int4_as_int8: bool = False) -> Path:
    """Write `plan` on `graph` as an ONNX QDQ model.

    int4_as_int8: store 4-bit codes in int8 (TVM and IREE crash on INT4 initializers); the values do not
    change. Raises UserError naming the tensor whose spec ONNX has no type for.
    """
    path = Path(path)
    initializers = {name: initializer(name, array) for name, array in graph.parameters.items()}
    nodes: list[NodeProto] = []
    renamed: dict[str, str] = {}
    for name, tensor in plan.tensors.items():
        if name in graph.parameters:
            nodes += _parameter_pair(name, tensor, initializers, int4_as_int8)
            renamed[name] = f"{name}.dequantized"
    for name in graph.inputs:
        nodes += _activation_pair(name, plan.tensors, initializers, renamed)
    for node in graph.nodes:
        nodes.append(onnx_node(node, [renamed.get(name, name) if name else "" for name in node.inputs]))
        for output in node.outputs:
            nodes += _activation_pair(output, plan.tensors, initializers, renamed)
    model = onnx_model(graph, nodes, initializers, {"qsim_plan": plan.id, "qsim_version": plan.qsim_version})
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


def _activation_pair(
    name: str,
    tensors: Mapping[str, TensorPlan],
    initializers: dict[str, TensorProto],
    renamed: dict[str, str],
) -> Iterator[NodeProto]:
    tensor = tensors.get(name)
    if tensor is None:
        return
    code = _onnx_code(name, tensor, int4_as_int8=False)
    if tensor.scale is None or tensor.scale.ndim:
        raise UserError(
            f"tensor '{name}' ({tensor.text}): ONNX QDQ takes activations with one static scale only"
        )
    scale, zero_point = f"{name}.scale", f"{name}.zero_point"
    initializers[scale] = initializer(scale, tensor.scale.astype(np.float32))
    initializers[zero_point] = _typed(
        zero_point, np.asarray(0 if tensor.zero_point is None else tensor.zero_point), code.type
    )
    source = name
    if code.lowest is not None and code.largest is not None:
        zero = 0 if tensor.zero_point is None else int(tensor.zero_point)
        for end, limit in (("lowest", code.lowest), ("largest", code.largest)):
            value = np.float32(limit - zero) * tensor.scale.astype(np.float32)
            initializers[f"{name}.{end}"] = initializer(f"{name}.{end}", np.asarray(value, np.float32))
        source = f"{name}.clipped"
        yield helper.make_node("Clip", [name, f"{name}.lowest", f"{name}.largest"], [source])
    yield helper.make_node("QuantizeLinear", [source, scale, zero_point], [f"{name}.quantized"])
    yield helper.make_node(
        "DequantizeLinear", [f"{name}.quantized", scale, zero_point], [f"{name}.dequantized"]
    )
    renamed[name] = f"{name}.dequantized"


def _parameter_pair(
    name: str, tensor: TensorPlan, initializers: dict[str, TensorProto], int4_as_int8: bool
) -> Iterator[NodeProto]:
    code = _onnx_code(name, tensor, int4_as_int8=int4_as_int8)
    if tensor.codes is None or tensor.scale is None or tensor.scale.ndim > 1:
        raise UserError(
            f"tensor '{name}' ({tensor.text}): ONNX QDQ export takes weights with a scale a tensor or a channel"
        )
    stored, scale, zero_point = f"{name}.codes", f"{name}.scale", f"{name}.zero_point"
    initializers[stored] = _typed(stored, tensor.codes, code.type)
    initializers[scale] = initializer(scale, tensor.scale.astype(np.float32))
    inputs = [stored, scale]
    if tensor.zero_point is not None:
        initializers[zero_point] = _typed(zero_point, tensor.zero_point, code.type)
        inputs.append(zero_point)
    attributes: dict[str, Any] = {"axis": tensor.axis} if tensor.scale.ndim else {}
    yield helper.make_node("DequantizeLinear", inputs, [f"{name}.dequantized"], **attributes)


def _onnx_code(name: str, tensor: TensorPlan, *, int4_as_int8: bool) -> OnnxCode:
    spec = tensor.specs[0]
    element = spec.element
    if len(tensor.specs) > 1 or spec.cast != Cast():
        raise UserError(
            f"tensor '{name}' ({tensor.text}): ONNX QDQ rounds to nearest even and saturates, one spec a tensor"
        )
    if isinstance(element, Float) and str(element) in FLOAT8:
        return OnnxCode(FLOAT8[str(element)])
    if isinstance(element, Integer):
        sizes = [
            size
            for size in (4, 8, 16, 32)
            if size >= max(element.bits, 8 if int4_as_int8 or tensor.role == "activation" else 4)
        ]
        if sizes:
            kind = getattr(TensorProto, f"{'INT' if element.signed else 'UINT'}{sizes[0]}")
            full = sizes[0] == element.bits
            return OnnxCode(kind) if full else OnnxCode(kind, element.lowest_code, element.largest_code)
    raise UserError(
        f"tensor '{name}' ({tensor.text}): ONNX has no type for it; QDQ export takes int, uint, e4m3fn and e5m2"
    )


def _typed(name: str, codes: Array, kind: int) -> TensorProto:
    if kind in FLOAT8.values():  # the code is the bit pattern
        raw = np.ascontiguousarray(codes, np.uint8).tobytes()
        return helper.make_tensor(name, kind, codes.shape, raw, raw=True)
    return helper.make_tensor(name, kind, codes.shape, codes.reshape(-1).tolist())
