"""Every quantization method x format x network of the zoo, as docs/ptq_table.csv and docs/ptq_table.md:

    python -m tests.benchmarks.ptq_table --zoo ../shared/zoo --out docs/ --jobs 2

Only calibration data are used to quantize; each number is over all evaluation samples. Cells are kept in --work as
soon as they are measured, so that a run goes on where another stopped, and only what changed is measured again:
methods by the sources that they run through. --keep-older takes cells of older sources as they are (the CSV says
which source each is of). --write-only measures nothing. The cells of docs/ptq_table.md lie beside it: after
`tar xzf docs/ptq_table_cells.tar.gz -C runs` a run with --keep-older measures the missing ones alone.

    python -m tests.benchmarks.ptq_table --zoo ../shared/zoo --out /tmp/t --networks dscnn --methods 'gptq*'
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import sys
import time
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import torch
from joblib import Parallel, delayed

from tests.benchmarks.ptq_table.measure import Bench, Cell, keep_cell, load_cells, source_version
from tests.benchmarks.ptq_table.rows import FORMATS, METHODS, NETWORKS
from tests.benchmarks.ptq_table.write import write_table

LONGEST_FIRST = ("lm", "vww", "resnet8", "dscnn", "autoencoder")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--zoo", type=Path, required=True, help="the folder of networks")
    parser.add_argument("--out", type=Path, default=Path("docs"), help="where the table goes")
    parser.add_argument("--work", type=Path, default=Path("runs/ptq_table"), help="where cells are kept")
    parser.add_argument("--networks", default="*", help=f"patterns of {', '.join(NETWORKS)}")
    parser.add_argument("--methods", default="*", help=f"patterns of {', '.join(METHODS)}")
    parser.add_argument("--formats", default="*", help=f"patterns of {', '.join(FORMATS)}")
    parser.add_argument("--samples", type=int, default=None, help="evaluation samples (default: all)")
    parser.add_argument("--seeds", type=int, default=3, help="at most so many, for methods that draw")
    parser.add_argument("--keep-older", action="store_true", help="keep cells that older sources gave")
    parser.add_argument("--measure-only", action="store_true", help="write no table")
    parser.add_argument("--write-only", action="store_true", help="write the table of what is kept")
    parser.add_argument("--jobs", type=int, default=1, help="processes that measure side by side")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    start = time.perf_counter()
    if arguments.jobs > 1 and not arguments.write_only:
        _measure_side_by_side(arguments)
    known = load_cells(arguments.work)
    found: dict[str, dict[str, list[Cell]]] = {}
    benches = {}
    for network in _chosen(arguments.networks, NETWORKS):
        bench = benches[network] = Bench(arguments.zoo, network, arguments.samples, known)
        found[network] = {}
        for method in _chosen(arguments.methods, METHODS):
            found[network][method] = _row(bench, method, arguments, known)
    if not arguments.write_only:
        minutes = (time.perf_counter() - start) / 60
        print(f"measured in {minutes:.1f} minutes by {arguments.jobs} processes", flush=True)
    if arguments.measure_only:
        return
    command = " ".join(["python -m tests.benchmarks.ptq_table", *sys.argv[1:]])
    write_table(arguments.out, found, benches, command)


def _measure_side_by_side(arguments: argparse.Namespace) -> None:
    """Half a network at a time in each process, the longest first: methods that learn by gradients and all others."""
    methods = _chosen(arguments.methods, METHODS)
    learned = [method for method in methods if METHODS[method].options.get("after")]
    halves = [method for method in methods if method not in learned], learned
    networks = _chosen(arguments.networks, LONGEST_FIRST)
    tasks = [(network, half) for network in networks for half in halves if half]
    Parallel(arguments.jobs, batch_size=1)(delayed(_measure)(*task, arguments) for task in tasks)


def _measure(network: str, methods: Sequence[str], arguments: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    known = load_cells(arguments.work)
    bench = Bench(arguments.zoo, network, arguments.samples, known)
    for method in methods:
        _row(bench, method, arguments, known)


def _row(bench: Bench, method: str, arguments: argparse.Namespace, known: dict[str, Cell]) -> list[Cell]:
    """The cells of one method on one network, measured where they are not known."""
    cells = []
    for format_name in _chosen(arguments.formats, FORMATS):
        for seed in range(min(METHODS[method].seeds(format_name), arguments.seeds)):
            cell = known.get(bench.key(METHODS[method], format_name, seed))
            fresh = cell is not None and cell.version == source_version(METHODS[method])
            if cell is not None and (fresh or arguments.keep_older or arguments.write_only):
                cells.append(cell)
            elif not arguments.write_only:
                start = time.perf_counter()
                cells.append(bench.measure(method, format_name, seed))
                keep_cell(arguments.work, cells[-1])
                _say(cells[-1], time.perf_counter() - start)
    return cells


def _say(cell: Cell, wall_s: float) -> None:
    text = cell.failed or (
        f"{cell.value:8.4f}  quantize {cell.quantize_s:6.1f} s, evaluate {cell.evaluate_s:5.1f} s, "
        f"{cell.peak_mib[0]:.0f} MiB, wall {wall_s:.1f} s"
    )
    print(f"{cell.network:12} {cell.method:16} {cell.format:7} {cell.seed} {text}", flush=True)


def _chosen(patterns: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns.split(","))]


if __name__ == "__main__":
    main()
