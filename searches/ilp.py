"""Integer linear programming: the proven optimum of a problem, through PuLP.

HiGHS solves by default, the CBC that PuLP ships is the cross-check. Solvers compute in float64 with
tolerances, so they are given increments over each group's cheapest option, divided by their common divisor
and an objective scaled to about 1e6 (CBC has called a wrong plan optimal on values near 1e12); what they
return is evaluated again in exact integers, a selection that breaks a budget by less than the tolerance is
cut off and the solver asked again.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil, gcd
from typing import Any, Literal

import numpy as np
import pulp

from qsim.errors import UserError
from searches import greedy
from searches.core import core
from searches.infeasible import explain
from searches.problem import IntArray, Problem, SearchResult, Selection
from searches.reduce import Reduced, reduce

SolverName = Literal["highs", "cbc"]
OBJECTIVE_RANGE = 1e6
TOLERANCE = 1e-9  # of the solvers' bounds, relative; an objective below 1e9 is proven to the last integer
HIGHS_FEASIBLE_POINT = 2  # kSolutionStatusFeasible
ROUNDS = 50  # of cutting off selections that only a tolerance made feasible
# A good selection is known before HiGHS starts (greedy, whose objective already fixed most options), so its own
# heuristics and restarts only cost time: 0.22 s instead of 0.50 on the golden 50 x 12 with three budgets.
HIGHS_OPTIONS = {
    "mip_feasibility_tolerance": 1e-9,
    "primal_feasibility_tolerance": 1e-9,
    "random_seed": 0,
    "mip_heuristic_effort": 0.0,
    "mip_allow_restart": False,
}


def solve(
    problem: Problem,
    *,
    solver: SolverName = "highs",
    ties: bool = True,
    time_limit_s: float | None = None,
    explain_infeasible: bool = True,
) -> SearchResult:
    """The selection that minimises the first objective within the budgets, proven optimal.

    With `ties`, optima of equal objective are told apart by minimising the further objectives and then the
    budgeted costs, in order, each under the values found before; what is still tied is decided by the solver,
    which is deterministic. Infeasible: `details["infeasible"]` says which budgets conflict and by how much.
    Raises UserError for an unknown solver.
    """
    started = time.perf_counter()
    name = f"ilp/{solver}"
    reduced = reduce(problem)
    if reduced is not None:
        reduced = _to_core(reduced)
    found = None if reduced is None else minimise(reduced.problem, solver, time_limit_s)
    if reduced is None or found is None or found.status == "infeasible":
        seconds = time.perf_counter() - started
        if not explain_infeasible:
            return SearchResult(
                (), name, "infeasible", seconds=seconds, claim="no selection meets the budgets"
            )
        reason = explain(problem, lambda p: minimise(p, solver, time_limit_s))
        return SearchResult(
            (), name, "infeasible", seconds=seconds, claim=str(reason), details={"infeasible": reason}
        )
    if found.choices is None:
        return SearchResult(
            (), name, "unknown", found.bound, None, time.perf_counter() - started, "time limit"
        )
    if ties and found.status == "optimal":
        found = _break_ties(reduced.problem, found, solver, time_limit_s)
    selection = problem.evaluate(reduced.original(found.choices or ()))
    gap = None if found.bound is None else (found.objective - found.bound) / max(1, abs(found.objective))
    seconds = time.perf_counter() - started
    claim = "proven optimal" if found.status == "optimal" else "feasible, stopped by the time limit"
    return SearchResult((selection,), name, found.status, found.bound, gap, seconds, claim)


@dataclass(frozen=True)
class Found:
    """The answer to one minimisation: exact objective of `choices` and a proven lower bound, in integers."""

    status: Literal["optimal", "feasible", "infeasible", "unknown"]
    choices: tuple[int, ...] | None = None
    objective: int = 0
    bound: int | None = None


def minimise(problem: Problem, solver: SolverName = "highs", time_limit_s: float | None = None) -> Found:
    """Minimise the first objective alone: build the linear model, solve it, evaluate the answer exactly."""
    model = _Model(problem)
    best: Selection | None = None
    for _ in range(ROUNDS):
        status, bound = model.run(solver, time_limit_s)
        if status in ("infeasible", "unknown"):
            return Found(status, bound=bound)
        best = problem.evaluate(model.choices())
        if best.feasible:
            objective = best.totals[problem.objectives[0]]
            proven = status == "optimal" and (
                bound is None or objective - bound <= TOLERANCE * abs(objective)
            )
            bound = objective if proven and bound is None else bound
            return Found("optimal" if proven else "feasible", best.choices, objective, bound)
        model.forbid(best.choices)
    raise UserError(
        f"budgets {', '.join(best.excess if best else ())} are too fine for {solver}; give a coarser scale"
    )


class _Model:
    """The PuLP model of a problem: one binary per option, one row per group, budget and cut."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.lp = pulp.LpProblem("selection", pulp.LpMinimize)
        # PuLP 3.3 prepares 4.0, where the problem makes its variables; before, they made themselves.
        self.variable = getattr(self.lp, "add_variable", pulp.LpVariable)
        self.x = [
            [self.variable(f"x_{g}_{o}", cat=pulp.LpBinary) for o in range(size)]
            for g, size in enumerate(problem.sizes)
        ]
        for choices in self.x:
            self.lp += pulp.lpSum(choices) == 1
        self.pairs = self._joint_choices()
        self.offset, self.unit, objective = self._objective(problem.objectives[0])
        self.lp.setObjective(objective)
        for name, budget in problem.budgets.items():
            for terms, least in self._sums(name):
                self._limit(terms, budget - least)

    def run(self, solver: SolverName, time_limit_s: float | None) -> tuple[Any, int | None]:
        """Solve; the status and a proven lower bound of the objective in integers."""
        self.lp.solve(_backend(solver, time_limit_s))
        if self.lp.status == pulp.LpStatusInfeasible:
            return "infeasible", None
        bound, found = None, self.lp.sol_status != pulp.LpSolutionNoSolutionFound
        if solver == "highs":
            info = self.lp.solverModel.getInfo()
            found = info.primal_solution_status == HIGHS_FEASIBLE_POINT
            if np.isfinite(info.mip_dual_bound):
                value = info.mip_dual_bound * self.unit
                bound = self.offset + ceil(value - TOLERANCE * max(1e3, abs(value)))
        if not found:
            return "unknown", bound
        return ("optimal" if self.lp.sol_status == pulp.LpSolutionOptimal else "feasible"), bound

    def choices(self) -> tuple[int, ...]:
        """The options the solver chose."""
        return tuple(int(np.argmax([v.varValue or 0.0 for v in group])) for group in self.x)

    def forbid(self, choices: tuple[int, ...]) -> None:
        """Cut off one selection."""
        self.lp += pulp.lpSum(self.x[g][o] for g, o in enumerate(choices)) <= len(choices) - 1

    def _joint_choices(self) -> dict[tuple[int, int], list[list[Any]]]:
        """For every pair of groups with a counted pairwise term, y[a][b] = 1 iff the first takes a, the
        second b.

        The marginals of y are the choices: the tightest linear form (exact on chains even without
        integrality).
        """
        counted = set(self.problem.priorities)
        joint: dict[tuple[int, int], list[list[Any]]] = {}
        for term in self.problem.pairwise:
            i, j = term.first, term.second
            if term.column not in counted or (i, j) in joint:
                continue
            y = [
                [self.variable(f"y_{i}_{j}_{a}_{b}", lowBound=0) for b in range(term.values.shape[1])]
                for a in range(term.values.shape[0])
            ]
            for a, row in enumerate(y):
                self.lp += pulp.lpSum(row) == self.x[i][a]
            for b, column in enumerate(zip(*y)):
                self.lp += pulp.lpSum(column) == self.x[j][b]
            joint[i, j] = y
        return joint

    def _sums(self, name: str) -> list[tuple[list[tuple[Any, int]], int]]:
        """The sums behind a cost: ([(variable, increment over the group's least)], sum of the least)."""
        if name in self.problem.peaks:
            return [self._increments(cut) for cut in self.problem.peaks[name].cuts]
        terms, least = self._increments(dict(enumerate(self.problem.columns[name].values)))
        # Several terms on one pair are added first: PuLP keeps the last of two coefficients of a variable.
        together: dict[tuple[int, int], IntArray] = {}
        for pair in self.problem.pairwise:
            if pair.column == name:
                key = pair.first, pair.second
                together[key] = together.get(key, np.zeros_like(pair.values)) + pair.values
        for key, values in together.items():
            low = int(values.min())
            least += low
            y = self.pairs[key]
            terms += [(y[a][b], int(v) - low) for (a, b), v in np.ndenumerate(values) if v != low]
        return [(terms, least)]

    def _increments(self, shares: Mapping[int, IntArray]) -> tuple[list[tuple[Any, int]], int]:
        terms = [
            (self.x[g][o], int(value - share.min()))
            for g, share in shares.items()
            for o, value in enumerate(share)
            if value != share.min()
        ]
        return terms, sum(int(share.min()) for share in shares.values())

    def _objective(self, name: str) -> tuple[int, float, Any]:
        """(offset, unit, expression): the cost is offset + unit x expression."""
        sums = self._sums(name)
        largest = max(sum(_largest_per_group(terms)) for terms, _ in sums)
        unit = max(1, largest) / OBJECTIVE_RANGE
        if name in self.problem.columns:
            terms, least = sums[0]
            return least, unit, pulp.LpAffineExpression([(v, c / unit) for v, c in terms])
        floor = min(least for _, least in sums)
        unit = max(1, largest + max(least for _, least in sums) - floor) / OBJECTIVE_RANGE
        peak = self.variable("peak", lowBound=0)
        for terms, least in sums:
            self.lp += (
                pulp.LpAffineExpression([(v, c / unit) for v, c in terms]) + (least - floor) / unit <= peak
            )
        return floor, unit, pulp.LpAffineExpression([(peak, 1.0)])

    def _limit(self, terms: list[tuple[Any, int]], slack: int) -> None:
        """Sum of the increments <= slack, divided by what all increments have in common."""
        common = gcd(*(c for _, c in terms)) if terms else 1
        if slack < 0:  # cannot be met: an empty row that says so
            self.lp += pulp.lpSum(v for v in self.x[0]) <= 0
        elif terms:
            self.lp += pulp.LpAffineExpression([(v, c // common) for v, c in terms]) <= slack // common


def _largest_per_group(terms: list[tuple[Any, int]]) -> list[int]:
    largest: dict[str, int] = {}
    for variable, coefficient in terms:
        owner = variable.name.rsplit("_", 1 if variable.name[0] == "x" else 2)[0]
        largest[owner] = max(largest.get(owner, 0), coefficient)
    return list(largest.values()) or [0]


def _backend(solver: SolverName, time_limit_s: float | None) -> Any:
    settings = {"msg": False, "gapRel": 0.0, "gapAbs": 0.0, "threads": 1, "timeLimit": time_limit_s}
    if solver == "highs":
        return pulp.HiGHS(**settings, **HIGHS_OPTIONS)
    if solver == "cbc":
        with warnings.catch_warnings():  # PuLP 4 will ship CBC as an extra of the same name
            warnings.simplefilter("ignore", DeprecationWarning)
            return pulp.PULP_CBC_CMD(**settings)
    raise UserError(f"solver '{solver}' is unknown, it is highs or cbc")


def _to_core(reduced: Reduced) -> Reduced:
    """Without the options that no selection as good as the greedy one can hold."""
    known = greedy.solve(reduced.problem)
    if not known.selections:
        return reduced
    return core(reduced.problem, known.best.totals[reduced.problem.objectives[0]]).within(reduced)


def _break_ties(problem: Problem, found: Found, solver: SolverName, time_limit_s: float | None) -> Found:
    """Among the optima, the one with the least further objectives and budgeted costs, in order."""
    if _is_the_only_optimum(problem, found, solver, time_limit_s):
        return found
    kept = dict(problem.budgets)
    choices = found.choices or ()
    for reached, following in zip(problem.priorities, problem.priorities[1:]):
        here = problem.evaluate(choices).totals
        kept[reached] = min(here[reached], kept.get(reached, here[reached]))
        within = core(replace(problem, budgets=kept), here[problem.objectives[0]])
        tied = reduce(replace(within.problem, objectives=(following,)))
        again = None if tied is None else minimise(tied.problem, solver, time_limit_s)
        if tied is None or again is None or again.choices is None:
            break  # a tolerance or the time limit: what we have is optimal all the same
        if again.objective < here[following]:
            choices = within.original(tied.original(again.choices))
    return replace(found, choices=choices)


def _is_the_only_optimum(
    problem: Problem, found: Found, solver: SolverName, time_limit_s: float | None
) -> bool:
    """Whether no other selection reaches the objective: the usual case, and the cheapest to prove."""
    name, choices = problem.objectives[0], found.choices or ()
    if name not in problem.columns:
        return False
    within = core(problem, found.objective)
    budgets = {**problem.budgets, name: min(found.objective, problem.budgets.get(name, found.objective))}
    model = _Model(replace(within.problem, budgets=budgets))
    places = [int(np.searchsorted(kept, choice)) for kept, choice in zip(within.kept, choices, strict=True)]
    model.forbid(tuple(places))
    return bool(model.run(solver, time_limit_s)[0] == "infeasible")
