"""How long proofs take, one thread: python -m tests.benchmarks.search [--golden DIR]

Prints processor seconds for the proven optimum (with and without tie-breaking) and the complete front of
generated instances, and of golden ones where the folder is there. Asserts nothing.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from searches import front, ilp
from searches.build import problem_from_layers
from searches.problem import Option, Problem
from tests.golden.search import problem_of

GOLDEN = (
    Path(os.environ.get("QSIM_SHARED", Path(__file__).resolve().parents[3] / "shared")) / "golden" / "search"
)
COSTS = ("size_bits", "latency_ns", "energy_pj")


def instance(n_layers: int, n_options: int, seed: int, share: float = 0.4) -> Problem:
    """Layers of lognormal size; sensitivity falls by about 4 per bit, costs grow with bits, both with noise."""
    random = np.random.default_rng(seed)
    bits = np.linspace(2, 16, n_options)
    weights = random.lognormal(10, 1.5, (n_layers, 1))
    noise = lambda: random.uniform(0.7, 1.3, (n_layers, n_options))  # noqa: E731
    costs = {
        "loss": np.rint(
            1e3 * weights**0.5 * 4.0 ** (4 - bits) * noise() * random.lognormal(0, 1, (n_layers, 1))
        ),
        "size_bits": np.rint(weights * bits),
        "latency_ns": np.rint(weights * (bits + 4) * noise()),
        "energy_pj": np.rint(weights * bits**1.5 * noise()),
    }
    budgets = {
        name: float((1 - share) * costs[name].min(axis=1).sum() + share * costs[name].max(axis=1).sum())
        for name in COSTS
    }
    return problem_from_layers(
        [f"layer{i}" for i in range(n_layers)],
        [[Option(f"w{b:.0f}") for b in bits]] * n_layers,
        costs,
        objectives=("loss",),
        budgets=budgets,
    )


def timed(function: Callable[[], Any]) -> tuple[Any, float]:
    """The result and the processor seconds."""
    start = time.process_time()
    return function(), time.process_time() - start


def report_optimum(name: str, problem: Problem) -> None:
    """One line: proven optimum without and with tie-breaking."""
    first, seconds = timed(lambda: ilp.solve(problem, ties=False))
    _, with_ties = timed(lambda: ilp.solve(problem))
    print(
        f"{name:28} {first.status:10} gap {first.gap}  {seconds:7.2f} s, with ties {with_ties:7.2f} s",
        flush=True,
    )


def report_front(name: str, problem: Problem) -> None:
    """One line: the complete front."""
    result, seconds = timed(lambda: front.solve(problem))
    print(f"{name:28} {len(result.selections):6} points {seconds:7.2f} s  {result.claim}", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--golden", type=Path, default=GOLDEN, help="folder with mckp/ and pareto/")
    folder = parser.parse_args().golden
    for n_layers in (50, 150, 500):
        for seed in range(3):
            report_optimum(f"{n_layers} x 12, 3 budgets, #{seed}", instance(n_layers, 12, seed))
    for name in ("c3_n50", "c3_n150", "c3_n500"):
        path = folder / "mckp" / f"{name}.json"
        if path.exists():
            golden = json.loads(path.read_text())
            report_optimum(f"golden {name}", replace(problem_of(golden), budgets=golden["budgets"]))
    for path in sorted((folder / "pareto").glob("p2_large*.json")):
        report_front(f"golden {path.stem}", problem_of(json.loads(path.read_text())))
    for n_layers in (10, 20):
        problem = replace(instance(n_layers, 12, 0), budgets={})
        report_front(f"{n_layers} x 12, loss and size", problem.with_objectives("loss", "size_bits"))
    report_front(
        "8 x 12, three objectives",
        replace(instance(8, 12, 0), budgets={}).with_objectives("loss", *COSTS[:2]),
    )


if __name__ == "__main__":
    main()
