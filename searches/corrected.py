"""Solve, measure, correct, solve again: the cheapest plan that the metric accepts, on a model that learns from it.

    sensitivities -> front -> plans measured around where the metric stops accepting -> corrected sensitivities -> ...
    then single steps down from the cheapest accepted plan, the most promising under the corrected model first

Every measured plan counts, whoever asked for it, and the best one seen is kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from searches import front
from searches.boundary import next_index, spread_indices
from searches.correction import corrected
from searches.problem import Problem, SearchResult, Selection

Array = NDArray[Any]
Choices = tuple[int, ...]
Track = Callable[[Iterable[Any], str, int], Iterable[Any]]
FIRST, STEPS = "first front", "steps down"  # what `track` is told
SMALLEST_SAVING = 1e-3  # of the cost: a step down that saves less is not worth a measurement


@dataclass(frozen=True)
class Measured:
    """loss: of the metric, what acceptance looks at; distance: from float32, in units of the sensitivities."""

    loss: float
    distance: float


@dataclass(frozen=True)
class Effort:
    """How much is measured: `plans` of the fronts in all, `corrections` of the model between them, and `steps` down
    from the best plan at the end.
    """

    plans: int = 16
    corrections: int = 3
    steps: int = 8

    def rounds(self) -> list[tuple[int, str]]:
        """(plans to measure, label): half on the first front, the rest after each correction."""
        if not self.corrections:
            return [(self.plans, FIRST)]
        first = (self.plans + 1) // 2
        later = np.array_split(np.arange(self.plans - first), self.corrections)
        return [(first, FIRST), *((len(part), f"correction {i + 1}") for i, part in enumerate(later))]

    def stages(self) -> dict[str, int]:
        """Steps by the description that `track` is called with."""
        return {_stage(label): share for share, label in self.rounds()} | {STEPS: self.steps}


@dataclass(frozen=True, eq=False)
class CorrectedSearch:
    """problem_of: the additive problem under given sensitivities, its objectives (sensitivity, cost).

    measure: a selection's Measured, remembered in `known` by the caller or here. accepts: whether a loss is small
    enough.
    """

    problem_of: Callable[[Sequence[Array]], Problem]
    sensitivities: Sequence[Array]
    measure: Callable[[Choices], Measured]
    accepts: Callable[[float], bool]
    known: MutableMapping[Choices, Measured]
    effort: Effort = Effort()
    track: Track = lambda items, description, total: items

    def run(self) -> SearchResult:
        """The first front, with what it proves and what was measured in `details`."""
        started = time.perf_counter()
        first = front.solve(self.problem_of(self.sensitivities))
        if not first.selections:
            return first
        for share, label in self.effort.rounds():
            is_first = label == FIRST
            problem = self.problem_of(self.sensitivities if is_first else self._corrected())
            points = first.selections if is_first else front.solve(problem).selections
            self._walk(problem, points, share, label)
        self._descend(self.problem_of(self._corrected()) if self.effort.corrections else problem)
        details = {**first.details, "measured": len(self.known), "corrections": self.effort.corrections}
        seconds = time.perf_counter() - started
        return SearchResult(
            *(first.selections, first.solver, first.status, first.bound, first.gap, seconds, first.claim),
            details=details,
        )

    def cheapest(self, problem: Problem) -> Selection | None:
        """The accepted plan of least cost among all that were measured, within the budgets."""
        accepted = [problem.evaluate(c) for c, seen in self.known.items() if self.accepts(seen.loss)]
        cost = problem.objectives[1]
        return min(
            (s for s in accepted if s.feasible), key=lambda s: (s.totals[cost], s.choices), default=None
        )

    def _corrected(self) -> list[Array]:
        return corrected(
            self.sensitivities, list(self.known), [seen.distance for seen in self.known.values()]
        )

    def _see(self, choices: Choices) -> bool:
        if choices not in self.known:
            self.known[choices] = self.measure(choices)
        return self.accepts(self.known[choices].loss)

    def _walk(self, problem: Problem, selections: Sequence[Selection], share: int, label: str) -> None:
        """Measure `share` points: spread over the first front, else from where the model expects the boundary."""
        cost = problem.objectives[1]
        points = sorted(selections, key=lambda selection: selection.totals[cost])
        seen = {i: self._see(point.choices) for i, point in enumerate(points) if point.choices in self.known}
        queue = [self._expected_boundary(problem, points)]
        if label == FIRST:
            queue = spread_indices([problem.value(cost, p.totals[cost]) for p in points], (share + 1) // 2)
        queue = [index for index in queue if index not in seen]
        for step in self.track(range(share), _stage(label), share):
            if len(seen) == len(points):
                break
            index = queue[step] if step < len(queue) else next_index(seen, len(points))
            seen[index] = self._see(points[index].choices)

    def _expected_boundary(self, problem: Problem, points: Sequence[Selection]) -> int:
        """The cheapest point whose predicted distance is no more than where measured plans stop being accepted."""
        limit = self._distance_limit() * problem.scale(problem.objectives[0])
        within = [i for i, point in enumerate(points) if point.totals[problem.objectives[0]] <= limit]
        return within[0] if within else len(points) - 1

    def _distance_limit(self) -> float:
        """The distance that best tells accepted from rejected plans, of those measured."""
        seen = sorted((m.distance, self.accepts(m.loss)) for m in self.known.values())
        if not seen:
            return 0.0
        good = np.array([accepted for _, accepted in seen])
        wrong = np.cumsum(~good) + (good.sum() - np.cumsum(good))  # up to and with i counted as accepted
        return float(seen[int(np.argmin(wrong))][0])

    def _descend(self, problem: Problem) -> None:
        """Measured steps to cheaper plans, one or two groups at a time; the model learns from each."""
        for _ in self.track(range(self.effort.steps), STEPS, self.effort.steps):
            best = self.cheapest(problem)
            step = None if best is None else self._step(problem, best)
            if step is None:
                return
            self._see(step)
            if self.effort.corrections:
                problem = self.problem_of(self._corrected())

    def _step(self, problem: Problem, best: Selection) -> Choices | None:
        """The unmeasured neighbour of `best` with the least predicted loss for what it saves."""
        loss, cost = problem.objectives
        around = neighbours(problem, best.choices)
        totals = problem.totals(around)
        saving = best.totals[cost] - totals[cost]
        worth = saving > SMALLEST_SAVING * abs(best.totals[cost])
        for name, budget in problem.budgets.items():
            worth &= totals[name] <= budget
        rise = (totals[loss] - best.totals[loss]) / max(1, best.totals[loss])
        share = saving / max(1, abs(best.totals[cost]))
        rank = np.where(rise > 0, rise / np.maximum(share, 1e-12), rise * share)
        for index in np.lexsort((-saving, np.where(worth, rank, np.inf))):
            if not worth[index]:
                return None
            choices = tuple(int(choice) for choice in around[index])
            if choices not in self.known:
                return choices
        return None


def _stage(label: str) -> str:
    return f"measuring plans ({label})"


def neighbours(problem: Problem, choices: Choices) -> NDArray[np.int64]:
    """Every selection that differs in one group, or in one and by the next cheaper or dearer option of another."""
    here = np.array(choices)
    moves = [
        (g, option) for g, size in enumerate(problem.sizes) for option in range(size) if option != here[g]
    ]
    cost = problem.columns.get(problem.objectives[1])
    seconds = [] if cost is None else [
        (h, option) for h, values in enumerate(cost.values) for option in _next_options(values, choices[h])
    ]  # fmt: skip
    rows = np.tile(here, (len(moves) * (1 + len(seconds)), 1))
    places = iter(range(len(rows)))
    for g, option in moves:
        rows[next(places), g] = option
        for h, other in seconds:
            place = next(places)
            rows[place, h] = other
            rows[place, g] = option
    return rows


def _next_options(values: NDArray[np.int64], option: int) -> list[int]:
    """The options just cheaper and just dearer than `option`."""
    order = np.argsort(values, kind="stable")
    place = int(np.flatnonzero(order == option)[0])
    return [int(order[p]) for p in (place - 1, place + 1) if 0 <= p < len(order)]
