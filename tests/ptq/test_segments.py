"""The parts of a network that are reconstructed one after another, on networks with attention and tied weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import qsim
from qsim.emulator.execute import run_graph
from qsim.graph import Graph
from qsim.ptq import Calibration, PlanBuilder
from qsim.ptq.reconstruction import make_plan_steps
from qsim.ptq.reconstruction.network import QuantizedNetwork, float_values
from qsim.ptq.reconstruction.segments import Segment, block_segments, layer_segments
from qsim.ptq.reconstruction.weights import SoftWeight, StraightThroughWeight
from tests.emulator.networks import uniform_specs
from tests.ptq.transform_networks import make_network

CUTS = (layer_segments, block_segments)


def nearest(
    graph: Graph, inputs: dict[str, np.ndarray], weights: str, activations: str = "uint8+zp@tensor:float32"
) -> qsim.BitPlan:
    builder = PlanBuilder.calibrate(graph, inputs, Calibration(weights="mse"))
    return builder.build(uniform_specs(graph, weights, activations))


def more(inputs: dict[str, np.ndarray], samples: int = 48) -> dict[str, np.ndarray]:
    """Other inputs of the same kind: normal images, tokens drawn from a vocabulary of 24."""
    rng = np.random.default_rng(1)
    return {
        name: rng.standard_normal((samples, *x.shape[1:])).astype(x.dtype)
        if x.dtype == np.float32
        else rng.integers(0, 24, (samples, *x.shape[1:]))
        for name, x in inputs.items()
    }


def layers_with_weights(graph: Graph, segment: Segment) -> list[str]:
    return [layer.name for layer in segment.layers if layer.weights in graph.parameters]


@pytest.mark.parametrize("name", ["cnn", "vit", "lm"])
@pytest.mark.parametrize("cut", CUTS)
def test_segments_one_after_another_are_the_network(name: str, cut: Any) -> None:
    """Of a head that is a view of the embedding, too: the view is made in the part that reads it."""
    graph, inputs = make_network(name)
    values = {key: torch.from_numpy(array) for key, array in inputs.items()}
    exact = run_graph(graph, values)
    for segment in cut(graph):
        assert set(segment.inputs) <= set(values)
        assert all(len(values[key]) == 6 for key in segment.inputs)  # activations: a value a sample
        values |= float_values(graph, values, segment.outputs, segment.nodes)
    for output in graph.outputs:
        assert torch.equal(values[output], exact[output])


def test_attention_and_feed_forward_are_blocks() -> None:
    """Nothing but the residual stream is cut, and products of two activations never are."""
    graph, _ = make_network("lm")
    attention, feed_forward, head = (layers_with_weights(graph, part) for part in block_segments(graph))
    assert len(attention) == 4 and len(feed_forward) == 3 and len(head) == 1
    assert all(len(part.inputs) == 1 for part in block_segments(graph))
    assert all(len(layers_with_weights(graph, part)) == 1 for part in layer_segments(graph))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "iterations"), [("adaquant", 150), ("qdrop", 40), ("qat", 40)])
@pytest.mark.parametrize("network", ["vit", "lm"])
def test_transformers_are_reconstructed(network: str, name: str, iterations: int) -> None:
    graph, few = make_network(network)
    inputs = more(few)
    plan = nearest(graph, inputs, "int3@channel:float32")
    (step,) = make_plan_steps([{name: {"iterations": iterations, "batch": 12}}])
    tuned = step(graph, plan, inputs, seed=0, track=None)
    x = next(iter(inputs.values()))
    exact = qsim.emulate(graph, None, x).output
    before, after = (np.square(qsim.emulate(graph, p, x).output - exact).mean() for p in (plan, tuned))
    assert tuned.id != plan.id and after < before


@pytest.mark.parametrize("weights", ["mxfp4", "mxint8", "int4@tensor:e8m0"])
def test_soft_roundings_leave_powers_of_two_alone(weights: str) -> None:
    """The next power of two would double every weight of a block while its roundings are learned."""
    graph, inputs = make_network("cnn")
    plan = nearest(graph, inputs, weights)
    sample = {name: torch.from_numpy(array) for name, array in inputs.items()}
    soft, free = (QuantizedNetwork(graph, plan, sample, kind) for kind in (SoftWeight, StraightThroughWeight))
    assert soft.weights and all(weight.scale is None for weight in soft.weights.values())
    assert all(weight.scale is not None for weight in free.weights.values())
    for layer in graph.layers:
        stored = soft.stored().tensors[layer.weights]
        np.testing.assert_array_equal(stored.scale, plan.tensors[layer.weights].scale)


@pytest.mark.parametrize("weights", ["mxfp4", "int4@tensor:e8m0", "int4@channel:float32"])
def test_blocks_are_reconstructed_under_any_scale(weights: str) -> None:
    """From nearest rounding, learning roundings brings the outputs of the network closer."""
    graph, inputs = make_network("cnn")
    plan = nearest(graph, inputs, weights)
    (step,) = make_plan_steps([{"brecq": {"iterations": 80, "batch": 6}}])
    tuned = step(graph, plan, inputs, seed=0, track=None)
    x = next(iter(inputs.values()))
    exact = qsim.emulate(graph, None, x).output
    before, after = (np.square(qsim.emulate(graph, p, x).output - exact).mean() for p in (plan, tuned))
    assert after < 0.9 * before
