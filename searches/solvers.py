"""Solvers by the name a config gives them: `name: nsga2` and its options, as in configs/search.

Some solve the additive model; those that measure need `evaluate`, which returns a selection's objectives (all
minimised, the first one the loss of accuracy that counts).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from importlib import import_module
from typing import Any

from qsim.errors import UserError
from searches.problem import Problem, SearchResult, Selection

ADDITIVE = ("ilp", "exact", "greedy", "random", "hawq_v3", "vdqs")
MEASURING = ("nsga2", "nsga3", "bisection")
GIVEN = ("problem", "evaluate", "seeds", "seed", "mapper")  # by the caller, not by the config
OF_THE_JOB = (
    "name",
    "budgets",
    "corrections",
    "steps",
    "conversions",
    "pairs",
)  # for the caller, not for the solver


def solve(
    name: str,
    problem: Problem,
    options: Mapping[str, Any],
    *,
    evaluate: Callable[[Selection], Sequence[float]] | None = None,
    seeds: Sequence[Selection] = (),
    seed: int = 0,
    mapper: Callable[..., Any] = map,
) -> SearchResult:
    """Run a solver with the options of its config (those of the whole job, such as `budgets`, are left to the caller).

    `ilp` gives the front when the problem has two or more objectives, else the optimum. Raises UserError for
    an unknown solver or option, and for a measuring solver without `evaluate`.
    """
    function = _find(name, problem)
    accepted = set(inspect.signature(function).parameters) - set(GIVEN)
    chosen = {key: value for key, value in options.items() if key not in OF_THE_JOB}
    for option in chosen:
        if option not in accepted:
            raise UserError(
                f"search.{option} is no option of {name}; it has {', '.join(sorted(accepted)) or 'none'}"
            )
    given = {"seeds": seeds, "seed": seed, "mapper": mapper}
    takes = inspect.signature(function).parameters
    call = partial(
        function, problem, **chosen, **{key: value for key, value in given.items() if key in takes}
    )
    if name not in MEASURING:
        return call()
    if evaluate is None:
        raise UserError(f"{name} measures selections, so it needs an evaluate function")
    if name == "bisection":
        return call(evaluate=lambda selection: -float(evaluate(selection)[0]))
    return call(evaluate=evaluate)


def _find(name: str, problem: Problem) -> Callable[..., SearchResult]:
    known = (*ADDITIVE, *MEASURING)
    if name not in known:
        close = get_close_matches(str(name), known, 1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise UserError(f"search '{name}' is unknown; {hint}there are {', '.join(known)}")
    module = "front" if name == "ilp" and len(problem.objectives) > 1 else name
    solver: Callable[..., SearchResult] = import_module(f"searches.{module}").solve
    return solver
