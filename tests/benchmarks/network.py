"""What an emulated configuration costs beside the float32 torch run of the same graph: ratios, never pass or fail.

    python -m tests.benchmarks.network [--model FILE.onnx --data FILE.npz --axes 0,3,1,2] [--samples 2000] [--threads 1]

Without a model the embedded network is used. Plans are built once; the runs are repeated in turn, medians
compared.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import replace

import torch

import qsim
from qsim.arithmetic.mac import Mac
from qsim.data import Preprocessing, load_npz
from qsim.plan import LayerPlan
from qsim.ptq import Calibration, PlanBuilder

# name: weights, activations, accumulator ("exact": the default of a plan)
CONFIGURATIONS = {
    "int8, float32 scales": ("int8@channel:float32", "uint8+zp@tensor:float32", "exact"),
    "int8, power-of-two scales": ("int8@channel:e8m0/ceil", "int8@tensor:e8m0/ceil", "exact"),
    "int4": ("int4@channel:float32", "uint4+zp@tensor:float32", "exact"),
    "e4m3": ("e4m3fn@channel:float32", "e4m3fn@tensor:float32", "exact"),
    "mxfp8": ("mxfp8_e4m3", "mxfp8_e4m3", "exact"),
    "int8 into int32": ("int8@channel:float32", "int8@tensor:float32", "int32"),
    "int8 into saturating int16": ("int8@channel:float32", "int8@tensor:float32", "int16"),
    "e4m3 into float16, every add": ("e4m3fn@channel:float32", "e4m3fn@tensor:float32", "float16"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model")
    parser.add_argument("--data")
    parser.add_argument("--axes", type=lambda text: [int(axis) for axis in text.split(",")])
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    graph, calibration, inputs = _network(options)
    builder = PlanBuilder.calibrate(graph, calibration, Calibration("minmax", "minmax"))
    plans: dict[str, qsim.BitPlan | None] = {"float32": None}
    for name, (weights, activations, accumulator) in CONFIGURATIONS.items():
        specs = {layer.weights: qsim.parse(weights) for layer in graph.layers}
        plan = builder.build(specs | {layer.input: qsim.parse(activations) for layer in graph.layers})
        mac = Mac(accumulator=accumulator)
        layers = {} if mac == Mac() else {layer.name: LayerPlan(mac) for layer in graph.layers}
        plans[name] = replace(plan, layers=layers)
    seconds: dict[str, list[float]] = {name: [] for name in plans}
    for repeat in range(options.repeats + 1):
        for name, plan in plans.items():
            start = time.process_time()
            qsim.emulate(graph, plan, inputs)
            if repeat:  # the first round warms caches
                seconds[name].append(time.process_time() - start)
    base = statistics.median(seconds["float32"])
    print(
        f"{graph.name}, {len(next(iter(inputs.values())))} samples, {options.threads} thread(s), processor time"
    )
    for name, times in seconds.items():
        print(
            f"{name:28s} {statistics.median(times):8.3f} s   {statistics.median(times) / base:5.2f} x float32"
        )


def _network(options: argparse.Namespace):  # type: ignore[no-untyped-def]
    if options.model:
        graph = qsim.load_model(options.model)
        data = load_npz(options.data, graph, Preprocessing(axes=options.axes)).head(options.samples)
        return graph, data.calibration, dict(data.evaluation)
    from qsim import embedded

    arrays = embedded.load_data()
    graph = qsim.load_model(embedded.load_network(), arrays["x_eval"][:1])
    name = graph.inputs[0]
    return graph, {name: arrays["x_calib"]}, {name: arrays["x_eval"][: options.samples]}


if __name__ == "__main__":
    main()
