"""Family `search`: multiple-choice knapsacks with proven optima, complete Pareto fronts, and HAWQ-V3's
published plans.

Every number in these files is an integer, so equality is exact. An instance of any name and size is accepted
as long as it has the schema of the folder's README.md.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from searches import front, hawq_v3, ilp
from searches.build import LayerPair, problem_from_layers
from searches.problem import Option, Problem
from tests.golden.harness import Comparison, GoldenFile


def problem_of(instance: Mapping[str, Any]) -> Problem:
    """The Problem of an mckp or pareto instance, without budgets."""
    peak = instance.get("peak")
    costs = {"objective": instance["objective"], **instance["costs"]}
    return problem_from_layers(
        [layer["name"] for layer in instance["layers"]],
        [[Option(label) for label in instance["formats"]]] * len(instance["layers"]),
        {**costs, "peak": peak["mem"]} if peak else costs,
        objectives=instance.get("objectives", ("objective",)),
        groups=instance.get("groups") or (),
        cuts={"peak": peak["cuts"]} if peak else None,
        pairwise=[LayerPair(p["i"], p["j"], p["to"], p["q"]) for p in instance.get("pairwise") or ()],
    )


def check_mckp(instance: Mapping[str, Any]) -> Iterator[tuple[str, bool, str]]:
    """(what, agrees, why not) for the optimum of an instance, or for each step of a sweep."""
    problem = problem_of(instance)
    steps = (
        instance["sweep"]
        if "sweep" in instance
        else [{**instance["optimum"], "budgets": instance["budgets"]}]
    )
    for number, step in enumerate(steps):
        budgeted = replace(problem, budgets=dict(step["budgets"]))
        result = ilp.solve(budgeted, ties=False)
        what = f"{instance['name']}[{number}]"
        if result.status != step["status"]:
            yield what, False, f"status {result.status}, golden {step['status']}"
        elif step["status"] == "optimal":
            best = budgeted.evaluate(result.best.choices)
            agrees = best.feasible and best.totals["objective"] == step["objective"]
            yield (
                what,
                agrees,
                f"objective {best.totals['objective']}, golden {step['objective']}, {best.excess}",
            )
        else:
            yield what, True, ""


def check_pareto(instance: Mapping[str, Any]) -> Iterator[tuple[str, bool, str]]:
    """(what, agrees, why not) for every point of the golden front, and for points that it does not have."""
    problem = problem_of(instance)
    result = front.solve(problem)
    ours = {tuple(s.totals[name] for name in problem.objectives) for s in result.selections}
    golden = {tuple(point) for point in instance["front"]}
    for point in sorted(golden):
        yield f"{instance['name']}{list(point)}", point in ours, "missing from our front"
    for point in sorted(ours - golden):
        yield f"{instance['name']}{list(point)}", False, "not on the golden front"


def check_hawq_v3(
    published: Mapping[str, Any], layers: Sequence[Mapping[str, str]]
) -> Iterator[tuple[str, bool, str]]:
    """(what, agrees, why not) for every published plan that its authors' own budget admits."""
    names = {"latency_1e8": "latency_ms"}
    for solution in published["solutions"]:
        cost = names.get(solution["constraint"], solution["constraint"])
        problem = hawq_v3.problem_from_table(layers, published["residual_pairs"])
        result = hawq_v3.solve(problem, cost, solution["ratio"])
        options = problem.layer_options(result.best)
        bits = [int(options[layer["name"]].label.removeprefix("int")) for layer in layers]
        golden = solution["published_bits"] or solution["optimum_bits"]
        yield f"{cost} {solution['ratio']}", bits == golden, f"bits {bits}, published {golden}"


def check(path: Path) -> Iterator[tuple[str, bool, str]]:
    """Check one file of the family: (what, agrees, why not) per vector."""
    if path.suffix == ".json" and path.parent.name == "mckp":
        yield from check_mckp(json.loads(path.read_text()))
    elif path.suffix == ".json" and path.parent.name == "pareto":
        yield from check_pareto(json.loads(path.read_text()))
    elif path.suffix == ".json" and path.parent.name == "hawq_v3":
        with path.with_name(f"{path.stem}_layers.csv").open(newline="") as file:
            yield from check_hawq_v3(json.loads(path.read_text()), list(csv.DictReader(file)))


def check_file(file: GoldenFile) -> Iterator[Comparison]:
    """`check` in the form that the harness counts."""
    for what, agrees, note in check(file.path):
        yield Comparison(what, 1, differing=not agrees, note=note)


FORMS = {
    "search/mckp/*.json": check_file,
    "search/pareto/*.json": check_file,
    "search/hawq_v3/*.json": check_file,
}
# The tables of HAWQ-V3 come with its .json; README.md of the golden folder calls haq/ context.
CONTEXT = ("search/hawq_v3/*.csv", "search/haq/*")
