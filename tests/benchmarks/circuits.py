"""Our generated circuits beside the measured ones: LUTs of both in the same flow, by family.

    python -m tests.benchmarks.circuits [--golden ../shared/golden] [--units 6] [--out docs] [--keep runs/synthesis]

Synthesizes, with Yosys, our circuit for up to `units` rows of every family of golden/hw/fpga_xilinx_yosys.csv (flow
xcup_rows, at most LARGEST_LUT LUTs) and writes circuits.csv and circuits.md. Ours compute what the emulator does, signs
of zeros and ties included, so float units may differ; units that are kept are not synthesized again.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
import pandas as pd

from hwmodels.synthesis.sweep import Sweep, sweep
from hwmodels.synthesis.yosys import find_yosys
from hwmodels.units.model import calibrated
from hwmodels.units.unit import unit_from_row

LARGEST_LUT = 2500


def chosen_rows(path: Path, units: int) -> pd.DataFrame:
    """Rows spread evenly over every family, in the file's order."""
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    table = table[(table["flow"] == "xcup_rows") & (pd.to_numeric(table["lut"]) <= LARGEST_LUT)]
    parts = []
    for _, rows in table.groupby("family", sort=False):
        positions = np.unique(np.linspace(0, len(rows) - 1, min(units, len(rows))).round().astype(int))
        parts.append(rows.iloc[positions])
    return pd.concat(parts, ignore_index=True)


def compare(rows: pd.DataFrame, how: Sweep) -> pd.DataFrame:
    """Measured, our circuit's and predicted LUTs of every row."""
    units = [unit_from_row({str(k): v for k, v in row.items()}) for row in rows.to_dict("records")]
    ours = sweep(units, how)
    luts = {unit_from_row({str(k): v for k, v in row.items()}): row["lut"] for row in ours.to_dict("records")}
    predicted = calibrated("lut").predict(units)[:, 0].round(1)
    result = pd.DataFrame(
        {"family": rows["family"], "id": rows["id"], "golden_lut": pd.to_numeric(rows["lut"])}
    )
    return result.assign(our_lut=[luts.get(unit, np.nan) for unit in units], predicted_lut=predicted)


def report(table: pd.DataFrame, version: str) -> str:
    """Ratios by family as Markdown."""
    table = table.dropna()
    ratio = (table["our_lut"] / table["golden_lut"]).groupby(table["family"], sort=False)
    summary = ratio.agg(["size", "min", "median", "max"])
    lines = [
        "# LUTs of our generated circuits over those of golden/hw, same parameters and flow",
        "",
        "    python -m tests.benchmarks.circuits",
        "",
        f"{version}, flow xcup_rows; {len(table)} circuits, median ratio {ratio.obj.median():.2f}.",
        "",
        "| family | circuits | lowest | median | highest |",
        "| --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {name} | {row['size']:.0f} | {row['min']:.2f} | {row['median']:.2f} | {row['max']:.2f} |"
        for name, row in summary.iterrows()
    ]
    return "\n".join(lines)


def main() -> None:
    """The table and its summary."""
    shared = Path(os.environ.get("QSIM_SHARED", Path(__file__).resolve().parents[3] / "shared"))
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--golden", type=Path, default=shared / "golden")
    parser.add_argument("--units", type=int, default=6)
    parser.add_argument("--out", type=Path, default=Path("docs"))
    parser.add_argument("--keep", type=Path, default=Path("runs/synthesis"))
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    yosys = find_yosys()
    rows = chosen_rows(options.golden / "hw" / "fpga_xilinx_yosys.csv", options.units)
    table = compare(rows, Sweep(yosys, options.keep, jobs=options.jobs))
    options.out.mkdir(parents=True, exist_ok=True)
    table.to_csv(options.out / "circuits.csv", index=False)
    text = report(table, yosys.version)
    (options.out / "circuits.md").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
