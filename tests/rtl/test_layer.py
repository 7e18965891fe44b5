"""Whole layers of the embedded network in generated RTL equal the emulator, accumulators and output codes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

import qsim
from hwmodels import rtl
from qsim import Mac
from qsim.arithmetic.integer import affine_of, to_integer_only
from qsim.arithmetic.requantize import fixed_point, float32_multiplier, real_multiplier
from qsim.embedded import load_data, load_network
from qsim.graph import Graph, Layer, Node
from qsim.ptq import Calibration, PlanBuilder
from tests.rtl.vectors import Array

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Network:
    """The embedded network with its int8 plan, and digits to run."""

    graph: Graph
    plan: qsim.BitPlan
    images: Array

    def layer(self, name: str) -> tuple[Layer, Node]:
        layer = next(layer for layer in self.graph.layers if layer.name == name)
        return layer, next(node for node in self.graph.nodes if node.name == layer.node)


@pytest.fixture(scope="module")
def network() -> Network:
    torch = pytest.importorskip("torch")
    data = load_data()
    graph = qsim.load_model(load_network(), torch.zeros(1, 1, 28, 28))
    how = Calibration(activations="minmax", weights="minmax")
    builder = PlanBuilder.calibrate(graph, {graph.inputs[0]: data["x_calib"][:40]}, how)
    specs = {layer.weights: qsim.parse("int8@channel:float32") for layer in graph.layers}
    specs |= {layer.input: qsim.parse("uint8@tensor:float32") for layer in graph.layers}
    return Network(graph, builder.build(specs), data["x_eval"][:1])


def columns_of(image: Array, layer: Layer, node: Node) -> Array:
    """The inputs of every output position, [positions, C * kernel], zero padded: what an input buffer would send."""
    top, left, bottom, right = node.get("pads", (0, 0, 0, 0))
    padded = np.pad(image, ((0, 0), (0, 0), (top, bottom), (left, right)))
    (height, width), (down, across) = layer.kernel, layer.stride
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), (2, 3))[
        :, :, ::down, ::across
    ]
    return windows.transpose(0, 2, 3, 1, 4, 5).reshape(-1, image.shape[1] * height * width)


def factors(rule: str, plan: qsim.BitPlan, layer: Layer) -> dict[str, Array]:
    """The requantizer's constants for every output channel, from the scales of the plan."""
    scales = [affine_of(plan, name).scale for name in (layer.input, layer.output, layer.weights)]
    if rule == "onnx":
        return {"multiplier": float32_multiplier(*scales).astype(np.float32).view(np.uint32)}
    multiplier, shift = fixed_point(real_multiplier(*scales))
    return {"multiplier": multiplier, "shift": shift}


@pytest.mark.parametrize(
    ("name", "lanes", "rule"),
    [
        ("stem.0", 9, "dyadic"),
        ("stem.0", 3, "tflite_double"),
        ("block1.pointwise.0", 8, "onnx"),
        ("block2.pointwise.0", 8, "dyadic_even"),
    ],
)
def test_a_convolution_runs_through_generated_rtl(network: Network, name: str, lanes: int, rule: str) -> None:
    layer, node = network.layer(name)
    plan = to_integer_only(network.graph, network.plan, "dyadic")
    plan = replace(plan, layers={**plan.layers, node.name: replace(plan.layers[node.name], requantize=rule)})
    trace = [layer.input, node.outputs[0], layer.output]
    integers = qsim.emulate(network.graph, plan, network.images, trace=trace).tensors
    source, result = affine_of(plan, layer.input), affine_of(plan, layer.output)
    image = np.rint(integers[layer.input] / source.scale).astype(np.int64)
    expected = np.rint(integers[layer.output] / result.scale).astype(np.int64)

    weights, bias = plan.tensors[layer.weights].codes, plan.tensors[str(layer.bias)].codes
    assert weights is not None and bias is not None
    channels = len(weights)
    mac = Mac(accumulator="int32/floor/wrap", lanes=lanes)
    requantizer = rtl.Requantizer(rule, "uint8", 32, 31)
    design = rtl.generate(rtl.LayerUnit("int8", "uint8", mac, channels, requantizer))

    columns = columns_of(image, layer, node)
    cycles = columns.shape[1] // lanes
    matrix = weights.reshape(channels, cycles, lanes).transpose(1, 0, 2).reshape(cycles, channels * lanes)
    steps = len(columns) * cycles
    constants = {"start": bias, **factors(rule, plan, layer)}
    vectors = {
        "first": np.tile(np.arange(cycles) == 0, len(columns)).astype(int),
        "activation": columns.reshape(steps, lanes),
        "weight": np.tile(matrix, (len(columns), 1)),
        **{port: np.broadcast_to(values, (steps, channels)) for port, values in constants.items()},
        "zero_point": np.full(steps, int(result.zero_point)),
    }
    out = rtl.simulate(design, vectors)
    last = slice(cycles - 1, None, cycles)

    # The emulator of the fake-quantized plan shows the accumulators: float32(acc) times the product of the scales.
    floats = qsim.emulate(network.graph, network.plan, network.images, trace=[node.outputs[0]]).tensors[
        node.outputs[0]
    ]
    scale = np.float32(source.scale) * affine_of(plan, layer.weights).scale.astype(np.float32)
    sums = floats.transpose(0, 2, 3, 1).reshape(-1, channels)
    if name == "stem.0":  # later layers see other inputs in the two plans
        assert np.array_equal(out["acc"][last].astype(np.float32) * scale, sums)
    assert np.array_equal(out["code"][last], expected.transpose(0, 2, 3, 1).reshape(-1, channels))
    assert len(np.unique(expected)) > 30
