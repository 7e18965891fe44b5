"""Family `search`: multiple-choice knapsacks with proven optima, complete Pareto fronts, HAWQ-V3's published
plans.

Every number in these files is an integer, so equality is exact. An instance of any name and size is accepted
as long as it has the schema of the folder's README.md; a key that is not in it fails the run.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from searches import front, hawq_v3, ilp
from searches.baselines import uniform
from searches.build import LayerPair, problem_from_layers
from searches.problem import Option, Problem
from searches.statistics import hypervolume
from tests.golden.harness import Comparison, GoldenFile, compare

KEYS = set(
    "name seed kind sense layers formats objective costs groups peak pairwise budgets optimum sweep "
    "objectives front multiplicity witness n_configs ref_point hypervolume proven_by".split()
)


def read_instance(file: GoldenFile) -> dict[str, Any]:
    """The JSON of an mckp or pareto file; raises LookupError for what the schema does not have."""
    instance: dict[str, Any] = json.loads(file.path.read_text())
    if unknown := set(instance) - KEYS:
        raise LookupError(f"{file.name}: no family module knows the keys {', '.join(sorted(unknown))}")
    if instance.get("sense", "minimise") != "minimise":
        raise LookupError(f"{file.name}: no family module knows the sense {instance['sense']}")
    return instance


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
        pairwise=[
            LayerPair(p["i"], p["j"], p["to"], np.array(p["q"])) for p in instance.get("pairwise") or ()
        ],
    )


def choices_of(problem: Problem, instance: Mapping[str, Any], formats: Sequence[int]) -> list[int]:
    """One choice a group from one format a layer."""
    place = {layer["name"]: i for i, layer in enumerate(instance["layers"])}
    return [formats[place[group.layers[0]]] for group in problem.groups]


def check_mckp(file: GoldenFile) -> Iterator[Comparison]:
    """Status, objective, feasibility of our optimum, and the cost of the golden selection; every step of a
    sweep.
    """
    instance = read_instance(file)
    problem = problem_of(instance)
    steps = (
        instance["sweep"]
        if "sweep" in instance
        else [{**instance["optimum"], "budgets": instance["budgets"]}]
    )
    for number, step in enumerate(steps):
        budgeted = replace(problem, budgets=dict(step["budgets"]))
        result = ilp.solve(budgeted)
        yield compare(f"status[{number}]", result.status, step["status"])
        if step["status"] != "optimal" or not result.selections:
            continue
        best = budgeted.evaluate(result.best.choices)
        yield compare(f"objective[{number}]", best.totals["objective"], step["objective"])
        yield compare(f"over budget[{number}]", len(best.excess), 0)
        theirs = budgeted.evaluate(choices_of(problem, instance, step["selection"]))
        golden = {"objective": step["objective"], **(step.get("totals") or {})}
        yield compare(f"totals[{number}]", [theirs.totals[name] for name in golden], list(golden.values()))


def check_pareto(file: GoldenFile) -> Iterator[Comparison]:
    """The complete front, point by point, its hypervolume, and the cost of the golden witnesses."""
    instance = read_instance(file)
    problem = problem_of(instance)
    ours = [[s.totals[name] for name in problem.objectives] for s in front.solve(problem).selections]
    golden = instance["front"]
    if len(ours) == len(golden):
        yield compare("front", ours, sorted(golden))  # one file of the shared folder is in another order
    else:
        note = f"our front has {len(ours)} points, the golden one {len(golden)}"
        yield Comparison("front", len(golden), differing=len(golden), note=note)
    yield compare(
        "hypervolume", hypervolume(ours, instance["ref_point"]) == int(instance["hypervolume"]), True
    )
    witnesses = instance["witness"]
    pairs = witnesses.items() if isinstance(witnesses, dict) else enumerate(witnesses)
    for index, formats in pairs:
        totals = problem.evaluate(choices_of(problem, instance, formats)).totals
        yield compare(f"witness[{index}]", [totals[name] for name in problem.objectives], golden[int(index)])


def check_hawq_v3(file: GoldenFile) -> Iterator[Comparison]:
    """Layer table -> integer program -> the published bits (the proven optimum where the paper's plan is not
    it).
    """
    published = json.loads(file.path.read_text())
    with file.path.with_name(f"{file.path.stem}_layers.csv").open(newline="") as table:
        layers = list(csv.DictReader(table))
    problem = hawq_v3.problem_from_table(layers, published["residual_pairs"])
    costs = {"latency_1e8": "latency_ms"}
    for solution in published["solutions"]:
        cost, ratio = costs.get(solution["constraint"], solution["constraint"]), solution["ratio"]
        best = hawq_v3.solve(problem, cost, ratio).best
        options = problem.layer_options(best)
        bits = [int(options[layer["name"]].label.removeprefix("int")) for layer in layers]
        is_optimum = solution.get("published_bits") and solution["hamming_to_optimum"] == 0
        golden = solution["published_bits"] if is_optimum else solution["optimum_bits"]
        yield compare(f"budget {cost} {ratio}", hawq_v3.budget(problem, cost, ratio), solution["budget"])
        yield compare(f"bits {cost} {ratio}", bits, golden)
        yield compare(
            f"sensitivity {cost} {ratio}", best.totals["sensitivity"], solution["optimum_objective_scaled"]
        )


def check_haq(file: GoldenFile) -> Iterator[Comparison]:
    """A cost table over (weight bits, activation bits): the totals of the 64 uniform selections."""
    table = np.load(file.path, allow_pickle=False)
    n_layers, n_weights, n_activations = table.shape
    options = [Option(f"w{w + 1}a{a + 1}") for w in range(n_weights) for a in range(n_activations)]
    problem = problem_from_layers(
        [f"layer{i}" for i in range(n_layers)], [options] * n_layers, {"latency": list(table.reshape(n_layers,
        -1))}, objectives=("latency",),
    )  # fmt: skip
    totals = [selection.totals["latency"] for selection in uniform(problem).values()]
    yield compare("uniform totals", np.reshape(totals, (n_weights, n_activations)), table.sum(axis=0))


FORMS = {
    "search/mckp/*.json": check_mckp,
    "search/pareto/*.json": check_pareto,
    "search/hawq_v3/*.json": check_hawq_v3,
    "search/haq/*.npy": check_haq,
}
CONTEXT = ("search/hawq_v3/*.csv",)
