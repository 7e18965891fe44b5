"""Transforms before rounding: the same float32 function, and each does what its paper is for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import qsim
from qsim.data import Preprocessing, load_npz
from qsim.errors import UserError
from qsim.exporters.float_onnx import export_float
from qsim.graph import Graph, not_quantizable, quantizable
from qsim.ptq import Calibration, PlanBuilder
from qsim.ptq.transforms import TRANSFORMS, apply_transforms, make_transforms
from qsim.ptq.transforms.orthogonal import block_sizes, keeping_ones, random_orthogonal, randomized_hadamard
from tests.ptq.transform_networks import NETWORKS, make_network

CHAINS: list[Any] = [
    ["cross_layer_equalization"],
    [{"cross_layer_equalization": {"residual": True}}],
    ["smooth_quant"],
    [{"smooth_quant": {"alpha": 0.8, "explicit": False}}],
    ["rotation"],
    [{"rotation": {"kind": "orthogonal", "seed": 3}}],
    ["online_hadamard"],
    [{"online_hadamard": {"block": 8, "seed": 1}}],
    ["reparametrization"],
    [{"reparametrization": {"shift": False}}],
    ["rearrangement"],
    [{"rearrangement": {"by": "products"}}],
    [{"svd_quant": {"rank": 2}}],
    [{"lorc": {"rank": 2, "spec": "mxfp4", "iterations": 3}}],
    ["rotation", "online_hadamard", {"svd_quant": {"rank": 1}}],
    ["rearrangement", "cross_layer_equalization", "smooth_quant", {"lorc": {"rank": 2}}],
]
NAMES = [str(chain).replace("'", "") for chain in CHAINS]


def same_function(before: Graph, after: Graph, inputs: dict[str, np.ndarray]) -> bool:
    expected, found = (qsim.emulate(graph, None, inputs).output for graph in (before, after))
    return bool(np.allclose(found, expected, rtol=0, atol=2e-5 * np.abs(expected).max()))


@pytest.mark.parametrize("chain", CHAINS, ids=NAMES)
@pytest.mark.parametrize("network", NETWORKS)
def test_the_float_function_stays(network: str, chain: list[Any], tmp_path: Path) -> None:
    graph, inputs = make_network(network)
    changed = apply_transforms(make_transforms(chain), graph, inputs)
    assert same_function(graph, changed, inputs)
    assert [layer.name for layer in changed.layers if not layer.added] == [
        layer.name for layer in graph.layers
    ]
    again = apply_transforms(make_transforms(chain), graph, inputs)
    assert again.hash == changed.hash  # deterministic
    file = qsim.load_model(export_float(changed, tmp_path / "network.onnx"))
    assert (file.hash, file.added) == (changed.hash, changed.added)
    assert [layer.name for layer in file.layers] == [layer.name for layer in changed.layers]


@settings(max_examples=25)
@given(st.sampled_from(sorted(NETWORKS)), st.sampled_from(CHAINS), st.integers(0, 99))
def test_the_float_function_stays_for_any_weights(network: str, chain: list[Any], seed: int) -> None:
    graph, inputs = make_network(network, seed)
    assert same_function(graph, apply_transforms(make_transforms(chain), graph, inputs), inputs)


@pytest.mark.parametrize(
    ("network", "chain"),
    [
        ("cnn", "cross_layer_equalization"),
        ("cnn", "smooth_quant"),
        ("lm", "smooth_quant"),
        ("vit", "rotation"),
        ("lm", "rotation"),
        ("cnn", "online_hadamard"),
        ("vit", "reparametrization"),
        ("cnn", "rearrangement"),
        ("lm", "rearrangement"),
    ],
)
def test_a_transform_finds_something_to_do(network: str, chain: str) -> None:
    graph, inputs = make_network(network)
    assert apply_transforms(make_transforms([chain]), graph, inputs).hash != graph.hash


def noise_db(
    graph: Graph, inputs: dict[str, np.ndarray], weights: str, activations: str, chain: Any
) -> float:
    """Signal to noise of the outputs after `chain` and nearest rounding."""
    changed = apply_transforms(make_transforms(chain), graph, inputs)
    layers = [layer for layer in changed.layers if not layer.added and layer.weights in changed.parameters]
    specs = {layer.input: qsim.parse(activations) for layer in layers}
    specs |= {layer.weights: qsim.parse(weights) for layer in layers}
    plan = PlanBuilder.calibrate(changed, inputs, Calibration(activations="minmax", weights="minmax")).build(
        specs
    )
    exact = qsim.emulate(graph, None, inputs).output
    error = qsim.emulate(changed, plan, inputs).output - exact
    return float(10 * np.log10((exact**2).sum() / (error**2).sum()))


@pytest.mark.parametrize(
    ("network", "weights", "activations", "chain"),
    [
        ("cnn", "int8@tensor:float32", "int16@tensor:float32", ["cross_layer_equalization"]),
        ("vit", "int12@channel:float32", "uint8+zp@tensor:float32", ["reparametrization"]),
        ("lm", "int8@channel:float32", "int8@tensor:float32", ["smooth_quant"]),
        (
            "lm",
            "int3@channel:float32",
            "int16@tensor:float32",
            [{"lorc": {"rank": 3, "spec": "int3@channel:float32"}}],
        ),
        ("lm", "int4@channel:float32", "int16@tensor:float32", [{"svd_quant": {"rank": 2}}]),
    ],
)
def test_it_helps_where_its_paper_says(
    network: str, weights: str, activations: str, chain: list[Any]
) -> None:
    gains = []
    for seed in range(3):
        graph, inputs = make_network(network, seed)
        before, after = (noise_db(graph, inputs, weights, activations, c) for c in ([], chain))
        gains.append(after - before)
    assert np.mean(gains) > 0.5


def test_equalization_makes_ranges_equal() -> None:
    first, second = torch.nn.Linear(6, 8), torch.nn.Linear(8, 4)
    with torch.no_grad():
        first.weight.mul_(torch.exp(torch.linspace(-2, 2, 8))[:, None])
        first.bias.zero_()
    module = torch.nn.Sequential(first, torch.nn.ReLU(), second).eval()
    graph = qsim.load_model(module, (torch.randn(4, 6),))
    x = np.random.default_rng(0).uniform(-1, 1, (64, 6)).astype(np.float32)
    changed = apply_transforms(make_transforms(["cross_layer_equalization"]), graph, {graph.inputs[0]: x})
    one, two = (changed.parameters[layer.weights] for layer in changed.layers)
    ratio = np.abs(one).max(1) / np.abs(two).max(0)
    assert ratio.max() / ratio.min() < 1.01


def test_added_nodes_are_no_layers_of_the_user() -> None:
    graph, inputs = make_network("lm")
    changed = apply_transforms(make_transforms([{"svd_quant": {"rank": 1}}]), graph, inputs)
    added = [layer for layer in changed.layers if layer.added]
    assert added and {layer.node for layer in added} <= changed.added
    assert not {layer.weights for layer in added} & set(quantizable(changed))
    assert all("transform" in not_quantizable(changed)[layer.weights] for layer in added)
    readers = {layer.input for layer in changed.layers if not layer.added}
    assert not {layer.input for layer in added} & readers  # the branch reads what no spec has touched


@given(st.integers(1, 200), st.sampled_from([None, 2, 8, 32]), st.integers(0, 9))
def test_rotations_are_orthogonal(channels: int, block: int | None, seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = block_sizes(channels, block)
    assert sum(sizes) == channels and all(size & (size - 1) == 0 for size in sizes)
    for matrix in (randomized_hadamard(channels, block, rng), random_orthogonal(channels, rng)):
        assert np.allclose(matrix @ matrix.T, np.eye(channels))
    keeps = keeping_ones(channels, rng)
    assert np.allclose(keeps @ keeps.T, np.eye(channels)) and np.allclose(keeps.sum(0), 1)


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ("hadamard", "unknown"),
        ({"smooth_quant": {"alpha": 2}}, "between 0 and 1"),
        ({"rotation": {"kind": "learned"}}, "hadamard or orthogonal"),
        ({"online_hadamard": {"block": 12}}, "power of two"),
        ({"rearrangement": {"by": "name"}}, "activations"),
        ({"lorc": {"rank": 0}}, "at least 1"),
        ({"lorc": {"spec": "int4@chanel:float32"}}, "chanel"),
        ({"cross_layer_equalization": {"iterations": 0}}, "at least 1"),
        ({"svd_quant": {"layers": ["nothing*"]}}, "matches no layer"),
    ],
)
def test_a_wrong_option_is_said_in_one_line(entry: Any, says: str) -> None:
    graph, inputs = make_network("vit")
    with pytest.raises(UserError, match=says) as error:
        apply_transforms(make_transforms([entry]), graph, inputs)
    assert "\n" not in str(error.value)


def test_all_are_registered() -> None:
    assert {str(next(iter(c[0]))) if isinstance(c[0], dict) else c[0] for c in CHAINS} == set(TRANSFORMS)


ZOO = {
    "resnet8_cifar10": ("model.onnx", Preprocessing(axes=(0, 3, 1, 2))),
    "dscnn_kws": ("model.onnx", Preprocessing(reshape=(-1, 1, 49, 10))),
    "mobilenetv1_vww": ("model.onnx", Preprocessing(axes=(0, 3, 1, 2), scale=1 / 255)),
    "autoencoder_ad": ("model.onnx", None),
    "stories260k_lm": ("model.onnx", None),
    "kws_w3a3_qonnx": ("qonnx.onnx", Preprocessing(reshape=(-1, 1, 10, 49))),
}


@pytest.mark.slow
@pytest.mark.parametrize("network", ZOO)
def test_the_float_function_of_trained_networks_stays(shared: Path, network: str, tmp_path: Path) -> None:
    file, preprocessing = ZOO[network]
    graph = qsim.load_model(shared / "zoo" / network / file)
    data = load_npz(shared / "zoo" / network / "data.npz", graph, preprocessing)
    inputs = {name: array[:4] for name, array in data.evaluation.items()}
    calibration = {name: array[:8] for name, array in data.calibration.items()}
    for chain in ([name] for name in TRANSFORMS):
        changed = apply_transforms(make_transforms(chain), graph, calibration)
        assert same_function(graph, changed, inputs), chain
        assert qsim.load_model(export_float(changed, tmp_path / "network.onnx")).hash == changed.hash, chain


@pytest.mark.slow
def test_equalization_brings_a_depthwise_network_back(shared: Path) -> None:
    """MobileNetV1 with one scale a tensor, where some channels carry no weight at all (1e-30) after folding."""
    graph = qsim.load_model(shared / "zoo" / "mobilenetv1_vww" / "model.onnx")
    preprocessing = ZOO["mobilenetv1_vww"][1]
    data = load_npz(shared / "zoo" / "mobilenetv1_vww" / "data.npz", graph, preprocessing).head(100)
    inputs = dict(data.calibration)
    before, after = (
        noise_db(graph, inputs, "int8@tensor:float32", "uint8+zp@tensor:float32", chain)
        for chain in ([], ["cross_layer_equalization"])
    )
    assert after > before + 3
