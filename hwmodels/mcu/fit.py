"""Fit the microcontroller constants to measured instruction counts and MLPerf Tiny results."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import nnls

from hwmodels.mcu.instructions import KernelCall, instruction_terms

Array = NDArray[np.float64]
KERNELS = ["core", "act", "weight", "type"]


def call_of_row(row: Any) -> KernelCall:
    """A kernel call from a row of mcu_cmsisnn_instr.csv or mlperf_tiny_layers.csv."""
    depthwise = row.type == "dwconv"
    area = row.kh * row.kw
    reduction = area if depthwise else area * row.ci
    return KernelCall(
        *(row.type, row.macs, row.oh * row.ow, row.co, reduction, area, row.kh, area == 1 and row.stride == 1)
    )


def _solve(matrix: Array, values: Array) -> Array:
    weights, _ = nnls(matrix / values[:, None], np.ones(len(values)))
    return np.asarray(weights)


def fit_instructions(table: pd.DataFrame) -> tuple[dict[str, dict[str, float]], pd.DataFrame]:
    """Constants by "core act weight type", and the table with leave-one-layer-out predictions in `held_out`."""
    constants: dict[str, dict[str, float]] = {}
    parts = []
    for key, group in table.groupby(KERNELS, sort=True):
        terms = [instruction_terms(call_of_row(row)) for row in group.itertuples()]
        names = list(terms[0])
        matrix = np.array([[term[name] for name in names] for term in terms])
        values = group["instructions"].to_numpy(dtype=np.float64)
        constants[" ".join(map(str, key if isinstance(key, tuple) else (key,)))] = dict(
            zip(names, _solve(matrix, values).tolist())
        )
        rows = np.arange(len(values))
        held_out = [matrix[i] @ _solve(matrix[rows != i], values[rows != i]) for i in rows]
        parts.append(group.assign(held_out=held_out))
    return constants, pd.concat(parts)


def network_instructions(
    layers: pd.DataFrame, constants: dict[str, dict[str, float]], core: str
) -> pd.Series:
    """int8 instructions of each MLPerf Tiny network on a core."""
    counts = []
    for row in layers.itertuples():
        weights = constants[f"{core} s8 s8 {row.type}"]
        counts.append(sum(weights[n] * v for n, v in instruction_terms(call_of_row(row)).items()))
    return layers.assign(instructions=counts).groupby("model")["instructions"].sum()


def fit_stacks(
    results: pd.DataFrame, layers: pd.DataFrame, constants: dict[str, dict[str, float]]
) -> dict[str, Any]:
    """Cycles per instruction by core and software stack: geometric mean over networks, rounds and boards."""
    stacks: dict[str, Any] = {}
    measured = results[(results["quant"] == "int8") & results["core"].isin(["Cortex-M4", "Cortex-M7"])]
    measured = measured.drop_duplicates(["board", "stack", "bench", "latency_ms"])
    for (core, stack), group in measured.groupby(["core", "stack"]):
        counted = network_instructions(layers, constants, str(core))
        cycles = group["latency_ms"] * 1e-3 * group["clock_mhz"] * 1e6
        ratio = np.log(cycles.to_numpy() / group["bench"].map(counted).to_numpy())
        spread = 1.645 * max(float(ratio.std(ddof=1)), 0.05) if len(ratio) > 1 else np.log(1.6)
        stacks[f"{core} {stack}"] = {
            "cycles_per_instruction": float(np.exp(ratio.mean())),
            "interval_log": spread,
            "results": len(ratio),
        }
    return stacks


def fit_energy(results: pd.DataFrame) -> dict[str, Any]:
    """Joules a cycle by core: median over published energy runs, 5 and 95 % quantiles as interval.

    Cycles are those of the performance run (latency x clock); the energy run executes the same program, often at
    another clock and voltage.
    """
    energies: dict[str, Any] = {}
    measured = results[(results["quant"] == "int8") & results["energy_uj"].notna()]
    for core, group in measured[measured["core"].isin(["Cortex-M4", "Cortex-M7"])].groupby("core"):
        cycles = group["latency_ms"] * 1e-3 * group["clock_mhz"] * 1e6
        joules = (group["energy_uj"] * 1e-6 / cycles).to_numpy()
        low, middle, high = np.quantile(joules, [0.05, 0.5, 0.95])
        energies[str(core)] = {
            "joules_per_cycle": middle,
            "low90": low,
            "high90": high,
            "results": len(joules),
        }
    return energies


def fit_float32(results: pd.DataFrame) -> dict[str, float]:
    """Cycles of float32 over int8 inference by the same stack on the same board: median by core (cores with an FPU)."""
    ratios: dict[str, list[float]] = {}
    pairs = results[results["stack"] == "Bosch HALE"].groupby(["core", "board", "bench"])
    for (core, _, _), group in pairs:
        by_format = group.groupby("quant")["cycles_per_mac"].min()
        if {"float32", "int8"} <= set(by_format.index):
            ratios.setdefault(str(core), []).append(float(by_format["float32"] / by_format["int8"]))
    return {core: float(np.median(values)) for core, values in ratios.items() if core.startswith("Cortex")}


def calibrate_mcu(folder: Path) -> dict[str, Any]:
    """The content of calibration/mcu.json."""
    files = ("mcu_cmsisnn_instr.csv", "mlperf_tiny.csv", "mlperf_tiny_layers.csv")
    counted, results, layers = (pd.read_csv(folder / name) for name in files)
    constants, validated = fit_instructions(counted)
    errors = (validated["held_out"] / validated["instructions"]).to_numpy()
    by_core = validated.assign(error=np.abs(errors - 1), size=np.abs(np.log(errors))).groupby("core")
    cores = {
        str(core): {
            "cv_mape_percent": round(100 * float(group["error"].mean()), 3),
            "interval_log": float(group["size"].quantile(0.9)),
            "rank_correlation": round(
                float(group["held_out"].corr(group["instructions"], method="spearman")), 5
            ),
        }
        for core, group in by_core
    }
    return {
        "version": 1,
        "tool": "CMSIS-NN 99f736a, arm-none-eabi-gcc 12.2.rel1 -Ofast, QEMU 7.2; MLPerf Tiny v1.0-v1.3",
        "data_sha256": {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in files},
        "cv_mape_percent": round(100 * float(np.abs(errors - 1).mean()), 3),
        "cores": cores,
        "kernels": constants,
        "stacks": fit_stacks(results, layers, constants),
        "energy": fit_energy(results),
        "float32_over_int8": fit_float32(results),
    }
