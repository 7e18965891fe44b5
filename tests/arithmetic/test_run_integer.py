"""Whole networks on codes: against the emulator's real numbers, and what makes a plan integer only."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import qsim
from qsim.arithmetic.integer import (
    affine_of,
    check_integer_only,
    is_integer_only,
    run_integer,
    to_integer_only,
)
from qsim.errors import PlanError, UserError
from qsim.graph.inference import with_shapes
from qsim.graph.ir import Graph, Node, Tensor
from qsim.plan import BitPlan, LayerPlan, TensorPlan
from qsim.ptq.build import PlanBuilder


def residual_network() -> Graph:
    """conv - relu - conv, added to the first relu, averaged, classified."""
    rng = np.random.default_rng(8)
    shapes = {"w0": (6, 3, 3, 3), "b0": (6,), "w1": (6, 6, 3, 3), "b1": (6,), "w2": (4, 6), "b2": (4,)}
    parameters = {name: rng.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}
    same = {"pads": (1, 1, 1, 1), "strides": (1, 1), "kernel_shape": (3, 3)}
    nodes = (
        Node("conv0", "Conv", ("x", "w0", "b0"), ("c0",), same),
        Node("relu0", "Relu", ("c0",), ("a0",)),
        Node("conv1", "Conv", ("a0", "w1", "b1"), ("c1",), same),
        Node("add", "Add", ("a0", "c1"), ("s",)),
        Node("relu1", "Relu", ("s",), ("a1",)),
        Node("pool", "GlobalAveragePool", ("a1",), ("p",)),
        Node("flatten", "Flatten", ("p",), ("f",)),
        Node("gemm", "Gemm", ("f", "w2", "b2"), ("y",), {"transB": 1}),
    )
    tensors = {"x": Tensor("x", ("batch", 3, 8, 8), "float32", "input")}
    return with_shapes(Graph("residual", ("x",), ("y",), nodes, tensors, parameters))


@pytest.fixture(scope="module")
def graph() -> Graph:
    return residual_network()


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(9).normal(0, 1, (12, 3, 8, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def plan(graph: Graph, images: np.ndarray) -> BitPlan:
    specs = {}
    for layer in graph.layers:
        specs[layer.input] = qsim.parse("uint8+zp@tensor:float32")
        specs[layer.weights] = qsim.parse("int8@channel:float32")
    return PlanBuilder.calibrate(graph, {"x": images}).build(specs)


@pytest.mark.parametrize("rule", ["dyadic", "dyadic_even", "float"])
def test_integer_only_follows_the_fake_quantized_network(
    graph: Graph, plan: BitPlan, images: np.ndarray, rule: str
) -> None:
    integers = to_integer_only(graph, plan, rule)
    codes = run_integer(graph, integers, {"x": images})["y"]
    ours = affine_of(integers, "y").dequantize(codes)
    fake = qsim.emulate(graph, plan, images).output
    assert codes.dtype == np.int32
    assert np.abs(ours - fake).max() <= 0.05 * fake.std()


@pytest.mark.parametrize("rule", ["tflite_double", "onnx"])
def test_sums_of_accumulators_need_a_rule_that_can(
    graph: Graph, plan: BitPlan, images: np.ndarray, rule: str
) -> None:
    with pytest.raises(UserError, match=f"node 'add' .* rule '{rule}' takes one scale for each tensor"):
        run_integer(graph, to_integer_only(graph, plan, rule), {"x": images})


def test_conversion_keeps_what_was_tuned(graph: Graph, plan: BitPlan) -> None:
    integers = to_integer_only(graph, plan)
    for name, tensor in plan.tensors.items():
        assert integers.tensors[name] is tensor
    assert {layer.requantize for layer in integers.layers.values()} == {"dyadic"}
    assert not is_integer_only(graph, plan)
    assert is_integer_only(graph, integers)
    bias = integers.tensors["b1"]
    assert bias.codes is not None
    product = plan.tensors["a0"].scale * plan.tensors["w1"].scale
    assert np.array_equal(bias.scale, product)
    assert np.abs(bias.codes * product - graph.parameters["b1"]).max() <= product.max() / 2 * (1 + 1e-6)


def test_a_saved_plan_gives_the_same_codes(graph: Graph, plan: BitPlan, images: np.ndarray, tmp_path) -> None:
    integers = to_integer_only(graph, plan)
    read = BitPlan.load(integers.save(tmp_path / "plan.json"))
    names = [name for node in graph.nodes for name in node.outputs]
    for name, codes in run_integer(graph, integers, {"x": images}, keep=names).items():
        assert np.array_equal(run_integer(graph, read, {"x": images}, keep=[name])[name], codes)


def test_codes_and_real_inputs_and_batches_agree(graph: Graph, plan: BitPlan, images: np.ndarray) -> None:
    integers = to_integer_only(graph, plan)
    codes = affine_of(integers, "x").quantize(images)
    whole = run_integer(graph, integers, {"x": images})["y"]
    assert np.array_equal(run_integer(graph, integers, {"x": codes})["y"], whole)
    parts = [run_integer(graph, integers, {"x": codes[i : i + 5]})["y"] for i in (0, 5, 10)]
    assert np.array_equal(np.concatenate(parts), whole)
    assert run_integer(graph, integers, {"x": codes[:0]})["y"].shape == (0, 4)


def test_given_codes_stand_in_for_computed_ones(graph: Graph, plan: BitPlan, images: np.ndarray) -> None:
    """Fed its own codes a network gives them again; fed others, a layer answers to those."""
    integers = to_integer_only(graph, plan)
    names = [name for node in graph.nodes for name in node.outputs]
    free = run_integer(graph, integers, {"x": images}, keep=names)
    again = run_integer(graph, integers, {"x": images}, keep=names, given=free)
    assert all(np.array_equal(free[name], again[name]) for name in names)
    zeros = {"a0": np.zeros_like(free["a0"])}
    forced = run_integer(graph, integers, {"x": images}, keep=["a0", "c1"], given=zeros)
    assert np.array_equal(forced["a0"], free["a0"])
    assert not np.array_equal(forced["c1"], free["c1"])


def test_fixed_point_tensors_are_integers_with_a_power_of_two() -> None:
    tensor = TensorPlan(qsim.parse("fixed16.6"), "activation", 1)
    affine = affine_of(BitPlan({"t": tensor}), "t")
    assert (affine.element.bits, float(affine.scale), int(affine.zero_point)) == (16, 2.0**-10, 0)


def test_plans_that_are_not_integer_only_say_why(graph: Graph, plan: BitPlan, images: np.ndarray) -> None:
    integers = to_integer_only(graph, plan)

    def changed(name: str, spec: str) -> BitPlan:
        tensor = replace(integers.tensors[name], spec=qsim.parse(spec))
        return replace(integers, tensors={**integers.tensors, name: tensor})

    def message(broken: BitPlan) -> str:
        with pytest.raises(PlanError) as caught:
            check_integer_only(graph, broken)
        return str(caught.value)

    assert "tensor 'a0' is e4m3fn@tensor:float32, not an integer" in message(
        changed("a0", "e4m3fn@tensor:float32")
    )
    assert "its scale must be static" in message(changed("a0", "int8@token:float32"))
    assert "tensor 'x' has no spec" in message(replace(integers, tensors={}))
    layers = {**integers.layers, "conv1": LayerPlan()}
    assert "node 'conv1' (Conv) has no requantization rule" in message(replace(integers, layers=layers))
    with pytest.raises(PlanError, match="unknown requantization rule 'nearest'"):
        to_integer_only(graph, plan, "nearest")
    with pytest.raises(PlanError, match="layer 'conv0': tensor 'x' needs a spec"):
        to_integer_only(graph, replace(plan, tensors={}))
    with pytest.raises(UserError, match="needs the input 'x'"):
        run_integer(graph, integers, {})
    with pytest.raises(UserError, match="input 'x' takes codes of uint8"):
        run_integer(graph, integers, {"x": np.full((1, 3, 8, 8), 300)})


def test_a_bias_beyond_32_bits_is_an_error(graph: Graph, plan: BitPlan) -> None:
    weights = plan.tensors["w1"]
    assert weights.scale is not None
    tiny = replace(weights, scale=weights.scale * np.float32(1e-12))
    with pytest.raises(PlanError, match="layer 'conv1': the bias of channel"):
        to_integer_only(graph, replace(plan, tensors={**plan.tensors, "w1": tiny}))
