"""A run that starts from a recording has the bits of a run from the start, and computes less."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import qsim
from qsim.arithmetic.mac import Mac
from qsim.data import load_npz
from qsim.emulator.reuse import record
from qsim.errors import UserError
from qsim.plan import LayerPlan
from qsim.ptq import Calibration, PlanBuilder
from tests.emulator.networks import inputs, small_cnn, uniform_specs
from tests.emulator.test_zoo import ZOO


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> qsim.Graph:
    return qsim.load_model(small_cnn(tmp_path_factory.mktemp("model")))


@pytest.fixture(scope="module")
def builder(graph: qsim.Graph) -> PlanBuilder:
    return PlanBuilder.calibrate(
        graph, {"x": inputs(20, seed=5)}, Calibration("minmax", "minmax", steps=["bias_correction"])
    )


def plans_of(graph: qsim.Graph, builder: PlanBuilder) -> list[qsim.BitPlan]:
    """Every set of layers, in three formats each."""
    formats = [
        ("int8@channel:float32", "uint8+zp@tensor:float32"),
        ("mxfp4", "mxfp4"),
        ("int4@channel:float32", "int4/stochastic8@tensor:float32"),
    ]
    plans = []
    for weights, activations in formats:
        specs = uniform_specs(graph, weights, activations)
        for chosen in range(1, 1 << len(graph.layers)):
            layers = [layer for i, layer in enumerate(graph.layers) if chosen >> i & 1]
            names = {name for layer in layers for name in (layer.weights, layer.input)}
            plans.append(builder.build({name: spec for name, spec in specs.items() if name in names}))
    return plans


def assert_same_run(a: qsim.Emulation, b: qsim.Emulation) -> None:
    for name, value in a.outputs.items():
        np.testing.assert_array_equal(value, b.outputs[name])
    assert a.layers == b.layers


@pytest.mark.parametrize("memory_bytes", [1 << 29, 4000, 0])
def test_bits_are_those_of_a_run_from_the_start(
    graph: qsim.Graph, builder: PlanBuilder, memory_bytes: int
) -> None:
    plans = plans_of(graph, builder)
    for base in (None, plans[2], plans[6], plans[-1]):
        recording = record(graph, inputs(), base, batch_size=4, memory_bytes=memory_bytes)
        assert recording.bytes <= memory_bytes
        for plan in plans:
            reused = qsim.emulate(graph, plan, inputs(), reuse=recording)
            assert_same_run(qsim.emulate(graph, plan, inputs(), batch_size=4), reused)


def test_a_trace_sees_the_same_tensors(graph: qsim.Graph, builder: PlanBuilder) -> None:
    plan = builder.build({"fc.weight": qsim.parse("int4@channel:float32")})
    recording = record(graph, inputs())
    traced = ["conv", "b", "flat"]
    whole = qsim.emulate(graph, plan, inputs(), trace=traced)
    reused = qsim.emulate(graph, plan, inputs(), trace=traced, reuse=recording)
    assert_same_run(whole, reused)
    for name in traced:
        np.testing.assert_array_equal(whole.tensors[name], reused.tensors[name])


def test_another_unit_or_seed_is_another_computation(graph: qsim.Graph, builder: PlanBuilder) -> None:
    specs = uniform_specs(graph, "int4@channel:float32", "int4/stochastic8@tensor:float32")
    base = builder.build(specs)
    recording = record(graph, inputs(), base)
    for plan in (
        replace(base, seed=3),
        replace(base, layers={"dw": LayerPlan(Mac(accumulator="int8"))}),
        replace(base, arithmetic="fast"),
    ):
        whole = qsim.emulate(graph, plan, inputs())
        assert_same_run(whole, qsim.emulate(graph, plan, inputs(), reuse=recording))
    assert_same_run(
        qsim.emulate(graph, base, inputs(), seed=9),
        qsim.emulate(graph, base, inputs(), seed=9, reuse=recording),
    )


def test_only_what_follows_is_computed(graph: qsim.Graph, builder: PlanBuilder) -> None:
    conv, depthwise, linear = (layer.macs for layer in graph.layers)
    recording = record(graph, inputs())
    spec = qsim.parse("int8@channel:float32")
    assert recording.node_macs(builder.build({"conv.weight": spec})) == conv + depthwise + linear
    assert recording.node_macs(builder.build({"dw.weight": spec})) == depthwise + linear
    assert recording.node_macs(builder.build({"flat": qsim.parse("uint8+zp@tensor:float32")})) == linear
    assert recording.node_macs(None) == linear  # outputs themselves are not recorded


def test_other_inputs_or_models_are_refused(graph: qsim.Graph, tmp_path: Path) -> None:
    recording = record(graph, inputs())
    with pytest.raises(UserError, match="other inputs"):
        qsim.emulate(graph, None, inputs(seed=2), reuse=recording)
    other = qsim.load_model(small_cnn(tmp_path, seed=1))
    with pytest.raises(UserError, match="recorded for model"):
        qsim.emulate(other, None, inputs(), reuse=recording)


@pytest.mark.slow
@pytest.mark.parametrize("name", ZOO)
def test_every_network_of_the_zoo(name: str, shared: Path) -> None:
    file, preprocessing = ZOO[name]
    graph = qsim.load_model(shared / "zoo" / name / file)
    data = load_npz(shared / "zoo" / name / "data.npz", graph, preprocessing)
    calibration = {key: array[:4] for key, array in data.calibration.items()}
    builder = PlanBuilder.calibrate(graph, calibration, Calibration("minmax", "minmax"))
    x = {key: array[:2] for key, array in data.evaluation.items()}
    recording = record(graph, x)
    allowed = set(qsim.graph.quantizable(graph))
    spec = qsim.parse("int8@tensor:float32")
    for layer in graph.layers[:: max(1, len(graph.layers) // 3)]:
        plan = builder.build({tensor: spec for tensor in (layer.weights, layer.input) if tensor in allowed})
        assert_same_run(qsim.emulate(graph, plan, x), qsim.emulate(graph, plan, x, reuse=recording))
        assert recording.node_macs(plan) <= graph.macs
