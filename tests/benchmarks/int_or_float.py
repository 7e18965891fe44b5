"""Integers or minifloats? Accuracy against LUTs on two networks, one picture each, and what they say in words.

    python -m tests.benchmarks.int_or_float --zoo ../shared/zoo --out docs

Runs `qsim-search experiment=int_or_float` for scalar formats (every pair of widths from 3 to 8 bits) and for block
formats (MXINT, MXFP, NVFP4, NVINT4); what was measured is in the store, so that a second call only draws.
Writes <out>/int_or_float_<network>.svg, <out>/block_int_or_float_<network>.svg, .csv beside each, int_or_float.md.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import pandas as pd

from reports.families import family_sentences
from reports.front import save_front
from reports.quantities import cost_quantity
from reports.results import float_value, load_run, metric_of

NETWORKS = {
    "resnet8": ("resnet8_cifar10", "data.axes=[0,3,1,2]"),
    "dscnn": ("dscnn_kws", "data.reshape=[-1,1,49,10]"),
}
MENUS = ("int_or_float", "block_int_or_float")
KEPT = [
    "search",
    "label",
    "choose_value",
    "report_value",
    "report_low95",
    "report_high95",
    "agreement",
    "lut",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--zoo", type=Path, required=True, help="the folder of networks")
    parser.add_argument("--out", type=Path, default=Path("docs"))
    parser.add_argument(
        "--work", type=Path, default=Path("runs/int_or_float"), help="run folders and the store"
    )
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("more", nargs="*", help="more arguments for qsim-search, as data.samples=100")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    text = [
        f"# Integers or minifloats?\n\n`{' '.join(['python -m tests.benchmarks.int_or_float', *sys.argv[1:]])}`"
    ]
    for network in arguments.networks.split(","):
        for menu in MENUS:
            folder = arguments.work / f"{menu}_{network}"
            _search(folder, arguments.zoo, network, menu, arguments.more)
            text.append(_draw(folder, arguments.out, network, menu))
    (arguments.out / "int_or_float.md").write_text("\n\n".join(text) + "\n")
    print("\n\n".join(text))


def _search(folder: Path, zoo: Path, network: str, menu: str, more: list[str]) -> None:
    name, shape = NETWORKS[network]
    source = (zoo / name).resolve()
    command = ["qsim-search", "experiment=int_or_float", f"formats={menu}", "model=onnx", "data=npz"]
    command += [f"model.path={source / 'model.onnx'}", f"data.path={source / 'data.npz'}", shape]
    command += [f"run_dir={folder.resolve()}", f"store={(folder.parent / 'store.sqlite').resolve()}", *more]
    command[0] = str(Path(sys.executable).with_name(command[0]))
    subprocess.run(command, check=True)


def _draw(folder: Path, out: Path, network: str, menu: str) -> str:
    """The picture and table of one run, and its paragraph."""
    table, lut = load_run(folder, network).table, cost_quantity("lut")
    stem = f"{menu}_{network}"
    png, _ = save_front({network: table}, out, [lut], stem=stem)
    png.unlink()
    table[KEPT].dropna(subset=["lut"]).round(6).to_csv(out / f"{stem}.csv", index=False)
    metric = metric_of(table)
    head = f"## {network}, {'block formats' if menu.startswith('block') else 'one scale a tensor or channel'}"
    plans = int(pd.notna(table["lut"]).sum())
    intro = (
        f"{plans} uniform plans rounded by GPTQ; float32 {metric.text(float_value(table))}; LUTs of the streaming "
        f"design on fpga_zcu104. Chosen on one half of the data, shown on the other. ![]({stem}.svg)"
    )
    return "\n\n".join([head, intro, *(f"- {sentence}" for sentence in family_sentences(table, lut))])


if __name__ == "__main__":
    main()
