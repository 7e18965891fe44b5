"""The optimum without a solver: dominance dynamic programming, cut off by the Lagrangian bound.

A partial selection is dropped when another one dominates it or when its reduced costs already exceed what an
optimal selection can pay. All in integers, ties broken completely: the further objectives, the budgeted
costs, then the lexicographically smallest choices of the options that reduction keeps. Best with one or two
budgets and up to some hundred groups; beyond `state_limit` the integer program is the solver to use.
"""

from __future__ import annotations

import time

from qsim.errors import UserError
from searches import greedy, ilp
from searches.core import relax
from searches.dominance import frontier
from searches.problem import Problem, SearchResult
from searches.reduce import reduce


def solve(problem: Problem, *, state_limit: int = 300_000) -> SearchResult:
    """The selection that minimises the first objective within the budgets, proven optimal to the last
    integer.

    Raises UserError when the states exceed `state_limit`.
    """
    started = time.perf_counter()
    reduced = reduce(problem)
    if reduced is None:
        return ilp.solve(problem)
    inner, toll = reduced, None
    known = greedy.solve(reduced.problem)
    if known.selections:
        smaller, toll = relax(reduced.problem, known.best.totals[problem.objectives[0]])
        inner = smaller.within(reduced)
    first = problem.objectives[0]
    found = frontier(inner.problem.with_objectives(first), state_limit, toll=toll, counted=problem.priorities)
    if found is None:
        raise UserError(f"exact needs more than {state_limit} states here; ilp proves larger problems")
    if not len(found.choices):
        return ilp.solve(problem)
    selection = problem.evaluate(inner.original(found.choices[0].tolist()))
    bound = selection.totals[problem.objectives[0]]
    seconds = time.perf_counter() - started
    claim = "proven optimal by dominance dynamic programming"
    return SearchResult((selection,), "exact", "optimal", bound, 0.0, seconds, claim)
