"""Networks as torch exports them to ONNX, and the modules themselves, equal onnxruntime and eager torch."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from qsim.graph import Graph, load_model
from tests.graph.networks import NETWORKS, trained
from tests.operators.reference import assert_equal, run_ours, run_reference


def eager(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> list[np.ndarray]:
    with torch.no_grad():
        result = module(*inputs)
    return [value.numpy() for value in (result if isinstance(result, tuple) else (result,))]


def exported(name: str, folder: Path, opset: int, *, dynamo: bool) -> Path:
    """The network's ONNX file by torch's old (TorchScript) or new (torch.export) exporter."""
    network, example, _, free = NETWORKS[name]
    free = {} if dynamo and name == "voice_detector" else free  # this exporter fixes the number of LSTM steps
    path = folder / f"{name}.onnx"
    torch.manual_seed(0)
    names = [f"input_{i}" for i in range(len(example))]
    options: dict[str, object] = {"dynamo": dynamo, "opset_version": opset, "input_names": names}
    if dynamo:
        dims = [dict.fromkeys(free.get(i, {}), torch.export.Dim.DYNAMIC) or None for i in range(len(example))]
        options |= {"dynamic_shapes": tuple(dims), "external_data": False, "verbose": False}
    else:
        options["dynamic_axes"] = {f"input_{i}": axes for i, axes in free.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(trained(network()), example, str(path), **options)
    return path


def check_file(path: Path, name: str) -> Graph:
    graph = load_model(path)
    fixed = not graph.lengths
    values = {
        n: value.numpy() for n, value in zip(graph.inputs, NETWORKS[name][1 if fixed else 2], strict=True)
    }
    assert_equal(run_ours(graph, values), run_reference(onnx.load(path), values), tolerance=1e-5)
    return graph


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("opset", [11, 13, 17])
def test_exported_by_torchscript(name: str, opset: int, tmp_path: Path) -> None:
    if name == "language_model" and opset < 14:
        pytest.skip("torch exports scaled_dot_product_attention from opset 14 on")
    check_file(exported(name, tmp_path, opset, dynamo=False), name)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("opset", [18, 21])
def test_exported_by_torch_export(name: str, opset: int, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    check_file(exported(name, tmp_path, opset, dynamo=True), name)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_module_equals_eager_torch(name: str) -> None:
    network, example, _, free = NETWORKS[name]
    torch.manual_seed(0)
    module = trained(network())
    graph = load_model(module, example)
    # torch.export fixes the number of LSTM steps and every dimension but the batch.
    others = NETWORKS[name][2] if graph.lengths and set(free[0]) == {0} else example
    values = {n: value.numpy() for n, value in zip(graph.inputs, others, strict=True)}
    assert_equal(run_ours(graph, values), eager(module, others), tolerance=1e-5)
