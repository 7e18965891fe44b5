"""The cheapest plan that each method finds within a loss.

    python -m tests.benchmarks.search_table --zoo ../shared/zoo --out docs/

For networks of the zoo and three costs (LUT of fpga_zcu104, energy of asic_45nm, stored bytes): the cheapest plan
that stays within float32 - 0.5, 1, 2, 4 and 8 points (the language model: 1 to 25 % more perplexity) on the choosing
half, by the search of the main job, one format everywhere, greedy, a HAWQ-style integer program and random plans; all
with the same menu, rounding and prices. Plans are measured once and kept in a store, so a run that was stopped goes on.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"

import argparse
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

import hwmodels
from searches import front, greedy, option_costs, random
from searches.boundary import next_index
from searches.corrected import Choices, CorrectedSearch, Effort, Measured
from searches.option_costs import SENSITIVITY, OptionCosts
from searches.problem import Problem, Selection
from searches.statistics import paired_difference
from tests.benchmarks.search_networks import NETWORKS, SHARED, Bench, uniform_choices

INTRODUCTION = """For three costs (LUT of fpga_zcu104, energy in J of asic_45nm, stored bytes) the cheapest plan that
stays within a loss of top-1 (language model: a share of perplexity) on the choosing half of the evaluation data; both
halves, paired difference to float32 and agreement with it are of the other half. Same menu, prices and rounding
(GPTQ with bias correction) for every method. *alone*: the search of the main job (uniform plans, exact front of the
additive model, corrections by what was measured, single steps down). *searched*: that search once more, knowing every
plan that any method measured, so it cannot be dearer than them. greedy, HAWQ-style (Hessian trace x rounding error,
exact integer program) and random (repaired to budgets) are followed to where each loss stops being reached. Numbers of
the methods are times the searched plan's cost. Made by `python -m tests.benchmarks.search_table`."""
COSTS = {
    "LUT": ("fpga_zcu104", "lut"),
    "energy": ("asic_45nm", "energy_j"),
    "size": ("fpga_zcu104", "weight_bytes"),
}
BASELINES = ("uniform", "greedy", "HAWQ-style", "random")
METHODS = ("searched", "alone", *BASELINES)
LEVELS = 30  # budgets of the greedy and random paths, evenly spaced in the logarithm of the cost
PER_LOSS = 5  # plans that a path may measure for each loss, beyond those of other losses
RANDOM = 90  # random plans
EFFORT = Effort(plans=4, corrections=2, steps=6)  # of our search, for each cost and loss
LAST_EFFORT = Effort(plans=0, corrections=1, steps=3)  # once more, knowing what every method measured


@dataclass(eq=False)
class Race:
    """The methods on one network, each with the plans that it measured itself."""

    bench: Bench
    prices: dict[str, OptionCosts]
    sensitivities: list[np.ndarray]
    hessian: list[np.ndarray]
    seen: dict[str, dict[Choices, Measured]] = field(default_factory=lambda: {name: {} for name in METHODS})

    @classmethod
    def prepare(cls, bench: Bench) -> Race:
        prices = {
            cost: option_costs.price(
                bench.ledger(hwmodels.load_target(target)), bench.groups, conversions=True
            )
            for cost, (target, _) in COSTS.items()
        }
        return cls(bench, prices, bench.sensitivities("kl"), bench.sensitivities("hessian"))

    def problem(self, cost: str, sensitivities: Sequence[np.ndarray]) -> Problem:
        return self.prices[cost].problem(self.bench.groups, sensitivities, COSTS[cost][1], {})

    def measure(self, method: str, choices: Choices) -> Measured:
        if choices not in self.seen[method]:
            self.seen[method][choices] = self.bench.measure(choices)
        return self.seen[method][choices]

    def run(self) -> None:
        for choices in uniform_choices(self.bench):
            self.measure("uniform", choices)
        self.seen["alone"] |= self.seen["uniform"]  # the search starts from the menu, as the main job does
        for cost in COSTS:
            problem = self.problem(cost, self.sensitivities)
            self._follow("greedy", cost, _greedy_path(problem))
            self._follow("HAWQ-style", cost, front.solve(self.problem(cost, self.hessian)).selections)
            for loss in self.bench.network.losses:
                self._search("alone", cost, loss, EFFORT)
        self._random()
        for method in METHODS[1:]:
            self.seen["searched"] |= self.seen[method]
        for cost in COSTS:
            for loss in self.bench.network.losses:
                self._search("searched", cost, loss, LAST_EFFORT)

    def _search(self, method: str, cost: str, loss: float, effort: Effort) -> None:
        limit = self.bench.limit(loss)
        CorrectedSearch(
            lambda values: self.problem(cost, values),
            self.sensitivities,
            lambda choices: self.measure(method, choices),
            lambda value: value <= limit,
            self.seen[method],
            effort,
        ).run()

    def _follow(self, method: str, cost: str, path: Iterable[Selection]) -> None:
        """Measure points of a path around where each loss stops being reached."""
        objective = COSTS[cost][1]
        points = sorted({s.choices: s for s in path}.values(), key=lambda s: (s.totals[objective], s.choices))
        done: dict[int, Measured] = {}
        for loss in self.bench.network.losses:
            limit = self.bench.limit(loss)
            for _ in range(min(PER_LOSS, len(points) - len(done))):
                accepted = {index: seen.loss <= limit for index, seen in done.items()}
                index = next_index(accepted, len(points)) if done else len(points) // 2
                done[index] = self.measure(method, points[index].choices)

    def _random(self) -> None:
        """Random plans, repaired to budgets between the cheapest and the dearest."""
        for number, cost in enumerate(COSTS):
            problem = self.problem(cost, self.sensitivities)
            share = RANDOM // len(COSTS)
            for level in range(share):
                for selection in _drawn(problem, level / max(1, share - 1), seed=1000 * number + level):
                    self.measure("random", selection.choices)

    def rows(self) -> Iterable[dict[str, object]]:
        for cost in COSTS:
            problem = self.problem(cost, self.sensitivities)
            for loss in self.bench.network.losses:
                limit = self.bench.limit(loss)
                for method in METHODS:
                    reached = [c for c, seen in self.seen[method].items() if seen.loss <= limit]
                    base = {"network": self.bench.name, "cost": cost, "loss": loss, "method": method}
                    base["measured"] = len(self.seen[method])
                    if reached:
                        total = problem.totals(np.array(reached))[COSTS[cost][1]]
                        best = reached[int(np.lexsort((np.arange(len(total)), total))[0])]
                        value = problem.value(COSTS[cost][1], int(total.min()))
                        yield base | {"value": value} | self._facts(best)
                    else:
                        yield base | {"value": float("nan")}

    def _facts(self, choices: Choices) -> dict[str, object]:
        """Both halves, agreement with float32 and the paired difference of the reported one."""
        report = self.bench.report
        chosen, found = (self.bench.measurement(choices, half) for half in (self.bench.choose, report))
        value = None if report.metric.is_mean else report.metric.value
        difference = paired_difference(found.scores, report.float_scores, value)
        return {
            "choose": report.metric.value(chosen.scores),
            "report": report.metric.value(found.scores),
            "difference": difference.value,
            "difference_low95": difference.low,
            "difference_high95": difference.high,
            "agreement": float(found.agreement.mean()) if found.agreement is not None else None,
            "plan": " ".join(choice.label for _, choice in self.bench.parts(choices)),
        }


def _levels(problem: Problem) -> tuple[str, float, float]:
    cost = problem.objectives[1]
    values = problem.columns[cost].values
    low, high = sum(int(v.min()) for v in values), sum(int(v.max()) for v in values)
    return cost, float(max(low, 1)), float(high)


def _greedy_path(problem: Problem) -> list[Selection]:
    """Greedy under budgets from the cheapest to the dearest plan."""
    cost, low, high = _levels(problem)
    found: list[Selection] = []
    for level in np.geomspace(low, high, LEVELS).astype(np.int64):
        capped = problem.with_objectives(SENSITIVITY)
        found += greedy.solve(_with_budget(capped, cost, int(level))).selections
    return found


def _drawn(problem: Problem, share: float, seed: int) -> tuple[Selection, ...]:
    cost, low, high = _levels(problem)
    level = int(low * (high / low) ** share)
    return random.solve(
        _with_budget(problem.with_objectives(SENSITIVITY), cost, level), samples=1, seed=seed
    ).selections


def _with_budget(problem: Problem, cost: str, level: int) -> Problem:
    return problem.with_budgets({cost: level / problem.scale(cost)})


def saving(table: pd.DataFrame, method: str, baseline: str) -> tuple[float, int, int, int]:
    """1 - geometric mean of ours / theirs where both reach the loss; cells compared, reached by us alone, dearer."""
    wide = table.pivot_table(index=["network", "cost", "loss"], columns="method", values="value")
    ours, theirs = (wide.get(name, pd.Series(np.nan, wide.index)) for name in (method, baseline))
    both = ours.notna() & theirs.notna()
    ratio = (ours[both] / theirs[both]).to_numpy()
    mean = float(np.exp(np.log(ratio).mean())) if len(ratio) else float("nan")
    return 1 - mean, len(ratio), int((ours.notna() & theirs.isna()).sum()), int((ratio > 1 + 1e-9).sum())


def main() -> None:
    """Run what is missing and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--zoo", type=Path, default=SHARED / "zoo")
    parser.add_argument("--out", type=Path, default=Path("docs"))
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--store", type=Path, default=Path("runs/search_table.sqlite"))
    arguments = parser.parse_args()
    arguments.store.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / "search_table.csv"
    for name in arguments.networks.split(","):
        start = time.process_time()
        race = Race.prepare(Bench.open(name, arguments.zoo, arguments.store))
        race.run()
        table = pd.DataFrame(race.rows())
        if path.exists():
            old = pd.read_csv(path)
            table = pd.concat([old[old["network"] != name], table], ignore_index=True)
        table.to_csv(path, index=False)
        counts = ", ".join(f"{method} {len(seen)}" for method, seen in race.seen.items())
        print(
            f"{name}: {time.process_time() - start:.0f} s of processor; plans measured: {counts}", flush=True
        )
        (arguments.out / "search_table.md").write_text(as_text(table))
    print(as_text(pd.read_csv(path)).split("\n## Savings")[1].split("\n## ")[0])


def as_text(table: pd.DataFrame) -> str:
    """The table for people: savings, then every cell."""
    lines = ["# The cheapest plan within a loss", "", INTRODUCTION, "", "## Savings of the search", ""]
    lines += ["| against | " + " | ".join(("all", *COSTS)) + " |", "| --- |" + " --- |" * (1 + len(COSTS))]
    for method in ("searched", "alone"):
        for baseline in BASELINES:
            cells = [_saving_text(table, method, baseline)]
            cells += [_saving_text(table[table["cost"] == cost], method, baseline) for cost in COSTS]
            lines.append(f"| {method} against {baseline} | " + " | ".join(cells) + " |")
    for network in dict.fromkeys(table["network"]):
        lines += ["", f"## {network}", ""]
        lines += _cells(table[table["network"] == network])
    return "\n".join(lines) + "\n"


def _saving_text(table: pd.DataFrame, method: str, baseline: str) -> str:
    share, cells, alone, dearer = saving(table, method, baseline)
    extra = f", {alone} only here" if alone else ""
    return f"{100 * share:.1f} % ({cells} cells, dearer in {dearer}{extra})"


def _cells(table: pd.DataFrame) -> list[str]:
    """One line a cost and loss; the searched plan with both halves, the others by their cost."""
    counts = table.groupby("method")["measured"].first()
    lines = [
        "Plans measured: " + ", ".join(f"{name} {counts[name]}" for name in METHODS if name in counts) + ".",
        "",
    ]
    heads = [
        "cost",
        "loss",
        "searched",
        "choosing half",
        "other half",
        "difference there [95 %]",
        "agreement",
    ]
    lines += [
        "| " + " | ".join([*heads, *METHODS[1:]]) + " |",
        "| --- |" + " --- |" * (len(heads) + len(METHODS) - 2),
    ]
    for (cost, loss), rows in table.groupby(["cost", "loss"], sort=False):
        by_method = rows.set_index("method")
        ours = by_method.loc["searched"]
        others = [_ratio(by_method.loc[name, "value"], ours["value"]) for name in METHODS[1:]]
        facts = ["-"] * 4
        if np.isfinite(ours["value"]):
            interval = f"[{ours['difference_low95']:+.3f}, {ours['difference_high95']:+.3f}]"
            facts = [f"{ours['choose']:.4f}", f"{ours['report']:.4f}", f"{ours['difference']:+.4f} {interval}",
                     f"{100 * ours['agreement']:.1f} %"]  # fmt: skip
        lines.append(
            "| " + " | ".join([str(cost), f"{loss:g}", f"{ours['value']:.4g}", *facts, *others]) + " |"
        )
    return lines


def _ratio(value: float, ours: float) -> str:
    return "not reached" if not np.isfinite(value) else f"{value / ours:.3f}x"


if __name__ == "__main__":
    main()
