"""What NSGA-II and NSGA-III share: selections as integer genes, repair, measured objectives, progress.

Evolution is for objectives that do not add up over layers, such as measured accuracy. It starts from given
selections (the exact front of the additive model), and says how far from that front its answer is on the
additive model.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymoo.core.algorithm import Algorithm
from pymoo.core.crossover import Crossover
from pymoo.core.mutation import Mutation
from pymoo.core.problem import Problem as PymooProblem
from pymoo.core.repair import Repair
from pymoo.optimize import minimize

from qsim.errors import UserError
from searches import greedy
from searches.dominance import undominated
from searches.moves import Moves
from searches.problem import IntArray, Problem, SearchResult, Selection
from searches.statistics import hypervolume

Evaluate = Callable[[Selection], Sequence[float]]
Mapper = Callable[[Callable[[Selection], Any], Iterable[Selection]], Iterable[Any]]
STEP_SHARE = 0.7  # of mutations go to a neighbouring option (menus are ordered by cost), the rest anywhere


@dataclass(frozen=True)
class AdditiveGap:
    """How much dearer selections are than the exact front on the additive model, 0 = on the front.

    mean, worst: (first objective - best on the front with no more of the others) / that best, over the
    selections. hypervolume: 1 - share of the front's hypervolume that the selections reach.
    """

    mean: float
    worst: float
    hypervolume: float


def evolve(
    algorithm: Callable[..., Algorithm],
    name: str,
    problem: Problem,
    evaluate: Evaluate,
    *,
    seeds: Sequence[Selection] = (),
    population: int = 40,
    generations: int = 20,
    seed: int = 0,
    mapper: Mapper = map,
) -> SearchResult:
    """Run a pymoo algorithm; the non-dominated selections among all that were measured.

    `evaluate(selection)` returns the objectives, all minimised; each selection is evaluated once. `mapper`
    may evaluate a generation in parallel. `history` is the hypervolume after every generation (reference
    point: the worst value seen in the first), `details["objectives"]` the measured objectives of the
    selections, `details["evaluations"]` how many were measured, `details["gap"]` the AdditiveGap to the
    seeds.
    """
    if population < 2 or generations < 1:
        raise UserError(
            f"{name} needs a population of 2 or more and a generation, not {population} and {generations}"
        )
    started = time.perf_counter()
    measured = _Measured(problem, evaluate, mapper)
    first = _initial(problem, seeds, population, np.random.default_rng(seed))
    n_objectives = measured(first[:1]).shape[1]
    fronts: list[NDArray[np.float64]] = []
    minimize(
        _Genes(problem, measured, n_objectives),
        algorithm(
            pop_size=len(first), sampling=first, crossover=_Uniform(), mutation=_Step(problem),
            repair=_ToBudgets(problem), eliminate_duplicates=True,
        ),
        ("n_gen", generations), seed=seed, verbose=False,
        callback=lambda state: fronts.append(measured.feasible_objectives()),
    )  # fmt: skip
    selections, objectives = measured.front()
    details = {
        "objectives": tuple(map(tuple, objectives.tolist())),
        "evaluations": len(measured.known),
        "gap": additive_gap(problem, selections, seeds) if seeds and selections else None,
    }
    return SearchResult(
        tuple(selections), name, "feasible" if selections else "unknown", None, None,
        time.perf_counter() - started, "measured, nothing proven", _curve(fronts), details,
    )  # fmt: skip


def progress_sentences(result: SearchResult) -> tuple[str, ...]:
    """What an evolution reached, in words: its hypervolume curve and its gap to the exact additive front."""
    gap = result.details.get("gap")
    if not isinstance(gap, AdditiveGap) or not result.history:
        return ()
    curve = result.history
    grown = f"{curve[-1] / curve[0] - 1:+.1%}" if curve[0] else "from nothing"
    return (
        f"{result.solver}: hypervolume {grown} over {len(curve)} generations, "
        f"{result.details['evaluations']} plans measured",
        f"{result.solver}: on the additive model {gap.mean:.1%} above the exact front on average, "
        f"{gap.worst:.1%} at worst, {gap.hypervolume:.1%} of its hypervolume missed",
    )


def additive_gap(
    problem: Problem, selections: Sequence[Selection], exact: Sequence[Selection]
) -> AdditiveGap:
    """Compare selections with the exact front of `problem.objectives`."""
    names = problem.objectives
    front = np.array([[s.totals[name] for name in names] for s in exact], dtype=np.int64)
    found = np.array([[s.totals[name] for name in names] for s in selections], dtype=np.int64)
    excess = []
    for point in found:
        rivals = front[(front[:, 1:] <= point[1:]).all(axis=1), 0]
        if len(rivals):
            excess.append((int(point[0]) - int(rivals.min())) / max(1, abs(int(rivals.min()))))
    corner = [max(int(front[:, i].max()), int(found[:, i].max())) + 1 for i in range(len(names))]
    reached = hypervolume(found, corner) / hypervolume(front, corner)
    return AdditiveGap(float(np.mean(excess or [0.0])), max(excess, default=0.0), 1.0 - reached)


class _Measured:
    """Every selection measured so far, each once."""

    def __init__(self, problem: Problem, evaluate: Evaluate, mapper: Mapper) -> None:
        self.problem, self.evaluate, self.mapper = problem, evaluate, mapper
        self.known: dict[tuple[int, ...], tuple[Selection, NDArray[np.float64]]] = {}

    def __call__(self, rows: IntArray) -> NDArray[np.float64]:
        keys = [tuple(int(choice) for choice in row) for row in rows]
        new = [self.problem.evaluate(key) for key in dict.fromkeys(keys) if key not in self.known]
        for selection, values in zip(new, self.mapper(self.evaluate, new)):
            objectives = np.asarray(values, dtype=np.float64).reshape(-1)
            # NaN compares false with everything and would look undominated.
            self.known[selection.choices] = selection, np.where(np.isnan(objectives), np.inf, objectives)
        return np.array([self.known[key][1] for key in keys])

    def feasible_objectives(self) -> NDArray[np.float64]:
        return np.array([objectives for selection, objectives in self.known.values() if selection.feasible])

    def front(self) -> tuple[list[Selection], NDArray[np.float64]]:
        ordered = sorted(self.known.values(), key=lambda entry: self.problem.rank(entry[0]))
        feasible = [(s, values) for s, values in ordered if s.feasible and np.isfinite(values).all()]
        if not feasible:
            return [], np.zeros((0, 0))
        # Dense ranks keep the order of each objective and let the integer code compare floats.
        table = np.array([values for _, values in feasible])
        ranks = np.stack([np.unique(column, return_inverse=True)[1] for column in table.T], axis=1)
        kept = undominated(ranks.astype(np.int64))
        return [feasible[i][0] for i in kept], table[kept]


class _Genes(PymooProblem):
    """pymoo's view: one integer per group; a constraint per budget that repair could not reach."""

    def __init__(self, problem: Problem, measured: _Measured, n_objectives: int) -> None:
        self.selections, self.measured = problem, measured
        upper = np.array(problem.sizes) - 1
        super().__init__(len(upper), n_objectives, n_ieq_constr=1, xl=0 * upper, xu=upper, vtype=int)

    def _evaluate(self, x: IntArray, out: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        values = self.measured(x)
        failed: NDArray[np.bool_] = ~np.all(np.isfinite(values), axis=1, keepdims=True)
        out["G"] = _over_budget(self.selections, x)[:, None] + failed
        out["F"] = np.where(failed, 0.0, values)


class _ToBudgets(Repair):
    def __init__(self, problem: Problem) -> None:
        super().__init__(vtype=int)
        self.moves = Moves(problem)

    def _do(self, problem: Any, x: IntArray, **kwargs: Any) -> IntArray:
        return np.array([greedy.repair(self.moves, row) for row in x])


class _Uniform(Crossover):
    """Each gene from either parent."""

    def __init__(self) -> None:
        super().__init__(2, 2, prob=0.9)

    def _do(self, problem: Any, x: IntArray, *args: Any, random_state: Any = None, **kwargs: Any) -> IntArray:
        swap = random_state.random(x.shape[1:]) < 0.5
        return np.stack([np.where(swap, x[1], x[0]), np.where(swap, x[0], x[1])])


class _Step(Mutation):
    """On average one gene moves, mostly to a neighbouring option."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(prob=1.0)
        self.sizes = np.array(problem.sizes)

    def _do(self, problem: Any, x: IntArray, *args: Any, random_state: Any = None, **kwargs: Any) -> IntArray:
        moves = random_state.random(x.shape) < 1.0 / x.shape[1]
        near = x + random_state.choice([-1, 1], size=x.shape)
        anywhere = random_state.integers(0, self.sizes, size=x.shape)
        target = np.where(random_state.random(x.shape) < STEP_SHARE, near, anywhere)
        return np.where(moves, np.clip(target, 0, self.sizes - 1), x)


def _initial(
    problem: Problem, seeds: Sequence[Selection], population: int, random: np.random.Generator
) -> IntArray:
    """Distinct repaired selections: the seeds (thinned to the population), their mutants, random ones."""
    moves = Moves(problem)
    rows = {
        tuple(greedy.repair(moves, np.array(s.choices)).tolist()): None for s in _thinned(seeds, population)
    }
    starts = list(rows)
    for attempt in range(20 * population):
        if len(rows) >= min(population, problem.n_selections):
            break
        row = random.integers(0, problem.sizes)
        if starts and attempt % 2:
            keep = random.random(len(row)) < 0.9
            row = np.where(keep, starts[random.integers(len(starts))], row)
        rows[tuple(greedy.repair(moves, row).tolist())] = None
    return np.array(list(rows), dtype=np.int64)


def _thinned(seeds: Sequence[Selection], count: int) -> list[Selection]:
    """At most `count` of the seeds, evenly spread, the ends among them."""
    places = np.linspace(0, len(seeds) - 1, min(len(seeds), count)).astype(int).tolist()
    return [seeds[place] for place in dict.fromkeys(places)]


def _over_budget(problem: Problem, choices: IntArray) -> NDArray[np.float64]:
    """How far each row of choices [n, groups] is over the budgets, as shares of them, added up."""
    totals = problem.totals(choices)
    over = np.zeros(len(choices))
    for name, budget in problem.budgets.items():
        over += np.maximum(0, totals[name] - budget) / max(1, abs(budget))
    return over


def _curve(fronts: list[NDArray[np.float64]]) -> tuple[float, ...]:
    """Hypervolume of everything measured, after each generation."""
    filled = [front[np.isfinite(front).all(axis=1)] for front in fronts if len(front)]
    if not filled or not len(filled[0]):
        return ()
    corner = filled[0].max(axis=0)
    corner = corner + 1e-9 * np.maximum(1.0, np.abs(corner))
    return tuple(float(hypervolume(front, corner.tolist())) for front in filled)
