"""Speed of `qsim.quantize` on CUDA tensors beside a device copy of the same size: ratio per format.

    python tests/benchmarks/gpu.py [--log2n 26] [--reps 20] [--specs e4m3fn,mxfp4]

Device time between two events, the best of the repeats, after compiling and warming up; `first` is the first call,
compilation included. A bar of 0.6 for scalar formats and MX is the aim; formats without NaN also look for it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import torch

import qsim

SPECS = (
    "int8@tensor:float32 given,int8,fixed8.4,e4m3fn,e5m2,e3m2fn,e2m1fn,bfloat16,float16,tf32,mxfp8_e4m3,mxfp6_e3m2,"
    "mxfp4,mxint8,nvfp4,e4m3fn/stochastic8,e2m1fn/stochastic8@block32:e8m0/rceil,int8@channel:float32,"
    "int8@token:float32,int4@block128:float16"
)


def milliseconds(call: Callable[[], Any], reps: int) -> float:
    """Device time of the fastest of `reps` calls."""
    best = float("inf")
    for _ in range(reps):
        start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        call()
        stop.record()
        torch.cuda.synchronize()
        best = min(best, start.elapsed_time(stop))
    return best


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--log2n", type=int, default=26)
    parser.add_argument("--reps", type=int, default=20)
    parser.add_argument("--specs", default=SPECS)
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("no CUDA device here: nothing to measure")
        return
    x = torch.randn(1 << arguments.log2n, device="cuda").reshape(-1, 1024)
    y = torch.empty_like(x)
    copy = milliseconds(lambda: y.copy_(x), arguments.reps)
    print(f"{torch.cuda.get_device_name()}: copy {2 * x.nbytes / copy / 1e6:.0f} GB/s")
    print(f"{'spec':44} {'GB/s':>7} {'/copy':>7} {'first':>8} same bits")
    for name in arguments.specs.split(","):
        spec, options = name.split()[0], {"seed": 0, "scale": 0.03 if name.endswith("given") else None}

        def cast(spec: str = spec, options: dict[str, Any] = options) -> Any:
            return qsim.quantize(x, spec, **options)

        start = time.perf_counter()
        same = torch.equal(cast().cpu(), qsim.quantize(x.cpu(), spec, **options))
        first = time.perf_counter() - start
        cast()
        spent = milliseconds(cast, arguments.reps)
        print(
            f"{name:44} {2 * x.nbytes / spent / 1e6:7.0f} {copy / spent:7.3f} {first:7.1f}s {same}",
            flush=True,
        )


if __name__ == "__main__":
    main()
