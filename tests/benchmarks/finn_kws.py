"""FINN's published KWS-W3A3 designs beside our estimate over foldings and clocks.

    python -m tests.benchmarks.finn_kws [--zoo ../shared/zoo] [--out docs]

Writes docs/finn_kws.csv, .svg and .md. Published (MLPerf Tiny v0.7, open division, hls4ml-finn; network and
logs read for ../shared/research/zoo.md, section 4): 57,268 inferences/s on a Pynq-Z2, 30,153 on an Arty A7-100T, one
sample at a time. Their build scripts (mlcommons/tiny_results_v0.7, open/hls4ml-finn/code/kws/KWS-W3A3/inference/
*/build.py) ask FINN for target_fps=200000 at synth_clk_period_ns=10 on both boards; their LUT counts are in no text
that could be read. The published rate holds the driver's time and data mover too, so it is to be compared with one
over our latency of a single sample, which it should not exceed.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

import hwmodels
import qsim

PUBLISHED_HZ = {"fpga_pynq_z2": 57268.0, "fpga_arty_a7_100t": 30153.0}
BUILD_TARGET_HZ, BUILD_CLOCK_HZ = 200_000.0, 100e6
CLOCKS_HZ = (50e6, 100e6, 150e6, 200e6)
RATES_HZ = np.geomspace(500.0, 2e6, 37)
WEIGHT, FIRST, INNER = (
    qsim.parse(text)
    for text in ("int3/saturate_symmetric@channel:float32", "int8@tensor:float32", "uint3@tensor:float32")
)
"""As the file's Quant nodes have them: narrow 3-bit weights, an 8-bit input, unsigned 3 bits after every ReLU."""
CAVEAT = """The published rate includes the driver and the data mover, which the estimate does not: it should lie below
the estimate of one sample at a time, and does. The Arty's processor is a soft MicroBlaze, which may be why the same
network is slower there; our streaming design is the same on both. Published LUT counts were in no text we found."""
COLUMNS = ("lut", "lut_low90", "lut_high90", "ff", "bram18k", "dsp", "throughput_hz", "latency_s")


def designs(graph: qsim.graph.Graph, name: str) -> Iterator[dict[str, float | str | bool]]:
    """One row a clock and folding target of a board."""
    layers, count = graph.layers, len(graph.layers)
    weights, inputs = [WEIGHT] * count, [FIRST] + [INNER] * (count - 1)
    outputs = [INNER] * (count - 1) + [None]
    board = hwmodels.load_target(name)
    for clock_hz in CLOCKS_HZ:
        for rate_hz in sorted({*RATES_HZ.tolist(), BUILD_TARGET_HZ}):
            target = replace(board, design=replace(board.design, clock_hz=clock_hz, throughput_hz=rate_hz))
            costs = target.layer_costs(layers, weights, inputs, outputs, [None] * count)
            total = target.total(costs)
            room = board.design.resources
            yield {
                "board": name,
                "clock_mhz": clock_hz / 1e6,
                "target_hz": rate_hz,
                **{column: float(total[column]) for column in COLUMNS},
                "one_sample_hz": 1.0 / float(total["latency_s"]),
                "published_hz": PUBLISHED_HZ[name],
                "fits": all(total.get(part, 0.0) <= amount for part, amount in room.items()),
            }


def draw(table: pd.DataFrame, path: Path) -> None:
    """LUT and block RAM against inferences a second, a column a board; the published rate as a line."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 2, figsize=(10, 7), sharex=True, sharey="row")
    for column, (name, rows) in zip(axes.T, table.groupby("board", sort=False)):
        room = hwmodels.load_target(str(name)).design.resources
        for axis, resource, label in zip(column, ("lut", "bram18k"), ("LUT", "18 Kib block RAMs")):
            for clock_mhz, curve in rows.groupby("clock_mhz"):
                curve = curve.sort_values("one_sample_hz")
                (line,) = axis.plot(
                    curve["one_sample_hz"], curve[resource], ".-", label=f"{clock_mhz:.0f} MHz"
                )
                if resource == "lut":
                    low, high = curve["lut_low90"], curve["lut_high90"]
                    axis.fill_between(curve["one_sample_hz"], low, high, alpha=0.15, color=line.get_color())
            axis.axhline(room[resource], color="black", linestyle=":", label="the device has")
            axis.axvline(
                PUBLISHED_HZ[str(name)], color="red", label=f"published {PUBLISHED_HZ[str(name)]:,.0f}/s"
            )
            build = at_build_settings(rows)
            axis.plot(
                build["one_sample_hz"], build[resource], "k*", markersize=12, label="their target, 100 MHz"
            )
            axis.set(xscale="log", yscale="log" if resource == "lut" else "linear", ylabel=label)
            axis.grid(alpha=0.3)
        column[0].set_title(str(name))
        column[1].set_xlabel("inferences a second, one sample at a time")
    axes[0, 0].legend(fontsize=8)
    figure.suptitle("KWS-W3A3 (MLP 490-256-256-256-12, 3 bits): our estimate over foldings and clocks")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def at_build_settings(rows: pd.DataFrame) -> pd.Series:
    """The design folded as the published build scripts ask."""
    return rows[(rows["clock_mhz"] == BUILD_CLOCK_HZ / 1e6) & (rows["target_hz"] == BUILD_TARGET_HZ)].iloc[0]


def report(table: pd.DataFrame) -> str:
    """Where the published rate lies, a paragraph a board, as Markdown."""
    lines = ["# FINN's KWS-W3A3 beside our estimate", "", "    python -m tests.benchmarks.finn_kws", ""]
    for name, rows in table.groupby("board", sort=False):
        published, build = PUBLISHED_HZ[str(name)], at_build_settings(rows)
        lines += [
            f"**{name}**: published {published:,.0f} inferences/s. Folded as its build script asks (200,000/s at",
            f"100 MHz) we estimate {build['throughput_hz']:,.0f}/s streamed and {build['one_sample_hz']:,.0f}/s one "
            f"sample at a time, of which the",
            f"published rate is {published / build['one_sample_hz']:.0%}; {build['lut']:,.0f} LUT "
            f"({build['lut_low90']:,.0f} to {build['lut_high90']:,.0f}), {build['bram18k']:.0f} BRAM18,",
            f"{fit_of(build)}.",
            "",
        ]
        for clock_mhz, curve in rows.groupby("clock_mhz"):
            enough = curve[curve["one_sample_hz"] >= published].sort_values("lut")
            if len(enough):
                least = enough.iloc[0]
                lines.append(
                    f"- {clock_mhz:.0f} MHz: the smallest design at least as fast takes {least['lut']:,.0f} LUT, "
                    f"{least['bram18k']:.0f} BRAM18 ({least['one_sample_hz']:,.0f}/s), {fit_of(least)}"
                )
        lines.append("")
    lines.append(CAVEAT)
    return "\n".join(lines)


def fit_of(design: pd.Series) -> str:
    """Whether a design has room on its board, in words."""
    return "fits the device" if design["fits"] else "does not fit the device"


def main() -> None:
    """Tables, figure and the sentences about them."""
    shared = Path(os.environ.get("QSIM_SHARED", Path(__file__).resolve().parents[3] / "shared"))
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--zoo", type=Path, default=shared / "zoo")
    parser.add_argument("--out", type=Path, default=Path("docs"))
    options = parser.parse_args()
    graph = qsim.load_model(options.zoo / "kws_w3a3_qonnx" / "qonnx.onnx")
    table = pd.DataFrame([row for name in PUBLISHED_HZ for row in designs(graph, name)])
    options.out.mkdir(parents=True, exist_ok=True)
    table.round(9).to_csv(options.out / "finn_kws.csv", index=False, float_format="%.6g")
    draw(table, options.out / "finn_kws.svg")
    text = report(table)
    (options.out / "finn_kws.md").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
