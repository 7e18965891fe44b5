"""The GEMM cases of ../shared/bench/emulator_peers.py, and how fast each unit runs against float32 BLAS.

    python -m tests.benchmarks.gemm [size]

prints processor time on one thread (QSIM_THREADS=1 OMP_NUM_THREADS=1) and the ratio to float32 BLAS of the same run.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import qsim

UNITS = {
    "gemm_f32": qsim.Mac(accumulator="float32"),
    "gemm_fp8_acc16": qsim.Mac(accumulator="float16/ieee"),
    "gemm_int8_sat16": qsim.Mac(accumulator="int16"),
    "gemm_fp8_hopper": qsim.Mac(accumulator="float32", lanes=32, align_bits=14),
}


def gemm(case: str, operands: tuple[Any, Any]) -> Any:
    """The hook of emulator_peers.py: ours for one GEMM case. Raises NotImplementedError where we have no such unit."""
    if case not in ("gemm_fp8_acc16", "gemm_int8_sat16"):
        raise NotImplementedError(case)
    return qsim.matmul(*operands, mac=UNITS[case])


def cases(size: int) -> dict[str, Callable[[], Any]]:
    rng = np.random.default_rng(1)
    normal = rng.standard_normal((2, size, size), dtype=np.float32)
    e4m3, e5m2 = (qsim.quantize(normal, name) for name in ("e4m3fn", "e5m2"))
    wide = qsim.quantize(normal * np.exp2(rng.integers(-14, 14, normal.shape)).astype(np.float32), "e5m2")
    int8 = rng.integers(-128, 128, (2, size, size)).astype(np.int8)
    blocks = {
        name: [qsim.quantize(normal[i], name, axis=axis) for i, axis in ((0, -1), (1, -2))]
        for name in ("mxfp8_e4m3", "mxfp6_e3m2", "mxfp4", "mxint8")
    }
    nvfp4 = [qsim.encode(normal[i], "nvfp4", axis=axis) for i, axis in ((0, -1), (1, -2))]
    half, across = "float16/ieee", qsim.Mac(lanes=32, accumulator="float32")
    units = {
        "float32 BLAS": lambda: normal[0] @ normal[1],
        "e4m3fn, float16 every add": (e4m3, qsim.Mac(accumulator=half)),
        "e4m3fn, float16 saturating": (e4m3, qsim.Mac(accumulator="float16")),
        "e4m3fn, float16, overflowing": (e4m3 * np.float32(16), qsim.Mac(accumulator=half)),
        "e5m2, float16 every add": (e5m2, qsim.Mac(accumulator=half)),
        "e5m2 all exponents, float16": (wide, qsim.Mac(accumulator=half)),
        "e4m3fn, bfloat16 every add": (e4m3, qsim.Mac(accumulator="bfloat16/ieee")),
        "int8, int16 saturating": (int8, qsim.Mac(accumulator="int16")),
        "int8, int12 saturating": (int8 >> 3, qsim.Mac(accumulator="int12")),
        "int8, int32": (int8, qsim.Mac(accumulator="int32")),
        "int8, int16 wrapping": (int8, qsim.Mac(accumulator="int16/wrap")),
        "fixed8.3, fixed16.8/floor/wrap": (
            int8 * np.float32(2**-5),
            qsim.Mac(accumulator="fixed16.8/floor/wrap"),
        ),
        "e4m3fn, exact": (e4m3, qsim.Mac()),
        "e5m2, exact": (e5m2, qsim.Mac()),
        "e5m2 all exponents, exact": (wide, qsim.Mac()),
        "nvfp4 (encoded), float32 across": (nvfp4, qsim.Mac(lanes=16, accumulator="float32")),
        **{f"{name}, float32 across blocks": (pair, across) for name, pair in blocks.items()},
    }
    return {
        name: unit if callable(unit) else lambda unit=unit: qsim.matmul(unit[0][0], unit[0][1], unit[1])
        for name, unit in units.items()
    }


def processor_seconds(call: Callable[[], Any]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def main(size: int = 512, rounds: int = 7) -> None:
    calls = cases(size)
    cold = {name: processor_seconds(call) for name, call in calls.items()}
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            if cold[name] < 20.0 or not times[name]:
                times[name].append(processor_seconds(call))
    limit = statistics.median(times["float32 BLAS"])
    print(f"{'unit':38} {'ms':>9} {'GFLOP/s':>8} {'of BLAS':>8} {'first call s':>12}")
    for name, values in times.items():
        seconds = statistics.median(values)
        rate = 2e-9 * size**3 / seconds
        print(f"{name:38} {seconds * 1e3:9.2f} {rate:8.1f} {limit / seconds:8.3f} {cold[name]:12.2f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
