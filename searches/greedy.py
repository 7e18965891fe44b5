"""Greedy: from the best selection without budgets, the cheapest step towards the budgets, again and again.

A step changes one group. While a budget is broken the step must lower the excess, and the one that costs the
least first objective per unit of excess is taken; once within the budgets, steps that improve the objective
are. Excess and objective fall strictly, so it ends (the naive rule cycles with more than one budget).
"""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from searches.moves import Moves
from searches.problem import IntArray, Problem, SearchResult

SMALLEST_GAIN = 1e-12  # of the excess: below it is rounding of the shares


def solve(problem: Problem) -> SearchResult:
    """A feasible selection, nothing proven; status "unknown" when the steps end outside the budgets."""
    started = time.perf_counter()
    name, moves = problem.objectives[0], Moves(problem)
    start = np.zeros(len(problem.groups), dtype=np.int64)
    if name in problem.columns:
        start = np.array([int(values.argmin()) for values in problem.columns[name].values])
    selection = problem.evaluate(improve(moves, repair(moves, start)))
    if not selection.feasible:  # stuck between budgets: once more from the other side
        selection = problem.evaluate(improve(moves, repair(moves, moves.cheapest())))
    seconds = time.perf_counter() - started
    if not selection.feasible:
        return SearchResult(
            (), "greedy", "unknown", seconds=seconds, claim="the steps ended outside the budgets"
        )
    return SearchResult((selection,), "greedy", "feasible", seconds=seconds, claim="nothing is proven")


def repair(moves: Moves, choices: NDArray[np.integer]) -> IntArray:
    """Steps from `choices` towards the budgets, until they are met or no single change lowers the excess."""
    current = np.array(choices, dtype=np.int64)
    while True:
        objective, excess = moves.outcome(current)
        stay = moves.start[0] + current[0]
        gain = excess[stay] - excess
        helpful = np.flatnonzero(gain > SMALLEST_GAIN)
        if not len(helpful):
            return current
        price = (objective[helpful] - objective[stay]) / gain[helpful]
        best = helpful[np.lexsort((-gain[helpful], price))[0]]
        current[moves.group[best]] = moves.option[best]


def improve(moves: Moves, choices: NDArray[np.integer]) -> IntArray:
    """The best single change of the first objective within the budgets, until there is none."""
    current = np.array(choices, dtype=np.int64)
    while True:
        objective, excess = moves.outcome(current)
        stay = moves.start[0] + current[0]
        better = np.flatnonzero((excess == 0) & (objective < objective[stay]))
        if excess[stay] > 0 or not len(better):
            return current
        best = better[objective[better].argmin()]
        current[moves.group[best]] = moves.option[best]
