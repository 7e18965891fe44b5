"""One tiny network of each kind, with data and a metric: what sensitivities are tested on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import qsim
from qsim.data import Dataset
from qsim.metrics import get_metric
from qsim.ptq import Calibration, PlanBuilder
from searches.candidates import Candidates, Choice, make_candidates, make_choice
from searches.evaluate import Evaluator
from tests.emulator.networks import small_cnn

MENU = (
    make_choice("w8a8", {"weights": "int8@channel:float32", "activations": "uint8+zp@tensor:float32"}),
    make_choice("w3a4", {"weights": "int3@channel:float32", "activations": "uint4+zp@tensor:float32"}),
    make_choice("mxfp4", "mxfp4"),
)
Shape = Sequence[int | str]


def graph_of(
    folder: Path,
    nodes: Sequence[onnx.NodeProto],
    parameters: Mapping[str, np.ndarray],
    input_shape: Shape,
    output_shape: Shape,
    input_type: int = TensorProto.FLOAT,
) -> qsim.Graph:
    """A graph x -> y of ONNX nodes."""
    graph = helper.make_graph(
        list(nodes),
        "tiny",
        [helper.make_tensor_value_info("x", input_type, input_shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, output_shape)],
        [numpy_helper.from_array(value, name) for name, value in parameters.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(model, folder / "model.onnx")
    return qsim.load_model(folder / "model.onnx")


def weights(seed: int, **shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: (rng.standard_normal(shape) * 0.5).astype(np.float32) for name, shape in shapes.items()}


def linear(folder: Path, inputs: int = 4, outputs: int = 3) -> qsim.Graph:
    """y = x W."""
    node = helper.make_node("MatMul", ["x", "w"], ["y"], name="fc")
    return graph_of(folder, [node], weights(3, w=(inputs, outputs)), ["N", inputs], ["N", outputs])


def autoencoder(folder: Path) -> qsim.Graph:
    """6 -> 3 -> 6."""
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["h"], name="encode"),
        helper.make_node("Tanh", ["h"], ["t"], name="tanh"),
        helper.make_node("MatMul", ["t", "w2"], ["y"], name="decode"),
    ]
    return graph_of(folder, nodes, weights(4, w1=(6, 3), w2=(3, 6)), ["N", 6], ["N", 6])


def attention(folder: Path) -> qsim.Graph:
    """Tokens -> embedding -> one attention head -> logits a position."""
    nodes = [
        helper.make_node("Gather", ["table", "x"], ["e"], name="embed"),
        *(helper.make_node("MatMul", ["e", f"w{n}"], [n], name=n) for n in "qkv"),
        helper.make_node("Transpose", ["k"], ["kt"], name="transpose", perm=[0, 2, 1]),
        helper.make_node("MatMul", ["q", "kt"], ["s"], name="qk"),
        helper.make_node("Softmax", ["s"], ["p"], name="softmax", axis=-1),
        helper.make_node("MatMul", ["p", "v"], ["o"], name="av"),
        helper.make_node("MatMul", ["o", "out"], ["y"], name="head"),
    ]
    shapes = {"table": (7, 4), "wq": (4, 4), "wk": (4, 4), "wv": (4, 4), "out": (4, 7)}
    return graph_of(folder, nodes, weights(5, **shapes), ["N", 5], ["N", 5, 7], TensorProto.INT64)


def recurrent(folder: Path) -> qsim.Graph:
    """An LSTM over time (its activations have time first), a linear layer, the mean over time."""
    nodes = [
        helper.make_node("Transpose", ["x"], ["xt"], name="time", perm=[1, 0, 2]),
        helper.make_node("LSTM", ["xt", "w", "r"], ["all"], name="lstm", hidden_size=3),
        helper.make_node("Squeeze", ["all", "axis"], ["h"], name="squeeze"),
        helper.make_node("MatMul", ["h", "out"], ["z"], name="head"),
        helper.make_node("ReduceMean", ["z"], ["y"], name="mean", axes=[0], keepdims=0),
    ]
    parameters = weights(6, w=(1, 12, 2), r=(1, 12, 3), out=(3, 4)) | {"axis": np.array([1])}
    return graph_of(folder, nodes, parameters, ["N", 4, 2], ["N", 4])


def scene(graph: qsim.Graph, metric: str, samples: int = 12, seed: int = 0) -> dict[str, Any]:
    """Arguments of measure_sensitivities for a network with random data: groups, make_plan, evaluator, samples."""
    rng = np.random.default_rng(seed)
    tensor = graph.tensors["x"]
    shape = (samples, *(int(length) for length in tensor.shape[1:]))
    x = rng.standard_normal(shape).astype(np.float32)
    if tensor.dtype == "int64":
        x = rng.integers(0, 7, shape)
    classes = [int(length) for length in graph.tensors["y"].shape[1:]]
    labels = rng.integers(0, classes[-1], (samples, *classes[:-1]))
    data = Dataset("random", {"x": x}, {"x": x}, labels, "random")
    groups = make_candidates(graph, MENU)
    builder = PlanBuilder.calibrate(graph, {"x": x}, Calibration("minmax", "minmax"))
    return {
        "groups": groups,
        "make_plan": plan_maker(builder),
        "evaluator": Evaluator.create(graph, data, get_metric(metric)),
        "samples": np.arange(samples),
    }


def plan_maker(builder: PlanBuilder) -> Any:
    def make_plan(parts: Sequence[tuple[Candidates, Choice]]) -> qsim.BitPlan:
        return builder.build(
            {name: spec for group, choice in parts for name, spec in group.tensors(choice).items()}
        )

    return make_plan


def convolutional(folder: Path) -> qsim.Graph:
    """Convolutions with a residual addition."""
    folder.mkdir(parents=True, exist_ok=True)
    return qsim.load_model(small_cnn(folder))


KINDS = {
    "convolutional": (convolutional, "top1"),
    "autoencoder": (autoencoder, "sqnr"),
    "attention": (attention, "perplexity"),
    "recurrent": (recurrent, "top1"),
    "linear": (linear, "agreement"),
}
