"""Steps on a whole network: what is tuned is stored, in order, once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import qsim
from qsim.emulator.operators import apply
from qsim.graph import Graph
from qsim.ptq import Calibration, PlanBuilder
from qsim.ptq.layer_matrix import input_rows, is_tunable, weight_matrix
from tests.emulator.networks import inputs, small_cnn, uniform_specs

INTEGERS = ("int3@channel:float32", "uint8+zp@tensor:float32")
PAIRS = (INTEGERS, ("e2m1fn@channel:float32", "e4m3fn@tensor:float32"), ("mxfp4", "mxfp8_e4m3"))
STEPS = ["gptq", "coordinate_descent", "bias_correction"]


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    return qsim.load_model(small_cnn(tmp_path_factory.mktemp("ptq")))


def builder(graph: Graph, steps: list[str], **options: bool) -> PlanBuilder:
    how = Calibration(steps=steps, **options)
    return PlanBuilder.calibrate(graph, {"x": inputs(60)}, how)


def noise(graph: Graph, plan: qsim.BitPlan, x: np.ndarray) -> float:
    exact = qsim.emulate(graph, None, x).output
    return float(np.square(exact - qsim.emulate(graph, plan, x).output).mean())


def test_layers_are_their_matrices(graph: Graph) -> None:
    x = {"x": torch.from_numpy(inputs(3))}
    from qsim.emulator.execute import run_graph

    values = run_graph(graph, x, keep=[layer.input for layer in graph.layers])
    nodes = {node.name: node for node in graph.nodes}
    for layer in graph.layers:
        assert is_tunable(graph, layer)
        node, weight = nodes[layer.node], torch.from_numpy(graph.parameters[layer.weights])
        rows = input_rows(node, layer, values[layer.input])
        matrix = torch.from_numpy(weight_matrix(graph, layer)).reshape(layer.groups, -1, rows.shape[-1])
        ours = (rows @ matrix.mT).permute(1, 0, 2).reshape(rows.shape[1], -1)
        theirs = apply(node, [values[layer.input], weight, *([None] if len(node.inputs) > 2 else [])])[0]
        if theirs.dim() > 2:
            theirs = theirs.movedim(1, -1).reshape(rows.shape[1], -1)
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("weights", "activations"), PAIRS)
@pytest.mark.parametrize("sequential", [True, False])
def test_steps_bring_the_network_closer(
    graph: Graph, weights: str, activations: str, sequential: bool
) -> None:
    specs, x = uniform_specs(graph, weights, activations), inputs(200, seed=9)
    plain = noise(graph, builder(graph, []).build(specs), x)
    assert noise(graph, builder(graph, STEPS, sequential=sequential).build(specs), x) < 0.85 * plain


@pytest.mark.parametrize(("weights", "activations"), PAIRS)
def test_a_tuned_plan_survives_its_file(graph: Graph, weights: str, activations: str, tmp_path: Path) -> None:
    plan = builder(graph, STEPS).build(uniform_specs(graph, weights, activations))
    loaded = qsim.BitPlan.load(plan.save(tmp_path / "plan.json"))
    assert loaded.id == plan.id
    x = inputs(10, seed=4)
    np.testing.assert_array_equal(qsim.emulate(graph, plan, x).output, qsim.emulate(graph, loaded, x).output)


@pytest.mark.parametrize("weights", ["int3@channel:float32", "mxfp4"])
def test_bias_correction_in_order_leaves_no_mean_error(graph: Graph, weights: str) -> None:
    """Each layer's mean output, with the quantized layers before it, is the float32 network's but for the bias's own
    rounding to integers.
    """
    specs = uniform_specs(graph, weights, "uint8+zp@tensor:float32")
    plan = builder(graph, ["bias_correction"]).build(specs)
    names, x = ["conv", "dw", "y"], inputs(60)
    biases = (plan.tensors[layer.bias] for layer in graph.layers)
    rounding = (
        max(float(np.max(bias.scale)) / 2 for bias in biases if bias.scale is not None)
        if "int" in weights
        else 0
    )
    exact = qsim.emulate(graph, None, x, trace=names).tensors
    ours = qsim.emulate(graph, plan, x, trace=names).tensors
    for name in names:
        axes = tuple(axis for axis in range(exact[name].ndim) if axis != 1)
        np.testing.assert_allclose(ours[name].mean(axes), exact[name].mean(axes), atol=rounding + 1e-4)


def test_no_steps_is_nearest_rounding_and_nothing_else(graph: Graph) -> None:
    specs = uniform_specs(graph, *INTEGERS)
    assert (
        builder(graph, []).build(specs).id == PlanBuilder.calibrate(graph, {"x": inputs(60)}).build(specs).id
    )


@pytest.mark.parametrize("sequential", [True, False])
def test_a_builder_that_has_seen_other_plans_builds_the_same(graph: Graph, sequential: bool) -> None:
    """Results kept from other plans are those that the plan on its own would get."""
    used = builder(graph, STEPS, sequential=sequential)
    other = uniform_specs(graph, "int4@channel:float32", "uint8+zp@tensor:float32")
    used.build(other)
    mixed = other | {
        "dw.weight": qsim.parse("int2@channel:float32"),
        "b": qsim.parse("uint4+zp@tensor:float32"),
    }
    mixed = {name: spec for name, spec in mixed.items() if name in other}
    fresh = builder(graph, STEPS, sequential=sequential).build(mixed)
    assert used.build(mixed).id == fresh.id


def test_layers_of_a_search_are_done_once(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    import qsim.ptq.pipeline as pipeline

    original = pipeline.tune_layer
    monkeypatch.setattr(pipeline, "tune_layer", lambda *a: calls.append(a[1].name) or original(*a))
    shared = builder(graph, STEPS, sequential=False)
    specs = uniform_specs(graph, *INTEGERS)
    shared.build(specs)
    shared.build(specs | {"fc.weight": qsim.parse("int2@channel:float32")})
    shared.build(specs)
    assert calls == ["conv", "dw", "fc", "fc"]


def test_progress_is_told_where_it_is_asked_for(graph: Graph) -> None:
    seen = []

    def track(items, what, total):  # type: ignore[no-untyped-def]
        seen.append((what, total))
        return items

    how = Calibration(steps=["gptq"])
    PlanBuilder.calibrate(graph, {"x": inputs(10)}, how, track=track).build(uniform_specs(graph, *INTEGERS))
    assert seen == [("tuning layers", len(graph.nodes))]


def test_a_layer_alone_takes_steps(graph: Graph) -> None:
    """As sensitivities do: one layer in a format, all others in float32."""
    plan = builder(graph, STEPS).build({"dw.weight": qsim.parse("int3@channel:float32")})
    assert set(plan.tensors) == {"dw.weight", "dw.bias"}
    plain = builder(graph, []).build({"dw.weight": qsim.parse("int3@channel:float32")})
    x = inputs(100, seed=5)
    assert noise(graph, plan, x) <= noise(graph, plain, x)


def test_ranges_of_least_output_error_heed_the_weights(graph: Graph) -> None:
    """An input channel of large values that no weight reads does not cost the others their resolution."""
    from dataclasses import replace

    weight = graph.parameters["conv.weight"].copy()
    weight[:, 0] = 0
    blind = replace(graph, parameters={**graph.parameters, "conv.weight": weight})
    x = inputs(60)
    x[:, 0] *= 30
    specs = {"x": qsim.parse("uint4+zp@tensor:float32")}
    plans = [
        PlanBuilder.calibrate(blind, {"x": x}, Calibration(activations=method)).build(specs)
        for method in ("output", "mse")
    ]
    assert noise(blind, plans[0], x) < 0.1 * noise(blind, plans[1], x)
