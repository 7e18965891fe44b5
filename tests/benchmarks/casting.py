"""Speed of `qsim.quantize` beside numpy.copyto in the same run: ratio per format, one thread, and scaling to two.

    python tests/benchmarks/casting.py [--log2n 24] [--reps 7] [--specs e4m3fn,mxfp4]

Processor time of this process decides the one-thread ratio (it survives a busy machine); rounds are interleaved and the
median is taken. Scaling is wall time with one thread over wall time with two, so it wants an idle machine. `out=` is
given. `cold` is the first call of a format here, compilation or loading of the compiled kernel and building of a table
included.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import qsim
from qsim.casting.fast import set_threads

GIVEN = {"scale": np.float32(0.03)}
CASES: dict[str, dict[str, Any]] = {
    "int8+zp@tensor:float32": {**GIVEN, "zero_point": 5},
    "fixed8.4": {},
    "e4m3fn": {},
    "e5m2": {},
    "e3m2fn": {},
    "e2m1fn": {},
    "bfloat16": {},
    "float16": {},
    "tf32": {},
    "mxfp8_e4m3": {},
    "mxfp6_e3m2": {},
    "mxfp4": {},
    "mxint8": {},
    "nvfp4": {},
    "e4m3fn/stochastic8": {"seed": 0},
    "e2m1fn/stochastic8@block32:e8m0/rceil": {"seed": 0},
    "e4m3fn/nearest_away": {},
    "fixed8.4/floor": {},
    "e4m3fn@tensor:float32": {},
    "int8@channel:float32": {"axis": 0},
    "int8@channel:float32 last axis": {"axis": -1},
    "int8@token:float32": {},
    "uint8+zp@token:float32": {},
    "int4@block128:float16": {},
    "e4m3fn@block128x128:float32": {},
    "nf4@block64:float32": {},
    "nf4@block64:uint8@block256:float32": {},
    "posit8.1": {},
    "posit16.1": {},
    "pot4": {},
    "log2_4": {},
    "ternary@channel:float32": {"axis": 0},
    "bipolar4": {},
}


def ratios(runs: dict[str, Callable[[], Any]], reps: int, clock: Callable[[], float]) -> dict[str, float]:
    """Median seconds of every run, in interleaved rounds."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(reps):
        for name, run in runs.items():
            start = clock()
            run()
            times[name].append(clock() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--log2n", type=int, default=24)
    parser.add_argument("--reps", type=int, default=7)
    parser.add_argument("--specs", default=",".join(CASES))
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32")
    arguments = parser.parse_args()
    x = (
        np.random.default_rng(0)
        .standard_normal(1 << arguments.log2n)
        .astype(arguments.dtype)
        .reshape(-1, 1024)
    )
    y, z = np.zeros_like(x), np.zeros_like(x)
    print(f"{'spec':42} {'Melem/s':>8} {'/memcpy':>8} {'2 threads':>9} {'cold':>8}")
    for name in arguments.specs.split(","):
        spec, options = name.split()[0], CASES.get(name, {})

        def cast(spec: str = spec, options: dict[str, Any] = options) -> Any:
            return qsim.quantize(x, spec, out=y, **options)

        start = time.perf_counter()
        set_threads(1)
        qsim.quantize(x[:64], spec, **options)
        cold = time.perf_counter() - start
        runs = {"memcpy": lambda: np.copyto(z, x), "cast": cast}
        single = ratios(runs, arguments.reps, time.process_time)
        wall = {}
        for threads in (1, 2):
            set_threads(threads)
            wall[threads] = ratios({"cast": cast}, arguments.reps, time.perf_counter)["cast"]
        ratio, scaling = single["memcpy"] / single["cast"], wall[1] / wall[2]
        speed = x.size / single["cast"] / 1e6
        print(f"{name:42} {speed:8.0f} {ratio:8.3f} {scaling:9.2f} {cold:7.2f}s", flush=True)


if __name__ == "__main__":
    main()
