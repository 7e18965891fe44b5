"""The trained networks of ../shared/zoo: loaded, equal to onnxruntime, and counted as their READMEs count."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from qsim.emulator.execute import run_graph
from qsim.graph import Graph, load_model, share_groups

# MACs and parameters as zoo/*/README.md states them (kws_w3a3: 259,584 weights, plus gain and offset of 3 x 256
# batch-normalised channels).
COUNTS = {
    "resnet8_cifar10": (12_501_632, 77_706),
    "dscnn_kws": (2_656_768, 22_604),
    "mobilenetv1_vww": (7_489_664, None),
    "autoencoder_ad": (264_192, None),
    "kws_w3a3_qonnx": (259_584, None),
    "stories260k_lm": (108_331_008, 260_032),
}


def real_inputs(folder: Path, count: int) -> np.ndarray:
    """The first evaluation samples, model-ready, as each README describes them."""
    data = np.load(folder / "data.npz")
    x = data["x_eval"][:count]
    match folder.name:
        case "dscnn_kws":
            return ((x.astype(np.float32) - data["zero_point"]) * data["scale"])[:, None].astype(np.float32)
        case "kws_w3a3_qonnx":
            scaled = (x.astype(np.float32) - data["zero_point"]) * data["scale"]
            return scaled.transpose(0, 2, 1)[:, None].astype(np.float32)
        case "resnet8_cifar10":
            return x.astype(np.float32).transpose(0, 3, 1, 2)
        case "mobilenetv1_vww":
            return (x.astype(np.float32) / 255).transpose(0, 3, 1, 2)
        case "stories260k_lm":
            return x.astype(np.int64)
    return x.astype(np.float32)


def ours(graph: Graph, x: np.ndarray) -> np.ndarray:
    return next(
        iter(run_graph(graph, {graph.inputs[0]: torch.from_numpy(np.ascontiguousarray(x))}).values())
    ).numpy()


def reference(path: Path, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: np.ascontiguousarray(x)})[0])


@pytest.mark.parametrize("name", COUNTS)
def test_float_output_equals_onnxruntime(name: str, shared: Path) -> None:
    folder = shared / "zoo" / name
    x = real_inputs(folder, 8)
    expected = reference(folder / "model.onnx", x)
    y = ours(load_model(folder / "model.onnx"), x)
    assert np.abs(y - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("name", COUNTS)
def test_macs_and_parameters_are_those_of_the_readme(name: str, shared: Path) -> None:
    graph = load_model(shared / "zoo" / name / "model.onnx")
    macs, parameters = COUNTS[name]
    assert graph.macs == macs
    assert parameters is None or graph.parameter_count == parameters


def test_qonnx_quantizers_give_the_same_integers_as_their_written_out_form(shared: Path) -> None:
    folder = shared / "zoo" / "kws_w3a3_qonnx"
    graph = load_model(folder / "qonnx.onnx")
    assert sum(node.op == "Quant" for node in graph.nodes) == 8
    weights = [layer.weights for layer in graph.layers]
    assert all(weight in graph.parameters for weight in weights)
    x = real_inputs(folder, 40)
    expected = reference(folder / "model.onnx", x)
    y = np.concatenate([ours(graph, sample[None]) for sample in x])
    # 3-bit activations times 3-bit weights: the logits are integers times the last layer's scales.
    step = float(graph.parameters[graph.producers[graph.layers[3].input].inputs[1]])
    weight_node = next(n for n in graph.nodes if n.inputs[0] == weights[3])
    step *= float(graph.parameters[weight_node.inputs[1]].reshape(-1)[0])
    assert np.abs(expected / step - np.round(expected / step)).max() < 1e-3
    np.testing.assert_array_equal(np.round(y / step), np.round(expected / step))


def test_tied_embedding_and_head_are_one_parameter(shared: Path) -> None:
    graph = load_model(shared / "zoo" / "stories260k_lm" / "model.onnx")
    head = graph.layers[-1]
    assert head.weights == "tok_emb.weight"
    assert (head.weight_axis, head.reduction_axes, head.reduction_length) == (0, (1,), 64)
    assert {reader.op for reader in graph.consumers["tok_emb.weight"]} == {"Gather", "Transpose"}
    assert sum(layer.kind == "matmul" for layer in graph.layers) == 10


def test_residual_branches_of_resnet_share_a_format(shared: Path) -> None:
    graph = load_model(shared / "zoo" / "resnet8_cifar10" / "model.onnx")
    groups = share_groups(graph)
    assert frozenset({"conv1_relu", "s1.conv2_out"}) in groups
    assert frozenset({"s2.conv2_out", "s2.short_out"}) in groups
