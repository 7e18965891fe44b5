"""Bisection on an accuracy target (Schaefer et al. 2023, "Augmenting Hessians with inter-layer
dependencies").

Groups are ordered by sensitivity. For each step of the menu, from dearest to cheapest, a bisection finds how
many of the least sensitive groups can take that step before the measured accuracy falls below the target:
about log2(groups) evaluations for each step, under the assumption that accuracy falls with every further
group.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from searches.problem import Problem, SearchResult, Selection


def solve(
    problem: Problem, evaluate: Callable[[Selection], float], target: float, *, cost: str | None = None
) -> SearchResult:
    """The cheapest selection seen whose `evaluate(selection)` (higher is better) reaches `target`.

    `cost` orders each group's options (default: the first budgeted cost, else the second objective, else the
    first); the first objective is the sensitivity. `history` holds every evaluation in order. "unknown": not
    even the dearest selection reaches the target. Budgets are not asked.
    """
    started = time.perf_counter()
    by = cost or next(iter((*problem.budgets, *problem.objectives[1:], *problem.objectives)))
    ladders = [np.argsort(-values, kind="stable") for values in problem.columns[by].values]
    sensitivity = problem.columns[problem.objectives[0]].values
    order = np.argsort(
        [int(values[ladder[-1]]) for values, ladder in zip(sensitivity, ladders)], kind="stable"
    )
    history: list[float] = []

    def measure(steps: np.ndarray[tuple[int], np.dtype[np.int64]]) -> tuple[bool, Selection]:
        selection = problem.evaluate([int(ladder[step]) for ladder, step in zip(ladders, steps)])
        history.append(float(evaluate(selection)))
        return history[-1] >= target, selection

    steps = np.zeros(len(ladders), dtype=np.int64)
    reached, best = measure(steps)
    for step in range(1, max(problem.sizes)) if reached else ():
        low, high = 0, len(order)
        while low < high:
            middle = (low + high + 1) // 2
            trial = steps.copy()
            for g in order[:middle]:
                trial[g] = min(step, problem.sizes[g] - 1)
            reached, selection = measure(trial)
            if reached:
                low, accepted = middle, trial
                best = min(best, selection, key=lambda s: (s.totals[by], s.choices))
            else:
                high = middle - 1
        if low == 0:
            break
        steps, order = accepted, order[:low]
    seconds = time.perf_counter() - started
    claim = f"measured with {len(history)} evaluations, nothing proven"
    if history[0] < target:
        return SearchResult((), "bisection", "unknown", None, None, seconds, claim, tuple(history))
    return SearchResult((best,), "bisection", "feasible", None, None, seconds, claim, tuple(history))
