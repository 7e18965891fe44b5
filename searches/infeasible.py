"""Say why no selection meets the budgets: what each needs alone, which conflict, how far to raise them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from searches.problem import Problem

if TYPE_CHECKING:
    from searches.ilp import Found

MAX_BUDGETS_TO_DELETE = 12


@dataclass(frozen=True)
class Infeasibility:
    """Why a problem has no answer; every number in the cost's own unit.

    `least` is the smallest total each budgeted cost can reach when it is all that counts; `conflict` a set of
    budgets that cannot be met together although any one of them may be dropped (irreducible); `raise_by` one
    way to repair it: keep all budgets of the conflict but the last and raise that one by this much.
    """

    budgets: Mapping[str, float]
    least: Mapping[str, float]
    conflict: tuple[str, ...]
    raise_by: Mapping[str, float]

    def __str__(self) -> str:
        needs = [
            f"{n} <= {self.budgets[n]:.15g} (at least {self.least[n]:.15g} is possible)"
            for n in self.conflict
        ]
        raised = " or ".join(f"{n} by {by:.15g}" for n, by in self.raise_by.items())
        together = " cannot be met" if len(needs) == 1 else " cannot be met together"
        return " and ".join(needs) + together + (f"; raise {raised}" if raised else "")


def explain(problem: Problem, minimise: Callable[[Problem], Found]) -> Infeasibility:
    """The reason why `problem` is infeasible, by solving smaller problems with `minimise`."""
    names = list(problem.budgets)
    least = {}
    for name in names:
        alone = minimise(replace(problem, objectives=(name,), budgets={}))
        least[name] = alone.objective
    beyond = [name for name in names if least[name] > problem.budgets[name]]
    conflict = beyond[:1] or _irreducible(problem, names, minimise)
    raise_by = {}
    for name in conflict:
        others = {other: problem.budgets[other] for other in conflict if other != name}
        needed = minimise(replace(problem, objectives=(name,), budgets=others))
        if needed.choices is not None:
            raise_by[name] = problem.value(name, needed.objective - problem.budgets[name])
    return Infeasibility(
        {name: problem.value(name, problem.budgets[name]) for name in names},
        {name: problem.value(name, least[name]) for name in names},
        tuple(conflict),
        raise_by,
    )


def _irreducible(problem: Problem, names: list[str], minimise: Callable[[Problem], Found]) -> list[str]:
    """Drop every budget without which the rest is still infeasible (the deletion filter of Chinneck 2008, ch.
    6).
    """
    conflict = list(names)
    for name in names if len(names) <= MAX_BUDGETS_TO_DELETE else []:
        rest = {other: problem.budgets[other] for other in conflict if other != name}
        trial = replace(problem, objectives=(name,), budgets=rest)
        if rest and minimise(trial).status == "infeasible":
            conflict.remove(name)
    return conflict
