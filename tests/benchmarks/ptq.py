"""What each quantization method reaches on the networks of ../shared/zoo: python -m tests.benchmarks.ptq

    python -m tests.benchmarks.ptq --networks resnet8 --methods mse,gptq --formats w4a8,w3a8 --samples 500
    python -m tests.benchmarks.ptq --networks dscnn,resnet8 --methods gptq --formats w8a8 --official --integer-only

Prints one row a method and format: top-1, agreement with float32, processor seconds of quantization, and the peak
memory of the process so far (run one method alone to learn its own). Asserts nothing.
--official counts the calibration samples too, where a published int8 result does: DS-CNN's 1,000 (MLPerf Tiny's
int8 model has 902 right, 90.2 %); ResNet-8's has 76.15 % of the 2,000 evaluation images.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"

import argparse
import resource
import time
from collections.abc import Iterable
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import torch

import qsim
from qsim.data import Dataset, Preprocessing, load_npz
from qsim.graph import Graph
from qsim.ptq import Calibration, PlanBuilder

SHARED = Path(os.environ.get("QSIM_SHARED", Path(__file__).resolve().parents[3] / "shared"))
NETWORKS = {
    "resnet8": ("resnet8_cifar10", Preprocessing(axes=(0, 3, 1, 2))),
    "dscnn": ("dscnn_kws", Preprocessing(reshape=(-1, 1, 49, 10))),
    "vww": ("mobilenetv1_vww", Preprocessing(axes=(0, 3, 1, 2), scale=1 / 255)),
}
INT, FLOAT = "int{}@channel:float32", "{}@channel:float32"
ACT = "uint{}+zp@tensor:float32"
FORMATS: dict[str, tuple[str, str]] = {
    **{
        f"w{w}a{a}": (INT.format(w), ACT.format(a))
        for w, a in ((8, 8), (4, 8), (3, 8), (2, 8), (4, 4), (6, 6))
    },
    **{name: (FLOAT.format(name), f"{name}@tensor:float32") for name in ("e4m3fn", "e3m2fn", "e2m1fn")},
    **{name: (name, name) for name in ("mxfp8_e4m3", "mxfp6_e3m2", "mxfp4", "mxint8", "nvfp4")},
}
DESCENT = ["coordinate_descent", "scale_refit"]
METHODS: dict[str, list[Any]] = {
    "nearest": [],
    "bias_correction": ["bias_correction"],
    "seq_mse": ["seq_mse", "bias_correction"],
    "gpfq": ["gpfq", "bias_correction"],
    "qronos": ["qronos", "coordinate_descent", "bias_correction"],  # configs/ptq/qronos.yaml
    "gptq_alone": ["gptq", "bias_correction"],
    "batchnorm_tuning": ["gptq", "coordinate_descent", "batchnorm_tuning"],
    "gptq": ["gptq", "coordinate_descent", "bias_correction"],  # configs/ptq/gptq.yaml
    "gptq_refit": ["gptq", *DESCENT * 3, "coordinate_descent", "bias_correction"],
    "adaround": ["adaround", "bias_correction"],  # configs/ptq/adaround.yaml
}


def open_network(name: str, samples: int | None) -> tuple[Graph, Dataset]:
    """A network of the zoo with its data, the evaluation cut to `samples`."""
    folder, preprocessing = NETWORKS[name]
    graph = qsim.load_model(SHARED / "zoo" / folder / "model.onnx")
    return graph, load_npz(SHARED / "zoo" / folder / "data.npz", graph, preprocessing).head(samples)


def specs_of(graph: Graph, weights: str, activations: str, ends: str | None = None) -> dict[str, qsim.Spec]:
    """The same formats everywhere; `ends` are (weights|activations) of the first and last layer."""
    specs = {}
    for index, layer in enumerate(graph.layers):
        pair = (weights, activations)
        if ends and index in (0, len(graph.layers) - 1):
            pair = (INT.format(8), ACT.format(8))
        specs[layer.weights], specs[layer.input] = qsim.parse(pair[0]), qsim.parse(pair[1])
    return specs


def with_calibration(name: str, data: Dataset) -> Dataset:
    """Evaluation on all samples of a network's data, those of calibration first."""
    folder, _ = NETWORKS[name]
    labels = np.load(SHARED / "zoo" / folder / "data.npz")["y_calib"]
    whole = {key: np.concatenate([data.calibration[key], data.evaluation[key]]) for key in data.evaluation}
    return replace(data, evaluation=whole, labels=np.concatenate([labels, np.asarray(data.labels)]))


def measure(graph: Graph, data: Dataset, how: Calibration, specs: dict[str, qsim.Spec], seed: int) -> str:
    """Top-1, agreement with float32, processor seconds of quantization, peak memory."""
    start = time.process_time()
    builder = PlanBuilder.calibrate(graph, data.calibration, how, seed=seed)
    plan = builder.build(specs)
    seconds = time.process_time() - start
    inputs = dict(data.evaluation)
    answer, reference = (qsim.emulate(graph, p, inputs).output.argmax(1) for p in (plan, None))
    top1, agree = (answer == data.labels).mean(), (answer == reference).mean()
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return f"{100 * top1:8.2f} {100 * agree:8.2f} {seconds:8.1f} {megabytes:8.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--networks", default="resnet8", help=", ".join(NETWORKS))
    parser.add_argument("--methods", default="*", help=f"patterns of {', '.join(METHODS)}")
    parser.add_argument(
        "--formats", default="w4a8,w3a8", help=f"of {', '.join(FORMATS)}; +fl8: first, last 8 bit"
    )
    parser.add_argument("--samples", type=int, default=None, help="evaluation samples (default: all)")
    parser.add_argument("--activations", default="output", help="minmax, percentile, kl, mse or output")
    parser.add_argument("--local", action="store_true", help="inputs of the float32 network, cast")
    parser.add_argument("--official", action="store_true", help="DS-CNN: evaluate calibration samples too")
    parser.add_argument("--integer-only", action="store_true", help="integers throughout, dyadic rescaling")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'network':8} {'format':12} {'method':16} {'top-1 %':>8} {'agree %':>8} {'seconds':>8} {'MB':>8}")
    for network in arguments.networks.split(","):
        graph, data = open_network(network, arguments.samples)
        if arguments.official and network == "dscnn":
            data = with_calibration(network, data)
        reference = qsim.emulate(graph, None, dict(data.evaluation)).output.argmax(1)
        print(
            f"{network:8} {'float32':12} {'':16} {100 * (reference == data.labels).mean():8.2f}", flush=True
        )
        for format_name in arguments.formats.split(","):
            name, _, ends = format_name.partition("+")
            specs = specs_of(graph, *FORMATS[name], ends)
            for method in _chosen(arguments.methods):
                how = Calibration(
                    activations=arguments.activations,
                    steps=METHODS[method],
                    sequential=not arguments.local,
                    after=["integer_only"] if arguments.integer_only else [],
                )
                row = measure(graph, data, how, specs, arguments.seed)
                print(f"{network:8} {format_name:12} {method:16} {row}", flush=True)


def _chosen(patterns: str) -> Iterable[str]:
    return [m for m in METHODS if any(fnmatchcase(m, pattern) for pattern in patterns.split(","))]


if __name__ == "__main__":
    main()
