"""Random selections, repaired into the budgets: the baseline that any method has to beat."""

from __future__ import annotations

import time

import numpy as np

from searches import greedy
from searches.dominance import undominated
from searches.moves import Moves
from searches.problem import Problem, SearchResult, Status


def solve(problem: Problem, *, samples: int = 1000, seed: int = 0) -> SearchResult:
    """The non-dominated ones, in the objectives, of `samples` random selections that meet the budgets."""
    started = time.perf_counter()
    draws = np.random.default_rng(seed).integers(0, problem.sizes, size=(samples, len(problem.sizes)))
    if problem.budgets:
        moves = Moves(problem)
        draws = np.array([greedy.repair(moves, row) for row in draws]).reshape(draws.shape)
    draws = np.unique(draws, axis=0)
    totals = problem.totals(draws)
    within = np.ones(len(draws), dtype=bool)
    for name, limit in problem.budgets.items():
        within &= totals[name] <= limit
    draws = draws[within]
    points = problem.totals(draws)
    kept = undominated(np.stack([points[name] for name in problem.objectives], axis=1))
    selections = tuple(problem.evaluate(draws[i]) for i in kept)
    seconds = time.perf_counter() - started
    status: Status = "feasible" if selections else "unknown"
    return SearchResult(
        selections, "random", status, seconds=seconds, claim=f"best of {samples} random draws"
    )
