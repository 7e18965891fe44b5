"""What the emulator computes is what integer hardware computes, whatever the batch, and it says how."""

from __future__ import annotations

import importlib
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

import qsim
from qsim.arithmetic.integer import to_integer_only
from qsim.arithmetic.mac import Mac
from qsim.errors import PlanError, UserError
from qsim.plan import ChannelSpec, LayerPlan, TensorPlan
from qsim.ptq import Calibration, PlanBuilder
from tests.emulator.networks import inputs, small_cnn, uniform_specs


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> qsim.Graph:
    return qsim.load_model(small_cnn(tmp_path_factory.mktemp("model")))


def make_plan(graph: qsim.Graph, weights: str, activations: str, method: str = "minmax") -> qsim.BitPlan:
    how = Calibration(activations=method, weights=method)
    return PlanBuilder.calibrate(graph, {"x": inputs(20, seed=5)}, how).build(
        uniform_specs(graph, weights, activations)
    )


def integer_conv(
    x: np.ndarray, w: np.ndarray, stride: int, pads: tuple[int, int, int, int], groups: int
) -> np.ndarray:
    """Direct int64 convolution, NCHW x OIHW."""
    top, left, bottom, right = pads
    x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    kh, kw = w.shape[2:]
    windows = np.lib.stride_tricks.sliding_window_view(x, (kh, kw), (2, 3))[:, :, ::stride, ::stride]
    per_group = w.shape[0] // groups
    parts = [
        np.einsum(
            "nchwij,ocij->nohw",
            windows[:, g * w.shape[1] : (g + 1) * w.shape[1]],
            w[g * per_group : (g + 1) * per_group],
        )
        for g in range(groups)
    ]
    return np.concatenate(parts, 1)


def integers(plan: qsim.BitPlan, name: str) -> np.ndarray:
    """Zero-point-free integers of a weight or bias of the plan."""
    tensor = plan.tensors[name]
    assert tensor.codes is not None
    return tensor.codes.astype(np.int64)


def test_a_layer_equals_integer_arithmetic_bit_for_bit(graph: qsim.Graph) -> None:
    plan = make_plan(graph, "int8@channel:float32", "uint8+zp@tensor:float32")
    run = qsim.emulate(graph, plan, inputs(), trace=["x", "conv"])
    x = plan.tensors["x"]
    codes = np.clip(np.rint(inputs() / x.scale) + x.zero_point, 0, 255) - x.zero_point
    total = integer_conv(codes.astype(np.int64), integers(plan, "conv.weight"), 2, (0, 0, 1, 1), 1)
    total += integers(plan, "conv.bias")[:, None, None]
    scale = (np.float32(x.scale) * plan.tensors["conv.weight"].scale)[:, None, None]
    np.testing.assert_array_equal(run.tensors["conv"], total.astype(np.float32) * scale)
    assert run.layers[0].arithmetic == "exact (float32)"


@pytest.mark.parametrize(
    "weights, activations",
    [
        ("int8@channel:float32", "uint8+zp@tensor:float32"),
        ("fixed8.2", "fixed8.4"),
        ("e4m3fn@channel:float32", "e4m3fn@tensor:float32"),
        ("e2m1fn@channel:float32", "int8@tensor:float32"),
        ("int6@tensor:e8m0/ceil", "int8@tensor:e8m0/ceil"),
        ("mxfp8_e4m3", "mxfp8_e4m3"),
        ("mxint8", "mxint8"),
        ("nvfp4", "nvfp4"),
        ("int8@channel:float32", "int8@token:float32"),
        ("nf4@block16:float16", "float16"),
    ],
)
def test_any_format_runs_close_to_float32_and_independent_of_the_batch(
    graph: qsim.Graph, weights: str, activations: str
) -> None:
    plan = make_plan(graph, weights, activations)
    x = inputs(7)
    whole = qsim.emulate(graph, plan, x, trace="layers")
    np.testing.assert_array_equal(whole.output, qsim.emulate(graph, plan, x, batch_size=3).output)
    assert all(layer.sqnr_db is not None and layer.sqnr_db > 5 for layer in whole.layers)
    fast = qsim.emulate(graph, plan, x, arithmetic="fast")
    np.testing.assert_allclose(fast.output, whole.output, rtol=0, atol=0.1)
    assert fast.arithmetic == "fast" and {layer.arithmetic for layer in fast.layers} == {"float32"}


def test_exact_means_the_sum_in_fractions_for_minifloats(graph: qsim.Graph) -> None:
    """The fully connected layer in e4m3: float64 holds every sum of multiples of 2^-18 exactly."""
    plan = make_plan(graph, "e4m3fn", "e4m3fn")
    run = qsim.emulate(graph, plan, inputs(), trace=["flat", "y"])
    w = qsim.quantize(graph.parameters["fc.weight"].astype(np.float64), "e4m3fn")
    exact = (run.tensors["flat"].astype(np.float64) @ w.T).astype(np.float32) + graph.parameters["fc.bias"]
    np.testing.assert_array_equal(run.output, exact)
    assert run.layers[-1].arithmetic.startswith("exact")


def test_more_bits_never_lower_the_signal_to_noise_ratio(graph: qsim.Graph) -> None:
    ratios = []
    for bits in (3, 4, 6, 8, 12):
        plan = make_plan(graph, f"int{bits}@channel:float32", f"int{bits}@tensor:float32")
        ratios.append(qsim.emulate(graph, plan, inputs(20, seed=5), trace="layers").layers[-1].sqnr_db)
    assert ratios == sorted(ratios)
    assert ratios[-1] - ratios[0] > 35  # about 6 dB a bit


def test_stochastic_rounding_depends_on_the_seed_alone(graph: qsim.Graph) -> None:
    plan = make_plan(graph, "int8@channel:float32", "int4/stochastic8@tensor:float32")
    x = inputs(9)
    first = qsim.emulate(graph, plan, x, seed=3).output
    np.testing.assert_array_equal(first, qsim.emulate(graph, plan, x, seed=3, batch_size=2).output)
    assert not np.array_equal(first, qsim.emulate(graph, plan, x, seed=4).output)


def test_torch_in_torch_out(graph: qsim.Graph) -> None:
    plan = make_plan(graph, "int8@channel:float32", "int8@tensor:float32")
    run = qsim.emulate(graph, plan, torch.from_numpy(inputs()))
    assert isinstance(run.output, torch.Tensor)
    np.testing.assert_array_equal(run.output.numpy(), qsim.emulate(graph, plan, inputs()).output)


def test_no_plan_is_the_float32_network(graph: qsim.Graph, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(small_cnn(tmp_path), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(
        qsim.emulate(graph, None, inputs()).output,
        session.run(None, {"x": inputs()})[0],
        rtol=1e-5,
        atol=1e-6,
    )


def test_mistakes_are_one_clear_line(graph: qsim.Graph, tmp_path: Path) -> None:
    plan = make_plan(graph, "int8@channel:float32", "int8@tensor:float32")
    other = qsim.load_model(small_cnn(tmp_path, seed=9))
    with pytest.raises(PlanError, match="was made for model"):
        qsim.emulate(other, plan, inputs())
    with pytest.raises(UserError, match="trace names tensor 'nowhere'"):
        qsim.emulate(graph, plan, inputs(), trace=["nowhere"])
    with pytest.raises(UserError, match="missing"):
        qsim.emulate(graph, plan, {"z": inputs()})
    parts = tuple(ChannelSpec((c,), qsim.parse(f"int{8 - c}@channel:float32")) for c in range(4))
    mixed = replace(plan, tensors={**plan.tensors, "conv.weight": TensorPlan(parts, "weight", 0)})
    with pytest.raises(PlanError, match=r"'conv.weight' mixes specs"):
        qsim.emulate(graph, mixed, inputs())
    poisoned = inputs()
    poisoned[0, 0, 0, 0] = np.nan
    with pytest.raises(PlanError, match="tensor 'x'"):
        qsim.emulate(graph, plan, poisoned)


def test_no_samples_give_an_empty_output(graph: qsim.Graph) -> None:
    plan = make_plan(graph, "int8@channel:float32", "int8@tensor:float32")
    assert qsim.emulate(graph, plan, inputs(0)).output.shape == (0, 5)


def test_the_emulator_is_loaded_lazily() -> None:
    assert callable(importlib.import_module("qsim.emulator").emulate)


@pytest.mark.parametrize(
    "weights, activations, accumulator",
    [
        ("int8@channel:e8m0/ceil", "int8@tensor:e8m0/ceil", "int12"),
        ("fixed8.2", "fixed8.4", "fixed14.6/floor/wrap"),
        ("e4m3fn", "e4m3fn", "float16"),
        ("e2m1fn@channel:float32", "int8@tensor:float32", "fixed10.7"),
    ],
)
def test_a_narrow_accumulator_rounds_every_sum(
    graph: qsim.Graph, weights: str, activations: str, accumulator: str
) -> None:
    """The fully connected layer, one addition at a time, from the bias in units of the products on."""
    mac = Mac(accumulator=accumulator)
    plan = replace(make_plan(graph, weights, activations), layers={"fc": LayerPlan(mac)})
    run = qsim.emulate(graph, plan, inputs(), trace=["flat"])
    x, w = plan.tensors["flat"], plan.tensors["fc.weight"]
    scale = np.float32(1) if x.scale is None else np.float32(x.scale) * w.scale
    units = run.tensors["flat"].astype(np.float64) / (1 if x.scale is None else x.scale)
    bias = graph.parameters["fc.bias"].astype(np.float64) / scale
    if "fc.bias" in plan.tensors:
        bias = plan.tensors["fc.bias"].codes.astype(np.float64)
    total = np.broadcast_to(qsim.quantize(bias, accumulator), (len(units), 5))
    for k in range(units.shape[1]):
        total = qsim.quantize(
            total + units[:, k : k + 1] * w.specs[0].element.decode(w.codes)[:, k], accumulator
        )
    np.testing.assert_array_equal(run.output, total.astype(np.float32) * scale)
    assert run.layers[-1].arithmetic == f"mac accumulator={mac.accumulator}"


def test_a_wide_accumulator_changes_nothing(graph: qsim.Graph) -> None:
    plan = make_plan(graph, "int8@channel:float32", "uint8+zp@tensor:float32")
    wide = replace(plan, layers={layer.name: LayerPlan(Mac(accumulator="int32")) for layer in graph.layers})
    np.testing.assert_array_equal(
        qsim.emulate(graph, plan, inputs()).output, qsim.emulate(graph, wide, inputs()).output
    )


def test_an_integer_only_plan_runs_on_codes(graph: qsim.Graph) -> None:
    plan = make_plan(graph, "int8@channel:float32", "int8@tensor:float32")
    integer = to_integer_only(graph, plan)
    run = qsim.emulate(graph, integer, inputs(20), trace="layers")
    assert {layer.arithmetic for layer in run.layers} == {"integer, requantized dyadic"}
    reference = qsim.emulate(graph, plan, inputs(20)).output
    assert np.abs(run.output - reference).max() < 0.05 * np.abs(reference).max()


@pytest.mark.parametrize("spec", ["mxfp8_e4m3", "mxint8", "mxfp4"])
def test_sums_of_blocks_are_exact_where_their_bits_fit(graph: qsim.Graph, spec: str) -> None:
    """The fully connected layer in fractions: every product and sum of the dequantized values, rounded once."""
    plan = make_plan(graph, spec, spec)
    run = qsim.emulate(graph, plan, inputs(), trace=["flat"])
    weight = qsim.quantize(graph.parameters["fc.weight"], spec)
    for row, output in zip(run.tensors["flat"], run.output, strict=True):
        sums = [
            sum(Fraction(float(x)) * Fraction(float(w)) for x, w in zip(row, column, strict=True))
            for column in weight
        ]
        np.testing.assert_array_equal(
            output, np.float32([float(total) for total in sums]) + graph.parameters["fc.bias"]
        )
    assert run.layers[-1].arithmetic == "exact (float64)"
