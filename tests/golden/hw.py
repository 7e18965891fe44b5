"""Family `hw`: synthesized circuits and measured microcontrollers against our cost models.

    pytest tests/golden --golden DIR --families hw        (fails above the bars, shows the tables as warnings)
    python -m tests.golden.hw DIR                         (the tables alone)

Bars: LUT of flow xcup_rows, 8 % mean absolute error over all units and 20 % in a family. Everything else is printed
without a bar, except SCALE-Sim's cycles, which are a closed form and must be equal. A family that no model was fitted
to is predicted from its structure and scored like the others.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hwmodels.asic.dataflow import systolic_cycles
from hwmodels.mcu.core import Core, constants, cycles_per_instruction
from hwmodels.mcu.fit import call_of_row, network_instructions
from hwmodels.mcu.instructions import instruction_terms
from hwmodels.units.carry import dsp_slices, flip_flops
from hwmodels.units.model import calibrated
from hwmodels.units.unit import Unit, unit_from_row
from tests.conftest import shared_folder
from tests.golden.harness import Comparison, GoldenFile

LUT_BAR_PERCENT = 8.0
LUT_FAMILY_BAR_PERCENT = 20.0
ARRAY = 16  # rows and columns of both peers' arrays
ANCHOR_LAYERS = {  # name: groups, vectors, reduction, outputs a group (README.md, "Dataflow anchors")
    "pw_128_128_14": (1, 14 * 14, 128, 128),
    "fc_256_512": (1, 1, 256, 512),
    "matmul_64x128x256": (1, 64, 256, 128),
    "conv3x3_64_64_28": (1, 28 * 28, 576, 64),
    "dw3x3_128_14": (128, 14 * 14, 9, 1),
}


class CostModelErrors(UserWarning):
    """Carries a table of errors to the end of a pytest run, where warnings are shown."""


def read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def units_of(table: pd.DataFrame) -> list[Unit]:
    return [unit_from_row(row) for row in table.to_dict("records")]


def relative_errors(
    name: str, table: pd.DataFrame, column: str, predicted: Any, low: Any = None, high: Any = None
):
    """One row a unit with a measured value above zero: group, quantity, error in per cent, inside the interval."""
    measured = pd.to_numeric(table[column]).to_numpy(float)
    keep = measured > 0
    errors = 100 * (np.asarray(predicted, float)[keep] - measured[keep]) / measured[keep]
    result = pd.DataFrame({"family": table["family"].to_numpy()[keep], "quantity": name, "error": errors})
    if low is not None:
        result["inside"] = (np.asarray(low)[keep] <= measured[keep]) & (
            measured[keep] <= np.asarray(high)[keep]
        )
    return result


def modelled(name: str, quantity: str, table: pd.DataFrame, column: str) -> pd.DataFrame:
    predicted = calibrated(quantity).predict(units_of(table))
    return relative_errors(name, table, column, predicted[:, 0], predicted[:, 1], predicted[:, 2])


def score_fpga(path: Path) -> pd.DataFrame:
    table = read(path)
    rows = table[table["flow"] == "xcup_rows"]
    parts = [modelled("LUT", "lut", rows, "lut"), modelled("CARRY4", "carry", rows, "carry4")]
    parts.append(relative_errors("FF", rows, "ff", [flip_flops(unit) for unit in units_of(rows)]))
    dsp = table[table["flow"] == "xcup_dsp"]
    difference = (
        np.array([dsp_slices(unit) for unit in units_of(dsp)]) - pd.to_numeric(dsp["dsp48e2"]).to_numpy()
    )
    largest = np.maximum(pd.to_numeric(dsp["dsp48e2"]).to_numpy(), 1)
    parts.append(
        pd.DataFrame(
            {"family": dsp["family"].to_numpy(), "quantity": "DSP48E2", "error": 100 * difference / largest}
        )
    )
    return pd.concat(parts, ignore_index=True)


def score_asic(path: Path) -> pd.DataFrame:
    table = read(path)
    columns = {"area_nand2": "area_nand2", "energy_fj": "e_total_fj", "delay_ps": "delay_ps"}
    return pd.concat(
        [modelled(name, name, table, column) for name, column in columns.items() if column in table]
    )


def score_ice40(path: Path) -> pd.DataFrame:
    table = read(path)
    table["period_ns"] = 1e3 / pd.to_numeric(table["fmax_median_mhz"])
    return modelled("iCE40 period", "ice40_period_ns", table.astype(str), "period_ns")


def score_instructions(path: Path) -> pd.DataFrame:
    table = pd.read_csv(path)
    predicted = []
    for row in table.itertuples():
        weights = constants()["kernels"].get(f"{row.core} {row.act} {row.weight} {row.type}")
        if weights is None:
            pytest.fail(f"{path.name}: no instruction model for {row.core} {row.act} {row.weight} {row.type}")
        predicted.append(
            sum(weights[name] * amount for name, amount in instruction_terms(call_of_row(row)).items())
        )
    result = relative_errors("instructions", table.assign(family=table["core"]), "instructions", predicted)
    for core, group in table.assign(predicted=predicted).groupby("core"):
        rank = group["predicted"].corr(group["instructions"], method="spearman")
        result = pd.concat(
            [
                result,
                pd.DataFrame({"family": [core], "quantity": ["1 - rank corr."], "error": [100 * (1 - rank)]}),
            ]
        )
    return result


def score_latency(path: Path) -> pd.DataFrame:
    """Latency of int8 MLPerf Tiny results on cores and stacks that the calibration knows."""
    beside, common = (
        path.with_name("mlperf_tiny_layers.csv"),
        shared_folder() / "golden" / "hw" / "mlperf_tiny_layers.csv",
    )
    if not (
        beside.exists() or common.exists()
    ):  # the networks' shapes are facts of the benchmark, not of the folder
        return pd.DataFrame({"family": [], "quantity": [], "error": []})
    results, layers = pd.read_csv(path), pd.read_csv(beside if beside.exists() else common)
    rows = []
    known = constants()
    for core in ("Cortex-M4", "Cortex-M7"):
        counted = network_instructions(layers, known["kernels"], core)
        mine = results[
            (results["core"] == core) & (results["quant"] == "int8") & results["bench"].isin(counted.index)
        ]
        for row in mine.itertuples():
            if f"{core} {row.stack}" not in known["stacks"]:
                continue
            cycles = counted[row.bench] * cycles_per_instruction(Core("", "", core, row.stack, 1e6, 1, 1))[0]
            rows.append((f"{core} {row.stack}", cycles / row.clock_mhz / 1e3, row.latency_ms))
    table = pd.DataFrame(rows, columns=["family", "predicted", "latency_ms"])
    return relative_errors("latency", table, "latency_ms", table["predicted"])


def summary(errors: pd.DataFrame) -> pd.DataFrame:
    """Mean absolute, signed, largest error and share inside the 90 % interval, in per cent, by quantity and family."""
    both = pd.concat([errors, errors.assign(family="all")])
    groups = both.groupby(["quantity", "family"], sort=False)["error"]
    table = groups.agg(
        units="size", mape=lambda e: e.abs().mean(), bias="mean", largest=lambda e: e.abs().max()
    )
    if "inside" in both:
        table["inside_90"] = both.groupby(["quantity", "family"], sort=False)["inside"].mean() * 100
    return table.round(2)


def show(path: Path, table: pd.DataFrame) -> None:
    text = f"{path.name}: error of the cost models in per cent\n{table.to_string()}"
    warnings.warn(text, CostModelErrors, stacklevel=2)


def check_table(score: Callable[[Path], pd.DataFrame]) -> Callable[[GoldenFile], Iterator[Comparison]]:
    """A checker that prints the table of `score` and holds LUT counts to their bars."""

    def check(file: GoldenFile) -> Iterator[Comparison]:
        table = summary(score(file.path))
        if table.empty:
            yield Comparison(file.name, 0, note="nothing in it has a model")
            return
        show(file.path, table)
        for (quantity, family), row in table.iterrows():
            bar = LUT_BAR_PERCENT if family == "all" else LUT_FAMILY_BAR_PERCENT
            over = quantity == "LUT" and row["mape"] > bar
            count = 0 if family == "all" else int(row["units"])
            note = f"mean error {row['mape']:.2f} %, bar {bar} %"
            yield Comparison(
                f"{quantity} {family}", max(count, int(over)), max(count, 1) if over else 0, note=note
            )

    return check


def check_anchors(file: GoldenFile) -> Iterator[Comparison]:
    """SCALE-Sim's cycles exactly; of ZigZag its ideal cycles (products over multipliers) exactly."""
    for row in pd.read_csv(file.path).itertuples():
        what = f"{row.tool} {row.dataflow} {row.layer}"
        if row.layer not in ANCHOR_LAYERS:
            yield Comparison(what, 0, note="a layer whose shape README.md does not state")
            continue
        groups, vectors, reduction, outputs = ANCHOR_LAYERS[row.layer]
        if str(row.tool).startswith("scalesim"):
            ours, golden = (
                systolic_cycles(row.dataflow, vectors, reduction, outputs, ARRAY, ARRAY),
                row.cycles,
            )
        else:
            ours, golden = groups * vectors * reduction * outputs / ARRAY**2, row.ideal_cycles
        yield Comparison(what, 1, int(ours != golden), note=f"ours {ours}, golden {golden}")


SCORES: dict[str, Callable[[Path], pd.DataFrame]] = {
    "hw/fpga_xilinx_yosys.csv": score_fpga,
    "hw/asic_nangate45.csv": score_asic,
    "hw/fpga_ice40_fmax.csv": score_ice40,
    "hw/mcu_cmsisnn_instr.csv": score_instructions,
    "hw/mlperf_tiny.csv": score_latency,
}
FORMS = {
    **{name: check_table(score) for name, score in SCORES.items()},
    "hw/dataflow_anchors.csv": check_anchors,
}
CONTEXT = ("hw/asic_osu018.csv", "hw/mlperf_tiny_layers.csv", "hw/published_numbers.csv", "hw/rtl/*")


def score(directory: Path) -> dict[str, pd.DataFrame]:
    """Every table of errors for a golden folder (or its hw folder), by file name."""
    folder = directory if (directory / "fpga_xilinx_yosys.csv").exists() else directory / "hw"
    return {
        name: summary(scorer(folder / Path(name).name))
        for name, scorer in SCORES.items()
        if (folder / Path(name).name).exists()
    }


if __name__ == "__main__":
    for file_name, errors in score(Path(sys.argv[1])).items():
        print(f"\n{file_name}\n{errors.to_string()}")
