"""What pairwise terms and evolution add on a network of the zoo.

    python -m tests.benchmarks.search_study --zoo ../shared/zoo --networks dscnn

Conversions: the price of plans made with and without the cost of writing the next layer's format. Pairwise
sensitivities and corrections: how well each model ranks the whole plans that were measured. NSGA-II: what it finds with
as many measured plans as the search. Reads and extends the store of tests.benchmarks.search_table, which runs first.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

import hwmodels
from searches import front, nsga2, option_costs
from searches.build import LayerPair
from searches.corrected import Choices, Measured
from searches.correction import corrected
from searches.problem import Problem, Selection
from searches.sensitivity import measure_pairs
from tests.benchmarks.search_networks import NETWORKS, SHARED, Bench
from tests.benchmarks.search_table import COSTS, Race

ADDITIVE = 1.0  # nats: beyond, networks have collapsed


def conversions(bench: Bench, sensitivities: list[np.ndarray]) -> Iterable[str]:
    """Along the fronts with and without conversions, at equal predicted loss: what the plans really cost."""
    for cost, (target, column) in COSTS.items():
        ledger = bench.ledger(hwmodels.load_target(target))
        prices = [option_costs.price(ledger, bench.groups, conversions=flag) for flag in (True, False)]
        exact, own = (price.problem(bench.groups, sensitivities, column, {}) for price in prices)
        aware, blind = (front.solve(problem).selections for problem in (exact, own))
        real = [_points(exact, column, selections) for selections in (aware, blind)]
        error = real[1][:, 1] / _points(own, column, blind)[:, 1] - 1
        levels = np.geomspace(0.005, 0.5, 20)  # nats
        ratio = np.array(
            [np.divide(*(points[points[:, 0] <= level, 1].min() for points in real)) for level in levels]
        )
        yield (
            f"conversions, {cost}: without them prices are off by {100 * np.abs(error).mean():.1f} % on average and "
            f"{100 * np.abs(error).max():.1f} % at most; with them a plan of equal predicted loss is "
            f"{100 * (1 - ratio.mean()):.2f} % cheaper on average and {100 * (1 - ratio.min()):.1f} % at most"
        )


def _points(problem: Problem, column: str, selections: Sequence[Selection]) -> np.ndarray:
    """[selections, 2]: sensitivity and cost of selections under the prices of `problem`."""
    values = [problem.values(problem.evaluate(s.choices)) for s in selections]
    return np.array([[value["sensitivity"], value[column]] for value in values])


def rankings(bench: Bench, sensitivities: list[np.ndarray], plans: dict[Choices, Measured]) -> Iterable[str]:
    """Spearman's correlation of predicted with measured distance, over whole plans that did not collapse."""
    kept = [c for c, seen in plans.items() if 0 < seen.distance <= ADDITIVE]
    measured = np.array([plans[c].distance for c in kept])
    fisher = bench.sensitivities("fisher_output")
    samples = np.arange(min(200, bench.choose.dataset.samples))
    pairs = measure_pairs(bench.groups, bench.plan, bench.choose, samples, "fisher_output", "all")
    half = np.random.default_rng(0).permutation(len(kept))
    train, test = half[: len(half) // 2], half[len(half) // 2 :]
    learned = corrected(sensitivities, [kept[i] for i in train], [float(measured[i]) for i in train])
    models = {
        "kl, added up": _added(sensitivities, kept),
        "fisher_output, added up": _added(fisher, kept),
        "fisher_output, all pairs": _added(fisher, kept) + _paired(pairs, kept),
        "kl, corrected by the other half of the plans": _added(learned, kept),
    }
    for name, predicted in models.items():
        rank = spearmanr(predicted[test], measured[test]).statistic
        factor = np.exp(np.abs(np.log(np.maximum(predicted[test], 1e-9) / measured[test])).mean())
        yield f"model '{name}': rank correlation {rank:.3f}, off by a factor {factor:.2f} ({len(test)} plans)"


def evolution(race: Race, cost: str) -> Iterable[str]:
    """NSGA-II from the exact front, with as many measured plans as the search alone."""
    bench = race.bench
    problem = race.problem(cost, race.sensitivities)
    column = COSTS[cost][1]
    budget = len(race.seen["alone"])
    found: dict[Choices, Measured] = {}

    def evaluate(selection: Selection) -> tuple[float, float]:
        seen = found[selection.choices] = bench.measure(selection.choices)
        return seen.loss, problem.value(column, selection.totals[column])

    population = max(8, budget // 6)
    result = nsga2.solve(
        problem, evaluate, seeds=front.solve(problem).selections, population=population, generations=6
    )
    gap = result.details["gap"]
    cells = []
    for loss in bench.network.losses:
        ours, theirs = (
            _cheapest(problem, column, seen, bench.limit(loss)) for seen in (race.seen["alone"], found)
        )
        cells.append(f"{loss:g}: {theirs / ours:.3f}x")
    yield (
        f"nsga2, {cost}: {len(found)} plans measured ({budget} by the search for all costs); its cheapest plan beside "
        f"ours within each loss: {', '.join(cells)}; hypervolume {result.history[-1] / result.history[0] - 1:+.1%}, "
        f"additive gap {gap.mean:.1%}"
    )


def _cheapest(problem: Problem, column: str, seen: dict[Choices, Measured], limit: float) -> float:
    reached = [c for c, m in seen.items() if m.loss <= limit]
    return float(problem.totals(np.array(reached))[column].min()) if reached else float("nan")


def _added(sensitivities: Sequence[np.ndarray], plans: Sequence[Choices]) -> np.ndarray:
    return np.array([sum(v[c] for v, c in zip(sensitivities, plan, strict=True)) for plan in plans])


def _paired(pairs: Sequence[LayerPair], plans: Sequence[Choices]) -> np.ndarray:
    return np.array([sum(float(p.values[c[p.first], c[p.second]]) for p in pairs) for c in plans])


def main() -> None:
    """Print the study."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--zoo", type=Path, default=SHARED / "zoo")
    parser.add_argument("--networks", default="dscnn", help=f"of {', '.join(NETWORKS)}")
    parser.add_argument("--store", type=Path, default=Path("runs/search_table.sqlite"))
    arguments = parser.parse_args()
    for name in arguments.networks.split(","):
        race = Race.prepare(Bench.open(name, arguments.zoo, arguments.store))
        race.run()
        print(f"# {name}", flush=True)
        for line in conversions(race.bench, race.sensitivities):
            print(line, flush=True)
        for cost in ("size",):
            for line in evolution(race, cost):
                print(line, flush=True)
        for line in rankings(race.bench, race.sensitivities, race.seen["searched"]):
            print(line, flush=True)


if __name__ == "__main__":
    main()
