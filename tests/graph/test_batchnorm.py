"""Batch normalisation and per-channel affine nodes are folded into the layer before, in float64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from tests.operators.reference import check, make_model

RNG = np.random.default_rng(23)


def real(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def statistics(channels: int) -> dict[str, np.ndarray]:
    names = {"g": real(channels), "b": real(channels), "m": real(channels)}
    return names | {"v": RNG.uniform(0.2, 3, channels).astype(np.float32)}


BN = helper.make_node("BatchNormalization", ["c", "g", "b", "m", "v"], ["y"], epsilon=1e-3)


def layer(op: str, *inputs: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, ["x", *inputs], ["c"], name="layer", **attributes)


X4, X2 = real(2, 4, 5, 5), real(3, 4)


@pytest.mark.parametrize(
    ("node", "x", "parameters", "channels"),
    [
        (layer("Conv", "w"), X4, {"w": real(6, 4, 3, 3)}, 6),
        (layer("Conv", "w", "bias", group=2), X4, {"w": real(6, 2, 3, 3), "bias": real(6)}, 6),
        (layer("ConvTranspose", "w", strides=[2, 2]), X4, {"w": real(4, 3, 2, 2)}, 3),
        (layer("ConvTranspose", "w", "bias", group=2), X4, {"w": real(4, 3, 2, 2), "bias": real(6)}, 6),
        (layer("Gemm", "w", "bias", alpha=0.5, beta=2.0), X2, {"w": real(4, 6), "bias": real(6)}, 6),
        (layer("Gemm", "w", transB=1), X2, {"w": real(6, 4)}, 6),
        (layer("MatMul", "w"), X2, {"w": real(4, 6)}, 6),
    ],
)
def test_batchnorm_disappears(
    node: onnx.NodeProto, x: np.ndarray, parameters: dict[str, np.ndarray], channels: int, tmp_path: Path
) -> None:
    model = make_model([node, BN], {"x": x}, ["y"], parameters | statistics(channels))
    graph = check(model, {"x": x}, tmp_path, tolerance=2e-6)
    assert "BatchNormalization" not in {n.op for n in graph.nodes}
    (found,) = graph.layers
    assert found.bias in graph.parameters
    assert found.output == "y"
    assert found.weight_axis == {"ConvTranspose": 1, "MatMul": 1}.get(
        node.op_type, 1 if "alpha" in str(node) else 0
    )


def test_a_run_of_scale_and_shift_is_rounded_once(tmp_path: Path) -> None:
    """Conv, BN, Mul, Add, as Paddle and TensorFlow write it: float64 in between, one rounding to float32."""
    nodes = [
        layer("Conv", "w"),
        helper.make_node("BatchNormalization", ["c", "g", "b", "m", "v"], ["n"]),
        helper.make_node("Mul", ["n", "s"], ["p"]),
        helper.make_node("Sub", ["t", "p"], ["y"]),
    ]
    parameters = {"w": real(6, 4, 3, 3), "s": real(1, 6, 1, 1), "t": real(6, 1, 1)} | statistics(6)
    graph = check(make_model(nodes, {"x": X4}, ["y"], parameters), {"x": X4}, tmp_path, tolerance=2e-6)
    assert [n.op for n in graph.nodes] == ["Conv"]
    gain = parameters["g"].astype(float) / np.sqrt(parameters["v"].astype(float) + 1e-5)
    exact = -parameters["w"].astype(float) * (gain * parameters["s"].reshape(6).astype(float)).reshape(
        6, 1, 1, 1
    )
    np.testing.assert_array_equal(graph.parameters[graph.layers[0].weights], exact.astype(np.float32))


def test_batchnorm_stays_where_it_cannot_be_folded(tmp_path: Path) -> None:
    before = [
        helper.make_node("BatchNormalization", ["x", "g", "b", "m", "v"], ["c"]),
        helper.make_node("Relu", ["c"], ["y"]),
    ]
    twice = [layer("Conv", "w"), BN, helper.make_node("Neg", ["c"], ["z"])]
    parameters = statistics(4) | {"w": real(4, 4, 1, 1)}
    for nodes, outputs in ((before, ["y"]), (twice, ["y", "z"])):
        graph = check(make_model(nodes, {"x": X4}, outputs, parameters), {"x": X4}, tmp_path, tolerance=2e-6)
        assert "BatchNormalization" in {n.op for n in graph.nodes}


def test_weights_shared_by_two_layers_are_folded_apart(tmp_path: Path) -> None:
    nodes = [layer("Conv", "w"), BN, helper.make_node("Conv", ["y", "w"], ["z"])]
    parameters = statistics(4) | {"w": real(4, 4, 1, 1)}
    graph = check(make_model(nodes, {"x": X4}, ["z"], parameters), {"x": X4}, tmp_path, tolerance=2e-6)
    assert len({found.weights for found in graph.layers}) == 2
