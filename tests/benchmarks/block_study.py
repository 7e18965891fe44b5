"""Integer against float elements in fine-grained formats, with and without a Hadamard rotation: one figure.

    python -m tests.benchmarks.block_study --zoo ../shared/zoo --out docs

The question of Chen et al., "INT v.s. FP: A Comprehensive Study of Fine-Grained Low-bit Quantization Formats"
(arXiv 2510.25602), on our networks: weights and the inputs of all MAC layers rounded to nearest (direct cast, scales
by the format's own rule), rotation = randomized Hadamard blocks as long as the format's in front of each layer.
Writes <out>/block_study.svg, .csv and .md.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

import qsim
from qsim.data import load_npz
from qsim.metrics import METRICS, Samples
from qsim.ptq import Calibration, PlanBuilder
from qsim.ptq.transforms import OnlineHadamard
from searches.statistics import paired_difference
from tests.benchmarks.ptq_table.rows import NETWORKS

MX = "fixed{0}.2/saturate_symmetric@block32:e8m0/floor"
# What is compared: name, integer elements, float elements.
PAIRS = {
    "MX, 8 bits": ("mxint8", "mxfp8_e4m3"),
    "MX, 6 bits": (MX.format(6), "mxfp6_e2m3"),
    "MX, 4 bits": (MX.format(4), "mxfp4"),
    "NV, 4 bits": ("int4/saturate_symmetric@block16:e4m3fn@tensor:float32", "nvfp4"),
}
STUDIED = ("lm", "resnet8", "dscnn")
COLOURS = {"integer": "#0072B2", "float": "#D55E00"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--zoo", type=Path, required=True, help="the folder of networks")
    parser.add_argument("--out", type=Path, default=Path("docs"))
    parser.add_argument("--networks", default=",".join(STUDIED))
    parser.add_argument("--samples", type=int, default=None, help="evaluation samples (default: all)")
    parser.add_argument("--seeds", type=int, default=3, help="of the rotation")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    tables = [
        measure(arguments.zoo, name, arguments.samples, arguments.seeds)
        for name in arguments.networks.split(",")
    ]
    table = pd.concat(tables, ignore_index=True)
    table.round(5).to_csv(arguments.out / "block_study.csv", index=False)
    draw(table, arguments.out / "block_study.svg")
    command = " ".join(["python -m tests.benchmarks.block_study", *sys.argv[1:]])
    text = [f"# Integer against float elements in blocks\n\n`{command}`\n\n![](block_study.svg)", *say(table)]
    (arguments.out / "block_study.md").write_text("\n\n".join(text) + "\n")
    print("\n\n".join(text[1:]))


def measure(zoo: Path, name: str, samples: int | None, seeds: int) -> pd.DataFrame:
    """A row for each pair, element, and rotation (none, or a seed) of one network."""
    network = NETWORKS[name]
    original = qsim.load_model(zoo / network.folder / "model.onnx")
    data = load_npz(zoo / network.folder / "data.npz", original, network.preprocessing).head(samples)
    inputs, metric = dict(data.evaluation), METRICS[network.metric]
    reference = qsim.emulate(original, None, inputs, batch_size=network.batch_size).output

    def score(output: Any) -> tuple[Any, float]:
        seen = Samples(output, reference, next(iter(inputs.values())), data.labels)
        return metric.score(seen), METRICS["sqnr"].value(METRICS["sqnr"].score(seen))

    exact, _ = score(reference)
    rows = []
    for pair, specs in PAIRS.items():
        block = qsim.parse(specs[0]).granularity.block[-1]
        for seed in (None, *range(seeds)):
            rotate = None if seed is None else OnlineHadamard(block=block, seed=seed)
            graph = original if rotate is None else rotate(original, data.calibration)
            builder = PlanBuilder.calibrate(graph, data.calibration, Calibration("minmax", "minmax"))
            for element, spec in zip(("integer", "float"), specs, strict=True):
                plan = builder.build(_everywhere(original, graph, spec))
                scores, sqnr = score(
                    qsim.emulate(graph, plan, inputs, batch_size=network.batch_size, arithmetic="fast").output
                )
                change = paired_difference(scores, exact, None if metric.is_mean else metric.value)
                row = {"network": network.label, "metric": metric.name, "pair": pair, "element": element}
                row |= {"rotated": seed is not None, "seed": seed, "spec": spec, "sqnr_db": sqnr}
                row |= {"value": metric.value(scores), "difference": change.value}
                rows.append(row | {"low95": change.low, "high95": change.high})
                print(
                    f"{name} {pair} {element} seed {seed}: {rows[-1]['value']:.4f} {sqnr:.2f} dB", flush=True
                )
    return pd.DataFrame(rows)


def _everywhere(original: qsim.Graph, graph: qsim.Graph, spec: str) -> dict[str, qsim.Spec]:
    """The spec on both operands of every layer of the original network; added rotations stay in float32."""
    names = {layer.name for layer in original.layers}
    layers = [layer for layer in graph.layers if layer.name in names]
    return {name: qsim.parse(spec) for layer in layers for name in (layer.weights, layer.input)}


def draw(table: pd.DataFrame, path: Path) -> None:
    """SQNR of the outputs: a panel a network, a group a pair; hollow without and filled with rotation."""
    import matplotlib
    from matplotlib.figure import Figure

    networks = list(dict.fromkeys(table["network"]))
    figure = Figure(figsize=(4.3 * len(networks), 3.8), layout="constrained")
    panels = figure.subplots(1, len(networks), squeeze=False)[0]
    for panel, network in zip(panels, networks, strict=True):
        for place, pair in enumerate(PAIRS):
            for element, colour in COLOURS.items():
                rows = table[
                    (table["network"] == network) & (table["pair"] == pair) & (table["element"] == element)
                ]
                x = place + (-0.13 if element == "integer" else 0.13)
                plain, rotated = rows[~rows["rotated"]]["sqnr_db"], rows[rows["rotated"]]["sqnr_db"]
                style = {"color": colour, "marker": "o", "linestyle": "none"}
                label = None if place else f"{element} elements"
                panel.plot([x] * len(plain), plain, markerfacecolor="white", label=label, **style)
                label = None if place else f"{element} elements, rotated"
                panel.plot([x + 0.09] * len(rotated), rotated, label=label, **style)
        panel.set_xticks(range(len(PAIRS)), list(PAIRS))
        panel.set_title(network, fontsize=10)
        panel.grid(alpha=0.25, linewidth=0.6)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("SQNR of the outputs (dB)")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False)
    with matplotlib.rc_context({"svg.hashsalt": "qsim"}):
        figure.savefig(path, metadata={"Date": None, "Creator": None})


def say(table: pd.DataFrame) -> list[str]:
    """A table a network, and a sentence a pair."""
    parts = []
    for network, rows in table.groupby("network", sort=False):
        percent = 100 if rows["metric"].iloc[0] in ("top1", "agreement") else 1
        lines = [
            f"| {network} ({rows['metric'].iloc[0]}) | integer | float | integer, rotated | float, rotated |"
        ]
        lines += ["|---|---|---|---|---|"]
        for pair, members in rows.groupby("pair", sort=False):
            cells = [
                _cell(members, element, rotated, percent) for rotated in (False, True) for element in COLOURS
            ]
            lines.append(f"| {pair} | {' | '.join(cells)} |")
        parts.append("\n".join(lines))
    parts.append(
        "Cells: metric (difference to float32 with its paired 95 % interval; rotated: of the first seed, range of the "
        "metric over the seeds), SQNR of the outputs."
    )
    mean = table.groupby(["pair", "network", "rotated", "element"], sort=False)["sqnr_db"].mean().unstack()
    lead = mean["integer"] - mean["float"]
    for pair in PAIRS:
        plain, rotated = lead.loc[pair].xs(False, level="rotated"), lead.loc[pair].xs(True, level="rotated")
        parts.append(
            f"- {pair}: integers lead by {_signed(plain)} dB without and {_signed(rotated)} dB with rotation "
            f"({', '.join(plain.index)})."
        )
    return parts


def _cell(rows: pd.DataFrame, element: str, rotated: bool, percent: int) -> str:
    rows = rows[(rows["element"] == element) & (rows["rotated"] == rotated)]
    first = rows.iloc[0]
    low, high = percent * rows["value"].min(), percent * rows["value"].max()
    spread = f" {low:.2f} to {high:.2f}" if rotated else ""
    change = f"{percent * first['difference']:+.2f} [{percent * first['low95']:+.2f}, {percent * first['high95']:+.2f}]"
    return f"{percent * first['value']:.2f} ({change}{spread}), {rows['sqnr_db'].mean():.1f} dB"


def _signed(values: pd.Series) -> str:
    return ", ".join(f"{value:+.1f}" for value in np.asarray(values, float))


if __name__ == "__main__":
    main()
