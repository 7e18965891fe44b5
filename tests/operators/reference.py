"""Running one ONNX model in qsim and in onnxruntime and comparing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper

from qsim.emulator.execute import run_graph
from qsim.graph import Graph, load_model

Arrays = Mapping[str, np.ndarray]


def onnx_type(array: np.ndarray) -> int:
    return helper.np_dtype_to_tensor_dtype(array.dtype)


def make_model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Any],
    outputs: Sequence[str],
    parameters: Arrays | None = None,
    opset: int = 17,
    domains: Sequence[str] = (),
) -> onnx.ModelProto:
    """A model whose inputs are arrays (fixed shape) or (array, symbolic shape) pairs."""
    values = []
    for name, given in inputs.items():
        array, shape = given if isinstance(given, tuple) else (given, given.shape)
        values.append(helper.make_tensor_value_info(name, onnx_type(array), shape))
    graph = helper.make_graph(
        list(nodes),
        "test",
        values,
        [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in (parameters or {}).items()],
    )
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return typed_outputs(helper.make_model(graph, opset_imports=imports, ir_version=10))


def typed_outputs(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with the element types of its outputs filled in, as every exporter does."""
    if {node.op_type for node in model.graph.node} & {"Loop", "Scan"}:
        return model  # onnx's inference crashes on malformed control flow
    inferred = onnx.shape_inference.infer_shapes(model)
    for output, known in zip(model.graph.output, inferred.graph.output, strict=True):
        output.type.tensor_type.elem_type = known.type.tensor_type.elem_type or TensorProto.FLOAT
    return model


def saved(model: onnx.ModelProto, folder: Path) -> Path:
    path = folder / "test.onnx"
    onnx.save(model, str(path))
    return path


def run_reference(model: onnx.ModelProto, inputs: Arrays) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    return session.run(None, dict(inputs))


def run_ours(graph: Graph, inputs: Arrays) -> list[np.ndarray]:
    tensors = {
        name: torch.from_numpy(np.array(array)) for name, array in inputs.items() if name in graph.inputs
    }
    return [value.numpy() for value in run_graph(graph, tensors).values()]


def assert_equal(
    ours: Sequence[np.ndarray], reference: Sequence[np.ndarray], tolerance: float = 1e-5
) -> None:
    """Same number of outputs, shapes, kinds of type; integers equal; floats to `tolerance` of the largest value."""
    assert len(ours) == len(reference)
    for a, b in zip(ours, reference, strict=True):
        assert a.shape == b.shape
        if b.dtype.kind in "iub":
            np.testing.assert_array_equal(a.astype(np.int64), b.astype(np.int64))
            continue
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(np.isfinite(a), np.isfinite(b))
        finite = np.isfinite(b)
        scale = max(np.abs(b[finite]).max(initial=0.0), 1e-6)
        assert np.abs(a[finite] - b[finite]).max(initial=0.0) <= tolerance * scale


def check(model: onnx.ModelProto, inputs: Arrays, folder: Path, tolerance: float = 1e-5) -> Graph:
    """Assert that qsim computes what onnxruntime does; returns the graph."""
    graph = load_model(saved(model, folder))
    assert_equal(run_ours(graph, inputs), run_reference(model, inputs), tolerance)
    return graph
