"""Every network of the zoo runs under a plan, exactly, with any accumulator."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import qsim
from qsim.arithmetic.mac import Mac
from qsim.data import Preprocessing, load_npz
from qsim.plan import LayerPlan
from qsim.ptq import Calibration, PlanBuilder

pytestmark = pytest.mark.slow

ZOO = {
    "resnet8_cifar10": ("model.onnx", Preprocessing(axes=[0, 3, 1, 2])),
    "dscnn_kws": ("model.onnx", Preprocessing(reshape=[-1, 1, 49, 10])),
    "mobilenetv1_vww": ("model.onnx", Preprocessing(axes=[0, 3, 1, 2], std=255.0)),
    "autoencoder_ad": ("model.onnx", Preprocessing()),
    "kws_w3a3_qonnx": ("model.onnx", Preprocessing(reshape=[-1, 49, 10, 1], axes=[0, 3, 2, 1])),
    "stories260k_lm": ("model.onnx", Preprocessing()),
}


@pytest.fixture(params=ZOO)
def network(
    request: pytest.FixtureRequest, shared: Path
) -> tuple[qsim.Graph, PlanBuilder, dict[str, np.ndarray]]:
    file, preprocessing = ZOO[request.param]
    graph = qsim.load_model(shared / "zoo" / request.param / file)
    data = load_npz(shared / "zoo" / request.param / "data.npz", graph, preprocessing)
    calibration = {name: array[:8] for name, array in data.calibration.items()}
    builder = PlanBuilder.calibrate(graph, calibration, Calibration("minmax", "minmax"))
    return graph, builder, {name: array[:2] for name, array in data.evaluation.items()}


def uniform(graph: qsim.Graph, builder: PlanBuilder, weights: str, activations: str) -> qsim.BitPlan:
    specs = {}
    for layer in graph.layers:
        specs[layer.weights] = qsim.parse(activations if layer.kind == "matmul" else weights)
    return builder.build(specs | {layer.input: qsim.parse(activations) for layer in graph.layers})


def with_accumulator(graph: qsim.Graph, plan: qsim.BitPlan, accumulator: str) -> qsim.BitPlan:
    return replace(
        plan, layers={layer.name: LayerPlan(Mac(accumulator=accumulator)) for layer in graph.layers}
    )


def test_int8_is_exact_and_int32_holds_every_sum(
    network: tuple[qsim.Graph, PlanBuilder, dict[str, np.ndarray]],
) -> None:
    graph, builder, inputs = network
    plan = uniform(graph, builder, "int8@channel:float32", "int8@tensor:float32")
    run = qsim.emulate(graph, plan, inputs, trace="layers")
    assert {layer.arithmetic for layer in run.layers} <= {"exact (float32)", "exact (float64)"}
    wide = qsim.emulate(graph, with_accumulator(graph, plan, "int32"), inputs)
    np.testing.assert_array_equal(run.output, wide.output)


def test_a_float32_accumulator_is_near_the_exact_sum(
    network: tuple[qsim.Graph, PlanBuilder, dict[str, np.ndarray]],
) -> None:
    graph, builder, inputs = network
    plan = uniform(graph, builder, "e4m3fn@channel:float32", "e4m3fn@tensor:float32")
    exact = qsim.emulate(graph, plan, inputs).output
    rounded = qsim.emulate(graph, with_accumulator(graph, plan, "float32"), inputs).output
    np.testing.assert_allclose(rounded, exact, rtol=0, atol=0.02 * np.abs(exact).max())
