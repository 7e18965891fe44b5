"""Weights that several nodes read, views of weights, transposed convolutions: tuned; what cannot be is named."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import qsim
from qsim.emulator.operators import apply
from qsim.graph import Graph
from qsim.ptq import Calibration, PlanBuilder
from qsim.ptq.layer_matrix import input_rows, weight_matrix, why_not_tunable
from qsim.ptq.problem import Moments
from qsim.ptq.weight_readers import weight_readers
from tests.ptq.problems import moments_of

STEPS = ["gptq", "coordinate_descent", "bias_correction"]
RNG = np.random.default_rng(3)
INT3, UINT8 = qsim.parse("int3@channel:float32"), qsim.parse("uint8+zp@tensor:float32")


def real(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def network(
    folder: Path,
    nodes: list[onnx.NodeProto],
    parameters: dict[str, np.ndarray],
    shape: list[Any],
    dtype: int = TensorProto.FLOAT,
) -> Graph:
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", dtype, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in parameters.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "net.onnx")
    return qsim.load_model(folder / "net.onnx")


def error(graph: Graph, x: np.ndarray, steps: list[str], specs: dict[str, qsim.Spec]) -> float:
    plan = PlanBuilder.calibrate(graph, {"x": x}, Calibration(steps=steps)).build(specs)
    exact, ours = (qsim.emulate(graph, p, x).output for p in (None, plan))
    return float(np.square(exact - ours).mean())


@pytest.mark.parametrize(
    "attributes",
    [
        {"strides": [2, 2]},
        {"strides": [2, 2], "pads": [1, 0, 1, 2]},
        {"strides": [3, 1], "dilations": [1, 2], "output_padding": [1, 0]},
        {"group": 2, "strides": [2, 2], "pads": [0, 1, 1, 0]},
        {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
        {"pads": [2, 2, 2, 2]},
    ],
)
def test_a_transposed_convolution_is_its_matrix(tmp_path: Path, attributes: dict[str, Any]) -> None:
    groups = attributes.get("group", 1)
    weight, x = real(4, 3, 3, 2), real(2, 4, 5, 6)
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"], name="up", **attributes)
    graph = network(tmp_path, [node], {"w": weight}, ["N", 4, 5, 6])
    layer, own = graph.layers[0], graph.nodes[0]
    rows = input_rows(own, layer, torch.from_numpy(x))
    theirs = apply(own, [torch.from_numpy(x), torch.from_numpy(weight)])[0]
    ours = rows[0] @ torch.from_numpy(weight_matrix(graph, layer)).T  # [groups * rows, outputs / groups]
    ours = ours.reshape(groups, len(x), -1, 3).permute(1, 0, 3, 2).reshape(theirs.shape)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("group", [1, 2])
def test_a_transposed_convolution_is_tuned(tmp_path: Path, group: int) -> None:
    nodes = [
        helper.make_node(
            "ConvTranspose", ["x", "w", "b"], ["y"], name="up", strides=[2, 2], pads=[1, 1, 1, 1], group=group
        )
    ]
    graph = network(tmp_path, nodes, {"w": real(4, 3, 4, 4), "b": real(3 * group)}, ["N", 4, 6, 6])
    x = np.maximum(real(40, 1, 6, 6) + 0.3 * real(40, 4, 6, 6), 0)
    specs = {"w": INT3, "x": UINT8}
    assert error(graph, x, STEPS, specs) < 0.7 * error(graph, x, [], specs)


def test_a_weight_on_the_left_and_a_transposed_one_are_tuned(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["w", "x"], ["h"], name="left"),  # [6, 8] @ [N, 8, 5]
        helper.make_node("Transpose", ["h"], ["t"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["t", "v"], ["y"], name="right"),
    ]
    graph = network(tmp_path, nodes, {"w": real(6, 8), "v": real(6, 7)}, ["N", 8, 5])
    x = real(60, 1, 5) + 0.3 * real(60, 8, 5)
    assert [why_not_tunable(graph, layer) for layer in graph.layers] == [None, None]
    for weights in ({"w": INT3}, {"v": INT3}):
        specs = weights | {"x": UINT8}
        assert error(graph, x, STEPS, specs) < 0.9 * error(graph, x, [], specs)


def tied(folder: Path) -> Graph:
    """tokens -> embedding -> tanh(linear) -> head of the same weight, transposed."""
    nodes = [
        helper.make_node("Gather", ["table", "x"], ["e"], name="embed"),
        helper.make_node("MatMul", ["e", "w"], ["h"], name="linear"),
        helper.make_node("Tanh", ["h"], ["a"]),
        helper.make_node("Transpose", ["table"], ["head"], name="transpose", perm=[1, 0]),
        helper.make_node("MatMul", ["a", "head"], ["y"], name="output"),
    ]
    mixed = (real(40, 3) @ real(3, 16) + 0.3 * real(40, 16)).astype(np.float32)
    return network(folder, nodes, {"table": mixed, "w": real(16, 16)}, ["N", 12], TensorProto.INT64)


def test_an_embedding_tied_with_its_head_is_tuned_for_both(tmp_path: Path) -> None:
    graph = tied(tmp_path)
    head = graph.layers[-1]
    readers = weight_readers(graph, "table")
    assert [layer.name for layer in readers.layers] == ["output"]
    assert [node.name for node in readers.tables] == ["embed"] and not readers.others
    assert readers.first(graph).name == "embed" and why_not_tunable(graph, head) is None
    x = np.random.default_rng(0).integers(0, 40, (50, 12))
    specs = {"table": INT3, "w": qsim.parse("int8@channel:float32"), head.input: UINT8}
    assert error(graph, x, STEPS, specs) < 0.9 * error(graph, x, [], specs)


def test_lookups_count_as_much_as_products() -> None:
    """A rounding that ruins the rows themselves loses, though the head's inputs never see the difference."""
    x = np.zeros((1, 50, 4), np.float32)
    x[..., 0] = real(1, 50)
    uses, weights = moments_of(x, x), torch.from_numpy(real(1, 6, 4)).double()
    both = Moments.joined([uses, Moments.of_table(uses, weights)])
    exact = ((weights @ uses.float_float) * weights).sum()
    lookup = ((weights @ (2 * both.float_float - uses.float_float)) * weights).sum()
    torch.testing.assert_close(lookup, exact)
    assert float(both.quantized_quantized[0].diagonal().min()) > 0


def siamese(folder: Path) -> Graph:
    """One convolution's weight over the input and over its own result, with a bias each."""
    conv = {"pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Conv", ["x", "w", "b1"], ["h"], name="first", **conv),
        helper.make_node("Relu", ["h"], ["a"]),
        helper.make_node("Conv", ["a", "w", "b2"], ["y"], name="second", **conv),
    ]
    return network(folder, nodes, {"w": 0.3 * real(4, 4, 3, 3), "b1": real(4), "b2": real(4)}, ["N", 4, 6, 6])


@pytest.mark.parametrize("sequential", [True, False])
def test_a_weight_of_two_layers_is_tuned_for_both(tmp_path: Path, sequential: bool) -> None:
    graph = siamese(tmp_path)
    x = np.maximum(real(60, 1, 6, 6) + 0.3 * real(60, 4, 6, 6), 0)
    specs = {"w": INT3, "x": UINT8, "a": UINT8}
    how = Calibration(steps=STEPS, sequential=sequential)
    plan = PlanBuilder.calibrate(graph, {"x": x}, how).build(specs)
    assert "nearest_rounding" not in plan.provenance
    assert error(graph, x, STEPS, specs) < 0.8 * error(graph, x, [], specs)
    exact = qsim.emulate(graph, None, x, trace=["h", "y"]).tensors
    ours = qsim.emulate(graph, plan, x, trace=["h", "y"]).tensors
    names = (
        ("h", "y") if sequential else ("h",)
    )  # with float32 inputs the second bias does not know of the first
    for name in names:  # each layer has its own bias, corrected at its own place
        np.testing.assert_allclose(ours[name].mean((0, 2, 3)), exact[name].mean((0, 2, 3)), atol=0.02)


def test_moments_of_parts_are_those_of_all_rows() -> None:
    x = real(1, 30, 5)
    whole, parts = moments_of(x, x), [moments_of(x[:, :10], x[:, :10]), moments_of(x[:, 10:], x[:, 10:])]
    joined = Moments.joined(parts)
    assert joined.rows == 30
    for name in ("mean_float", "float_float", "float_quantized"):
        torch.testing.assert_close(getattr(joined, name), getattr(whole, name))


def test_layers_that_keep_nearest_rounding_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], name="product"),
        helper.make_node("Add", ["h", "w"], ["s"], name="sum"),
        helper.make_node("MatMul", ["s", "v"], ["y"], name="stacked"),
    ]
    graph = network(tmp_path, nodes, {"w": real(4, 4), "v": real(3, 4, 4)}, [3, 4, 4])
    specs = {"w": INT3, "v": qsim.parse("int3@tensor:float32")}
    builder = PlanBuilder.calibrate(graph, {"x": real(3, 4, 4)}, Calibration(steps=STEPS))
    with caplog.at_level(logging.WARNING, "qsim.ptq"):
        plans = [builder.build(specs) for _ in range(2)]
    reasons = plans[0].provenance["nearest_rounding"]
    assert reasons["product"] == "Add 'sum' reads its weights too"
    assert reasons["stacked"] == "MatMul with weights of shape [3, 4, 4] has no matrix form here"
    assert (
        caplog.messages.count("layer 'product' keeps nearest rounding: Add 'sum' reads its weights too") == 1
    )
    assert plans[0].id == plans[1].id
