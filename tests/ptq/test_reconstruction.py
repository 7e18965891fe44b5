"""Tuning by gradients: of what, over what, and that the plan holds what was tuned."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import qsim
from qsim.graph import Graph
from qsim.ptq import Calibration, PlanBuilder
from qsim.ptq.reconstruction import make_plan_steps
from qsim.ptq.reconstruction.augment import augmented
from qsim.ptq.reconstruction.casts import (
    COARSE_PACE,
    LearnedScale,
    cast_with_gradient,
    moved_point,
    step_size_gain,
)
from qsim.ptq.reconstruction.network import QuantizedNetwork
from qsim.ptq.reconstruction.segments import block_segments, layer_segments, whole_network
from qsim.ptq.reconstruction.weights import LearnedWeight, SoftWeight, StraightThroughWeight
from tests.emulator import networks
from tests.emulator.networks import small_cnn, uniform_specs

PAIRS = (
    ("int3@channel:float32", "uint4+zp@tensor:float32"),
    ("int4@block8:float16", "int8@tensor:e8m0"),
    ("uint4+zp@channel:float32", "e4m3fn@tensor:float32"),
    ("e2m1fn@channel:float32", "e2m1fn@tensor:float32"),
    ("fixed4.1", "fixed6.3"),
    ("pot2@tensor:float32", "posit6.1@tensor:float32"),
    ("mxfp4", "mxfp8_e4m3"),
    ("nvfp4", "nvfp4"),
    ("ternary@channel:float32", "uint8+zp@tensor:float32"),
)
SAMPLES = 64
QUICK = {
    "adaquant": {"iterations": 15},
    "brecq": {"iterations": 120},
    "qdrop": {"iterations": 30},
    "qat": {"iterations": 20, "divergence": 0.0, "augment": ()},
    "qfx": {"iterations": 20, "divergence": 0.0, "augment": ()},
}


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    return qsim.load_model(small_cnn(tmp_path_factory.mktemp("reconstruction")))


def inputs(samples: int) -> np.ndarray:
    """Images whose neighbouring pixels and channels are alike, so that roundings can make good for each other."""
    x = networks.inputs(samples)
    return (x.cumsum(2).cumsum(3) / 4 + x.mean(1, keepdims=True)).astype(np.float32)


@cache
def _builder(graph: Graph) -> PlanBuilder:
    how = Calibration(steps=["gptq", "bias_correction"])
    return PlanBuilder.calibrate(graph, {"x": inputs(SAMPLES)}, how)


def plan_of(graph: Graph, weights: str, activations: str) -> qsim.BitPlan:
    return _builder(graph).build(uniform_specs(graph, weights, activations))


def tuned(graph: Graph, plan: qsim.BitPlan, name: str, seed: int = 0, **options: Any) -> qsim.BitPlan:
    (step,) = make_plan_steps([{name: QUICK[name] | options}])
    return step(graph, plan, {"x": inputs(SAMPLES)}, seed=seed, track=None)


def noise(graph: Graph, plan: qsim.BitPlan, names: tuple[str, ...] = ("y",)) -> float:
    """Of the outputs on the calibration data, in units of their variance."""
    x = inputs(SAMPLES)
    exact = qsim.emulate(graph, None, x, trace=names).tensors
    ours = qsim.emulate(graph, plan, x, trace=names).tensors
    return float(np.mean([np.square(ours[n] - exact[n]).mean() / exact[n].var() for n in names]))


@pytest.mark.parametrize("element", ["int4", "uint4", "e2m1fn", "e3m2fn", "posit6.1", "nf4", "ternary"])
def test_gradients_of_learned_step_size_are_those_of_its_definition(element: str) -> None:
    """s Q(clip(x / s)) with the rounding as a constant offset (Esser et al. 2020, eq. 1 and 2), differentiated
    numerically in x and s.
    """
    values = qsim.values(element)
    low, high = float(values[0]), float(values[-1])
    x = torch.from_numpy(np.random.default_rng(0).standard_normal(200) * high).requires_grad_()
    scale, h, gain = torch.tensor(0.37, dtype=torch.float64, requires_grad=True), 1e-6, 0.25
    spec = qsim.parse(f"{element}@tensor:float64")
    y = cast_with_gradient(x, scale, qsim.quantize(x.detach(), spec, scale=0.37), low, high, gain)
    weight = torch.arange(200, dtype=torch.float64)
    (y * weight).sum().backward()

    def definition(x: np.ndarray, s: float) -> np.ndarray:
        offset = qsim.quantize(fixed / 0.37, element) - np.clip(fixed / 0.37, low, high)
        return s * (np.clip(x / s, low, high) + offset)

    fixed = x.detach().numpy()
    of_scale = (definition(fixed, 0.37 + h) - definition(fixed, 0.37 - h)) / (2 * h)
    of_x = (definition(fixed + h, 0.37) - definition(fixed - h, 0.37)) / (2 * h)
    assert float(scale.grad) == pytest.approx(gain * float((of_scale * weight.numpy()).sum()), rel=1e-5)
    np.testing.assert_allclose(x.grad.numpy(), of_x * weight.numpy(), atol=1e-5)


def test_the_gain_is_that_of_the_paper() -> None:
    assert step_size_gain(100, 7.0) == pytest.approx(1 / np.sqrt(700))


def test_a_learned_power_of_two_scale_is_a_power_of_two() -> None:
    scale = LearnedScale(np.array([0.25, 2.0], np.float32), qsim.parse("e8m0").element)
    np.testing.assert_array_equal(scale.stored(), [0.25, 2.0])
    scale.learned += 0.6 / COARSE_PACE
    np.testing.assert_array_equal(scale.stored(), [0.5, 4.0])


def test_a_moved_point_keeps_the_width() -> None:
    assert str(moved_point(qsim.parse("fixed8.3"), 0.25)) == "fixed8.1"
    assert str(moved_point(qsim.parse("ufixed8.3/floor"), 2.0)) == "ufixed8.4/floor"


@pytest.mark.parametrize(("weights", "activations"), PAIRS)
@pytest.mark.parametrize("kind", [StraightThroughWeight, SoftWeight])
def test_before_learning_the_network_is_the_plan(
    graph: Graph, weights: str, activations: str, kind: type[LearnedWeight]
) -> None:
    plan, x = plan_of(graph, weights, activations), inputs(SAMPLES)
    network = QuantizedNetwork(graph, plan, {"x": torch.from_numpy(x)}, kind, move_points=True)
    ours = network.run({"x": torch.from_numpy(x)}, ["y"])["y"].detach().numpy()
    np.testing.assert_allclose(ours, qsim.emulate(graph, plan, x).output, rtol=1e-4, atol=1e-5)
    assert network.stored().id == plan.id


@pytest.mark.parametrize(("weights", "activations"), PAIRS)
@pytest.mark.parametrize("kind", [StraightThroughWeight, SoftWeight])
def test_what_was_tuned_is_what_is_stored(
    graph: Graph, weights: str, activations: str, kind: type[LearnedWeight]
) -> None:
    """Weights, biases and scales moved at random: emulating the stored plan is the network's own forward pass."""
    plan, x = plan_of(graph, weights, activations), inputs(SAMPLES)
    network = QuantizedNetwork(graph, plan, {"x": torch.from_numpy(x)}, kind, move_points=True)
    generator = torch.Generator().manual_seed(1)
    scales = [weight.scale for weight in network.weights.values()] + list(network.scales.values())
    for part in (*network.weights.values(), *network.biases.values(), *scales):
        if part is not None:
            part.learned += 0.15 * torch.randn(part.learned.shape, generator=generator).clamp(-0.3, 0.3)
    ours = network.run({"x": torch.from_numpy(x)}, ["y"])["y"].detach().numpy()
    theirs = qsim.emulate(graph, network.stored(), x).output
    # A sum that another order rounds to the other side of a tie moves one activation by one step.
    close = np.isclose(ours, theirs, rtol=1e-4, atol=1e-4).all(1)
    assert close.mean() > 0.95


@pytest.mark.parametrize("name", ["adaquant", "brecq", "qat"])
@pytest.mark.parametrize(("weights", "activations"), PAIRS[1:6:2])
def test_no_result_is_worse_than_its_start(graph: Graph, name: str, weights: str, activations: str) -> None:
    plan = plan_of(graph, weights, activations)
    result = tuned(graph, plan, name, iterations=10)
    names = ("y",) if name != "qat" else tuple(layer.output for layer in graph.layers)
    assert noise(graph, result, names) <= noise(graph, plan, names) * 1.02
    assert all(result.tensors[n].spec == t.spec for n, t in plan.tensors.items() if t.role != "bias")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["adaquant", "brecq", "qat"])
def test_low_bits_gain(graph: Graph, name: str) -> None:
    plan = plan_of(graph, "int3@channel:float32", "uint6+zp@tensor:float32")
    assert noise(graph, tuned(graph, plan, name)) < noise(graph, plan)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["adaquant", "qat", "qfx"])
def test_same_seed_same_bits(graph: Graph, name: str) -> None:
    plan = plan_of(graph, "int3@channel:float32", "uint6+zp@tensor:float32")
    options = {"augment": ("shift", "mirror", "mix")} if name == "qat" else {}
    first, second, other = (tuned(graph, plan, name, seed, **options) for seed in (3, 3, 4))
    assert first.id == second.id
    assert first.id != other.id


def test_dropped_casts_lie_between_none_and_all(graph: Graph) -> None:
    """The error of casting only some activations is less than that of casting all, and drawn from the generator."""
    plan, x = (
        plan_of(graph, "int8@channel:float32", "uint4+zp@tensor:float32"),
        torch.from_numpy(inputs(SAMPLES)),
    )
    network = QuantizedNetwork(graph, plan, {"x": x}, SoftWeight)

    def output(drop: float, seed: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        return network.run({"x": x}, ["conv"], drop=drop, generator=generator)["conv"].detach()

    exact = torch.from_numpy(qsim.emulate(graph, None, x.numpy(), trace="conv").tensors["conv"])
    errors = [float((output(drop, 0) - exact).square().mean()) for drop in (0.0, 0.5, 0.99)]
    assert errors[0] > errors[1] > errors[2]
    assert torch.equal(output(0.5, 1), output(0.5, 1))
    assert not torch.equal(output(0.5, 1), output(0.5, 2))


def test_points_move_to_where_the_numbers_are(graph: Graph) -> None:
    """Weights of about 0.3 in fixed5.3 (steps of 0.25) get fewer integer bits; the width stays."""
    plan = plan_of(graph, "fixed5.3", "fixed10.5")
    result = tuned(graph, plan, "qfx", iterations=60)
    elements = [result.tensors[layer.weights].specs[0].element for layer in graph.layers]
    assert all(element.width == 5 for element in elements)
    assert min(element.integer for element in elements) < 3
    assert noise(graph, result) < noise(graph, plan)
    held = tuned(graph, plan, "qat", iterations=5)
    assert {str(t.spec) for t in held.tensors.values() if t.role == "weight"} == {"fixed5.3"}


def test_segments_cover_the_network_once(graph: Graph) -> None:
    for segments in (layer_segments(graph), block_segments(graph), (whole_network(graph),)):
        assert [node for segment in segments for node in segment.nodes] == list(graph.nodes)
        assert [layer for segment in segments for layer in segment.layers] == list(graph.layers)
    assert [segment.inputs for segment in layer_segments(graph)] == [("x",), ("a",), ("flat",)]
    assert [segment.outputs for segment in layer_segments(graph)] == [("a",), ("flat",), ("y",)]
    # the shortcut around `dw` is not cut, and a depthwise layer stays with the next one
    assert [segment.inputs for segment in block_segments(graph)] == [("x",), ("a",)]
    assert whole_network(graph).outputs == ("a", "dw", "y")


def test_augmentation_keeps_shapes_and_changes_inputs_together() -> None:
    x = torch.arange(4 * 2 * 16 * 16, dtype=torch.float32).reshape(4, 2, 16, 16)
    for name in ("shift", "mirror", "mix"):
        result = augmented({"a": x, "b": x}, [name], torch.Generator().manual_seed(0))
        assert torch.equal(result["a"], result["b"])
        assert result["a"].shape == x.shape
        assert not torch.equal(result["a"], x)
    words = torch.ones(4, 7, dtype=torch.int64)
    every = augmented({"ids": words}, ["shift", "mirror", "mix"], torch.Generator())
    assert torch.equal(every["ids"], words)


def test_progress_is_told_where_it_is_asked_for(graph: Graph) -> None:
    seen: list[tuple[str, int]] = []

    def track(items: Any, what: str, total: int) -> Any:
        seen.append((what, total))
        return items

    plan = plan_of(graph, "int3@channel:float32", "uint8+zp@tensor:float32")
    for step in make_plan_steps([{"qdrop": {"iterations": 2}}, {"qat": {"iterations": 2}}]):
        step(graph, plan, {"x": inputs(SAMPLES)}, seed=0, track=track)
    assert seen == [("tuning segments", 2), ("fine-tuning", 2)]


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ({"qdrop": {"drop": 1.0}}, "qdrop: iterations and batch"),
        ({"adaquant": {"iterations": 0}}, "adaquant: iterations and batch"),
        ({"qat": {"augment": ["rotate"]}}, "augment 'rotate' is unknown; there are shift, mirror, mix"),
        ({"qat": {"rate": -1.0}}, "rate and divergence at least 0"),
        ("lsq", "'lsq' is unknown; there are"),
    ],
)
def test_mistakes_are_named(entry: Any, text: str) -> None:
    with pytest.raises(qsim.errors.UserError, match=text):
        make_plan_steps([entry])


def test_a_calibration_lists_them(graph: Graph, tmp_path: Path) -> None:
    how = Calibration(steps=["gptq", "bias_correction"], after=[{"qat": {"iterations": 3}}])
    specs = uniform_specs(graph, "int3@channel:float32", "uint4+zp@tensor:float32")
    plan = PlanBuilder.calibrate(graph, {"x": inputs(SAMPLES)}, how).build(specs)
    loaded = qsim.BitPlan.load(plan.save(tmp_path / "plan.json"))
    assert loaded.id == plan.id
