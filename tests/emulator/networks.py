"""Small networks made with onnx.helper, for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import qsim
from qsim.graph import Graph


def small_cnn(folder: Path, seed: int = 0, channels: int = 4) -> Path:
    """conv 3x3 (asymmetric pads, stride 2) -> relu -> depthwise -> relu -> add -> pool -> fc."""
    rng = np.random.default_rng(seed)

    def tensor(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array((rng.standard_normal(shape) * 0.3).astype(np.float32), name)

    parameters = [
        *(tensor("conv.weight", channels, 3, 3, 3), tensor("conv.bias", channels)),
        *(tensor("dw.weight", channels, 1, 3, 3), tensor("dw.bias", channels)),
        *(tensor("fc.weight", 5, channels), tensor("fc.bias", 5)),
    ]
    nodes = [
        helper.make_node(
            "Conv",
            ["x", "conv.weight", "conv.bias"],
            ["conv"],
            name="conv",
            strides=[2, 2],
            pads=[0, 0, 1, 1],
        ),
        helper.make_node("Relu", ["conv"], ["a"], name="relu1"),
        helper.make_node(
            "Conv", ["a", "dw.weight", "dw.bias"], ["dw"], name="dw", group=channels, pads=[1, 1, 1, 1]
        ),
        helper.make_node("Add", ["dw", "a"], ["sum"], name="add"),
        helper.make_node("Relu", ["sum"], ["b"], name="relu2"),
        helper.make_node("GlobalAveragePool", ["b"], ["pool"], name="pool"),
        helper.make_node("Flatten", ["pool"], ["flat"], name="flatten"),
        helper.make_node("Gemm", ["flat", "fc.weight", "fc.bias"], ["y"], name="fc", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "small_cnn",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 5])],
        parameters,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = folder / "small_cnn.onnx"
    onnx.save(model, path)
    return path


def inputs(samples: int = 6, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((samples, 3, 8, 8)).astype(np.float32)


def uniform_specs(graph: Graph, weights: str, activations: str) -> dict[str, qsim.Spec]:
    specs = {}
    for layer in graph.layers:
        specs[layer.input] = qsim.parse(activations)
        specs[layer.weights] = qsim.parse(weights)
    return specs
