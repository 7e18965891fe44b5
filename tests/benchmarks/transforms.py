"""What each transform before rounding gains where its paper says it does: python -m tests.benchmarks.transforms

    python -m tests.benchmarks.transforms --cells "cle*,rotation*" --samples 100

One row a transform: the network's metric (top-1 in %, perplexity of the language model), agreement of the answers with
float32, signal to noise of the outputs, seconds of the transform. Weights are rounded to nearest, so that what is seen
is the transform's doing. Only layers with weights are quantized. Asserts nothing.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"

import argparse
import time
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import torch

import qsim
from qsim.data import Dataset, Preprocessing, load_npz
from qsim.graph import Graph
from qsim.metrics import Samples, get_metric
from qsim.ptq import Calibration, PlanBuilder
from qsim.ptq.transforms import apply_transforms, make_transforms
from tests.conftest import shared_folder

NETWORKS = {
    "resnet8": ("resnet8_cifar10", Preprocessing(axes=(0, 3, 1, 2)), "top1"),
    "dscnn": ("dscnn_kws", Preprocessing(reshape=(-1, 1, 49, 10)), "top1"),
    "vww": ("mobilenetv1_vww", Preprocessing(axes=(0, 3, 1, 2), scale=1 / 255), "top1"),
    "lm": ("stories260k_lm", None, "perplexity"),
}
UINT8, NVINT4 = "uint8+zp@tensor:float32", "int4@block16:e4m3fn@tensor:float32"

GPTQ = ("gptq", "coordinate_descent", "bias_correction")


@dataclass(frozen=True)
class Cell:
    """One network in one pair of formats, before and after each list of transforms."""

    network: str
    weights: str
    activations: str
    transforms: tuple[tuple[Any, ...], ...]
    steps: tuple[Any, ...] = ()
    calibration: str = "mse"


def _block(size: int) -> dict[str, Any]:
    return {"online_hadamard": {"block": size}}


def _rotations(block: int) -> tuple[tuple[Any, ...], ...]:
    quarot = {"online_hadamard": {"block": block, "layers": ["*wo_out", "*w2_out"]}}
    return ((), ("rotation",), ("rotation", quarot), (_block(block),))


CLE = ((), ("cross_layer_equalization",))
SMOOTH = ((), *(({"smooth_quant": {"alpha": alpha}},) for alpha in (0.5, 0.85)))
REPQ = ((), ("reparametrization",), ({"reparametrization": {"shift": False}},))
SORTS = ((), *(({"rearrangement": {"by": by}},) for by in ("activations", "weights", "products")))


def _low_rank(spec: str) -> tuple[tuple[Any, ...], ...]:
    lorc: list[tuple[Any, ...]] = [
        ({"lorc": {"spec": spec, "rank": rank, "iterations": n}},) for rank, n in ((8, 1), (8, 5))
    ]
    return ((), *lorc, ({"svd_quant": {"rank": 8}},))


CELLS = {
    **{
        f"cle_{net}_w{bits}a8": Cell(net, f"int{bits}@tensor:float32", UINT8, CLE)
        for net in ("dscnn", "vww", "resnet8")
        for bits in (8, 6, 4)
    },
    **{
        f"smooth_lm_w{bits}a{a}": Cell(
            "lm", f"int{bits}@channel:float32", f"int{a}@tensor:float32", SMOOTH, (), "minmax"
        )
        for bits, a in ((8, 8), (4, 8), (8, 6), (8, 4))
    },
    "rotation_lm_w4a4": Cell("lm", "int4@channel:float32", "int4@token:float32", _rotations(64)),
    "rotation_lm_w8a4": Cell("lm", "int8@channel:float32", "int4@token:float32", _rotations(64)),
    "rotation_lm_mxfp4": Cell("lm", "mxfp4", "mxfp4", _rotations(32)),
    "rotation_lm_nvint4": Cell("lm", NVINT4, NVINT4, _rotations(16)),
    "rotation_lm_nvfp4": Cell("lm", "nvfp4", "nvfp4", _rotations(16)),
    "rotation_resnet8_nvint4": Cell("resnet8", NVINT4, NVINT4, ((), (_block(16),))),
    "rotation_dscnn_nvint4": Cell("dscnn", NVINT4, NVINT4, ((), (_block(16),))),
    "rotation_resnet8_mxfp4": Cell("resnet8", "mxfp4", "mxfp4", ((), (_block(32),))),
    "rotation_dscnn_mxfp4": Cell("dscnn", "mxfp4", "mxfp4", ((), (_block(32),))),
    **{
        f"gptq_{net}_{name}": Cell(net, spec, spec, ((), (_block(block),)), GPTQ)
        for net in ("resnet8", "dscnn", "lm")
        for name, spec, block in (("nvint4", NVINT4, 16), ("mxfp4", "mxfp4", 32))
    },
    "repq_lm_w8a4": Cell("lm", "int8@channel:float32", "uint4+zp@tensor:float32", REPQ, (), "minmax"),
    "sort_lm_mxint4": Cell("lm", "int4@block32:e8m0", "int4@block32:e8m0", SORTS),
    "sort_lm_mxfp4": Cell("lm", "mxfp4", "mxfp4", SORTS),
    "sort_dscnn_mxint4": Cell("dscnn", "int4@block32:e8m0", "int4@block32:e8m0", SORTS),
    "sort_dscnn_mxfp4": Cell("dscnn", "mxfp4", "mxfp4", SORTS),
    "low_rank_lm_w4": Cell("lm", "int4@channel:float32", "int8@token:float32", _low_rank("int4@channel:float32")),
    "low_rank_lm_w3": Cell("lm", "int3@channel:float32", "int8@token:float32", _low_rank("int3@channel:float32")),
    "low_rank_lm_w4a4": Cell("lm", "int4@channel:float32", "int4@token:float32", _low_rank("int4@channel:float32")),
}  # fmt: skip


def open_network(name: str, samples: int | None) -> tuple[Graph, Dataset]:
    """A network of the zoo with its data, the evaluation cut to `samples`."""
    folder, preprocessing, _ = NETWORKS[name]
    path = shared_folder() / "zoo" / folder
    graph = qsim.load_model(path / "model.onnx")
    return graph, load_npz(path / "data.npz", graph, preprocessing).head(samples)


def specs_of(graph: Graph, cell: Cell) -> dict[str, qsim.Spec]:
    """The cell's formats for every layer of the user's network that has weights."""
    layers = [layer for layer in graph.layers if layer.weights in graph.parameters and not layer.added]
    specs = {layer.input: qsim.parse(cell.activations) for layer in layers}
    return specs | {layer.weights: qsim.parse(cell.weights) for layer in layers}


def measure(
    cell: Cell, graph: Graph, data: Dataset, reference: Any, transforms: tuple[Any, ...], seed: int
) -> str:
    """One row: metric, agreement, signal to noise, seconds."""
    start = time.process_time()
    changed = apply_transforms(make_transforms(transforms), graph, data.calibration)
    seconds = time.process_time() - start
    how = Calibration(activations=cell.calibration, steps=cell.steps)  # type: ignore[arg-type]
    plan = PlanBuilder.calibrate(changed, data.calibration, how, seed=seed).build(specs_of(changed, cell))
    inputs = dict(data.evaluation)
    output = qsim.emulate(changed, plan, inputs, arithmetic="fast", batch_size=40).output
    metric = get_metric(NETWORKS[cell.network][2])
    value = metric.value(metric.score(Samples(output, reference, next(iter(inputs.values())), data.labels)))
    value = 100 * value if metric.name == "top1" else value
    agree = 100 * (output.argmax(-1) == reference.argmax(-1)).mean()
    noise = 10 * np.log10(
        (reference.astype(float) ** 2).sum() / ((output - reference).astype(float) ** 2).sum()
    )
    return f"{value:9.3f} {agree:8.2f} {noise:7.2f} {seconds:7.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cells", default="*", help=f"patterns of {', '.join(CELLS)}")
    parser.add_argument("--samples", type=int, default=None, help="evaluation samples (default: all)")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'cell':24} {'metric':>9} {'agree %':>8} {'SQNR dB':>7} {'seconds':>7}  before rounding")
    for name, cell in CELLS.items():
        if not any(fnmatchcase(name, pattern) for pattern in arguments.cells.split(",")):
            continue
        graph, data = open_network(cell.network, arguments.samples)
        reference = qsim.emulate(graph, None, dict(data.evaluation), batch_size=40).output
        for transforms in cell.transforms:
            row = measure(cell, graph, data, reference, transforms, arguments.seed)
            text = ", ".join(str(entry).replace("'", "") for entry in transforms) or "nothing"
            print(f"{name:24} {row}  {text}", flush=True)


if __name__ == "__main__":
    main()
