"""Our best plan at the size of the public tools' plans, on all evaluation samples.

    python -m tests.benchmarks.search_bars --zoo ../shared/zoo --out docs/

Bars: issue 6, from ../shared/research/ptq_peers.md (weights at their width + biases of 4 bytes, activations of 8 bits).
For each size the search mixes weights of 2 to 8 bits: sensitivities and whole plans under GPTQ, corrected by what was
measured on the choosing half; the best few are rounded as they ship, by each of `--finishes` (where one tunes by
gradients, the best plan alone), and what is most accurate on the choosing half is taken. The figure is of all samples,
as the bars are. Stored results are not measured again.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"

import argparse
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import yaml

import configs
import hwmodels
from qsim.ptq import Calibration, PlanBuilder
from qsim.ptq.transforms import apply_transforms
from searches import front, option_costs
from searches.corrected import Choices, Measured, neighbours
from searches.correction import corrected
from searches.problem import Problem
from tests.benchmarks.search_networks import ACT, INT, SHARED, Bench

MENU = {f"w{bits}a8": (INT.format(bits), ACT.format(8)) for bits in (8, 6, 5, 4, 3, 2)}
HEADS = (
    "network,KiB,asked %,best public tool %,ours %,bar,other half %,agreement %,uniform %,finish,bits".split(
        ","
    )
)
LARGE = 1e12  # bytes, no budget
CONFIGS = Path(configs.__file__).parent / "ptq"


@dataclass(frozen=True)
class Bar:
    """A size as all weights at `bits`, the accuracy asked for there (%), and the best public tool's (%)."""

    network: str
    bits: int
    asked: float
    peer: float


BARS = (
    Bar("dscnn", 4, 91.5, 92.26),
    Bar("dscnn", 3, 90.5, 89.16),
    Bar("dscnn", 2, 75.0, 46.2),
    Bar("resnet8", 4, 76.0, 75.65),
    Bar("resnet8", 3, 74.0, 72.05),
    Bar("resnet8", 2, 60.0, 44.0),
    Bar("vww", 4, 97.5, 97.3),
    Bar("vww", 3, 96.5, 95.7),
)


def search_within(
    bench: Bench, problem: Problem, sensitivities: list[np.ndarray], plans: int
) -> dict[Choices, Measured]:
    """Plans measured on the choosing half, those within the budget of `problem`."""
    seen: dict[Choices, Measured] = {}
    for option in range(len(MENU)):
        uniform = tuple([option] * len(bench.groups))
        seen[uniform] = bench.measure(uniform)
    for _ in range(plans):
        distances = [measured.distance for measured in seen.values()]
        now = problem_of(
            bench, corrected(sensitivities, list(seen), distances), problem.budgets["weight_bytes"]
        )
        pool = [selection.choices for selection in front.solve(now).selections]
        within = [c for c in seen if now.evaluate(c).feasible]
        for best in _ranked(seen, within)[:2]:
            pool += [tuple(row) for row in neighbours(now, best).tolist()]
        rows = np.array([c for c in dict.fromkeys(pool) if c not in seen])
        totals = now.totals(rows)
        totals["sensitivity"][totals["weight_bytes"] > now.budgets["weight_bytes"]] = 2**60
        choices = tuple(int(c) for c in rows[int(totals["sensitivity"].argmin())])
        seen[choices] = bench.measure(choices)
    return {c: seen[c] for c in _ranked(seen, seen) if problem.evaluate(c).feasible}


def _ranked(seen: Mapping[Choices, Measured], of: Iterable[Choices]) -> list[Choices]:
    """The most accurate on the choosing half first, of equals the closest to float32."""
    return sorted(of, key=lambda choices: (seen[choices].loss, seen[choices].distance))


def problem_of(bench: Bench, sensitivities: list[np.ndarray], budget: float) -> Problem:
    costs = option_costs.price(bench.ledger(hwmodels.load_target("fpga_zcu104")), bench.groups)
    return costs.problem(bench.groups, sensitivities, "weight_bytes", {"weight_bytes": budget})


def shipped(bench: Bench, finish: str) -> Bench:
    """The same network and groups under a rounding that ships, that of configs/ptq/<finish>.yaml."""
    rounding = Calibration(**yaml.safe_load((CONFIGS / f"{finish}.yaml").read_text()))
    graph, calibration = bench.choose.graph, bench.choose.dataset.calibration
    if rounding.before:
        graph = apply_transforms(rounding.before, graph, calibration)
    choose, report = (replace(half, graph=graph) for half in (bench.choose, bench.report))
    builder = PlanBuilder.calibrate(graph, calibration, rounding)
    return replace(bench, choose=choose, report=report, builder=builder, rounding=rounding, _seen={})


def all_samples(bench: Bench, choices: Choices) -> tuple[float, float]:
    """(top-1, agreement with float32) over both halves."""
    parts = [bench.measurement(choices, half) for half in (bench.choose, bench.report)]
    top1 = np.concatenate([part.scores[:, 0] for part in parts])
    agreement = np.concatenate([part.agreement for part in parts if part.agreement is not None])
    return float(top1.mean()), float(agreement.mean())


def run_bar(bar: Bar, zoo: Path, store: Path, plans: int, finalists: int, finishes: list[str]) -> str:
    bench = Bench.open(bar.network, zoo, store, menu=MENU)
    sensitivities = bench.sensitivities("kl")
    uniform = tuple([list(MENU).index(f"w{bar.bits}a8")] * len(bench.groups))
    free = problem_of(bench, sensitivities, LARGE)
    size = free.evaluate(uniform).totals["weight_bytes"]
    problem = problem_of(bench, sensitivities, size)
    ranked = search_within(bench, problem, sensitivities, plans)
    found = []
    for name in finishes:
        final = shipped(bench, name)
        few = 1 if final.rounding.after else finalists  # gradients take their time
        for choices in dict.fromkeys([*list(ranked)[:few], uniform]):
            measured = final.measure(choices)
            found.append((measured.loss, measured.distance, name, choices, final))
    _, _, name, choices, final = min(found, key=lambda entry: entry[:2])
    top1, agreement = all_samples(final, choices)
    report = final.measurement(choices, final.report).scores.mean()
    same = max(all_samples(entry[4], uniform)[0] for entry in found if entry[3] == uniform)
    bits = "".join(list(MENU)[c][1] for c in choices)
    verdict = "reached" if 100 * top1 >= bar.asked else "missed"
    kib = problem.evaluate(choices).totals["weight_bytes"] / 1024
    return (
        f"| {bar.network} | {kib:.1f} of {size / 1024:.1f} | {bar.asked:.1f} | {bar.peer:.2f} | **{100 * top1:.2f}** | "
        f"{verdict} | {100 * report:.2f} | {100 * agreement:.1f} | {100 * same:.2f} | {name} | {bits} |"
    )


def main() -> None:
    """Run what is missing and print a line a bar."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--zoo", type=Path, default=SHARED / "zoo")
    parser.add_argument("--out", type=Path, default=None, help="folder for search_bars.md")
    parser.add_argument("--store", type=Path, default=Path("runs/search_bars.sqlite"))
    parser.add_argument("--networks", default="dscnn,resnet8,vww")
    parser.add_argument("--bits", default="2,3,4")
    parser.add_argument(
        "--plans", type=int, default=12, help="measured within each size, beside the uniform ones"
    )
    parser.add_argument("--finalists", type=int, default=4, help="plans that are rounded as they ship")
    parser.add_argument(
        "--finishes", default="gptq_refit,qat", help="how finalists are rounded: files of configs/ptq"
    )
    arguments = parser.parse_args()
    arguments.store.parent.mkdir(parents=True, exist_ok=True)
    lines = ["| " + " | ".join(HEADS) + " |", "| --- |" + " --- |" * (len(HEADS) - 1)]
    print("\n".join(lines), flush=True)
    wanted = arguments.networks.split(","), [int(bits) for bits in arguments.bits.split(",")]
    effort = arguments.plans, arguments.finalists, arguments.finishes.split(",")
    for bar in BARS:
        if bar.network in wanted[0] and bar.bits in wanted[1]:
            start = time.process_time()
            lines.append(run_bar(bar, arguments.zoo, arguments.store, *effort))
            print(f"{lines[-1]}  {time.process_time() - start:.0f} s", flush=True)
    if arguments.out:
        text = ["# Against public tools at equal size", "", *__doc__.strip().splitlines(), "", *lines]
        (arguments.out / "search_bars.md").write_text("\n".join(text) + "\n")


if __name__ == "__main__":
    main()
