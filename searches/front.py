"""The exact Pareto front of a problem, two objectives or more.

Dominance dynamic programming gives the complete front where its states fit; otherwise epsilon-constraint:
minimise the first objective under budgets on the others. With two objectives stepping the budget just below
the last point gives the complete front too; a grid of budgets gives a part of it, every point proven
efficient.
"""

from __future__ import annotations

import itertools
import time
from dataclasses import replace
from typing import Literal

import numpy as np

from qsim.errors import UserError
from searches import ilp
from searches.dominance import frontier
from searches.problem import Problem, SearchResult, Selection
from searches.reduce import reduce

GRID_POINTS, GRID_POINTS_PER_AXIS = 64, 10
Method = Literal["auto", "dominance", "epsilon"]


def solve(
    problem: Problem,
    *,
    method: Method = "auto",
    points: int | None = None,
    state_limit: int = 300_000,
    solver: ilp.SolverName = "highs",
) -> SearchResult:
    """The front over `problem.objectives` within its budgets, sorted by the first objective.

    method: "dominance" gives every point or refuses, "epsilon" gives every point of two objectives, "auto" is
    dominance and beyond `state_limit` states a grid. A grid solves for `points` budgets per further objective
    (64 for two objectives, else 10). `claim` says what is proven: status "optimal" and `details["complete"]`
    mean that every point is there, "feasible" that each point is efficient but others may exist. Raises
    UserError for one objective.
    """
    started = time.perf_counter()
    if len(problem.objectives) < 2:
        raise UserError(f"a front needs two objectives or more, not only '{problem.objectives[0]}'")
    reduced = reduce(problem)
    if reduced is None:
        return ilp.solve(problem, solver=solver)
    found = frontier(reduced.problem, state_limit) if method in ("auto", "dominance") else None
    if found is not None:
        selections = tuple(problem.evaluate(reduced.original(choices)) for choices in found.choices)
        claim = "the complete front, proven by dominance dynamic programming"
        return _result(selections, "front/dominance", True, claim, started) or ilp.solve(
            problem, solver=solver
        )
    if method == "dominance":
        raise UserError(
            f"the front needs more than {state_limit} states: use method epsilon, or a higher state_limit"
        )
    if len(problem.objectives) == 2 and points is None and method == "epsilon":
        selections, complete = tuple(_every_point(problem, solver)), True
    else:
        per_axis = points or (GRID_POINTS if len(problem.objectives) == 2 else GRID_POINTS_PER_AXIS)
        selections, complete = tuple(_grid(problem, per_axis, solver)), False
    part = f"each of {len(selections)} points proven efficient, others may exist"
    claim = f"the complete front, {len(selections)} proven optima" if complete else part
    return _result(selections, f"front/epsilon/{solver}", complete, claim, started) or ilp.solve(
        problem, solver=solver
    )


def _result(
    selections: tuple[Selection, ...], solver: str, complete: bool, claim: str, started: float
) -> SearchResult | None:
    if not selections:
        return None
    seconds = time.perf_counter() - started
    status: Literal["optimal", "feasible"] = "optimal" if complete else "feasible"
    return SearchResult(selections, solver, status, None, 0.0, seconds, claim, details={"complete": complete})


def _every_point(problem: Problem, solver: ilp.SolverName) -> list[Selection]:
    """Two objectives: after each point ask for one that is better in the second, until there is none."""
    second = problem.objectives[1]
    found: list[Selection] = []
    budgets = dict(problem.budgets)
    while True:
        result = ilp.solve(replace(problem, budgets=budgets), solver=solver, explain_infeasible=False)
        if not result.selections:
            return found
        found.append(replace(result.best, excess={}))
        budgets[second] = result.best.totals[second] - 1


def _grid(problem: Problem, points: int, solver: ilp.SolverName) -> list[Selection]:
    """An even grid of budgets on all objectives but the first, between their values at the single optima."""
    ends = []
    for name in problem.objectives:
        order = (name, *(other for other in problem.objectives if other != name))
        result = ilp.solve(problem.with_objectives(*order), solver=solver, explain_infeasible=False)
        ends += list(result.selections)
    axes = []
    for name in problem.objectives[1:] if ends else ():
        reached = [end.totals[name] for end in ends]
        axes.append(np.unique(np.linspace(min(reached), max(reached), points).astype(np.int64)).tolist())
    found = {end.choices: end for end in ends}
    for limits in itertools.product(*axes) if ends else ():
        budgets = dict(problem.budgets)
        for name, limit in zip(problem.objectives[1:], limits):
            budgets[name] = min(limit, budgets.get(name, limit))
        result = ilp.solve(replace(problem, budgets=budgets), solver=solver, explain_infeasible=False)
        for selection in result.selections:
            found[selection.choices] = selection
    unique = {tuple(s.totals[name] for name in problem.objectives): s for s in found.values()}
    return [unique[point] for point in sorted(unique)]
