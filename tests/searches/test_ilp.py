"""The integer program finds the proven optimum, breaks ties by cost, and explains what is infeasible."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings

from qsim.errors import UserError
from searches import greedy, ilp
from searches.build import problem_from_layers
from searches.core import core
from searches.infeasible import Infeasibility
from searches.problem import Column, Group, Option, Pairwise, Problem, Selection
from tests.searches.instances import (
    cost_vectors,
    is_feasible,
    problems,
    quick,
    two_layer_problem,
    within_budgets,
)


def costs(problem: Problem, selection: Selection) -> tuple[int, ...]:
    return tuple(selection.totals[name] for name in problem.priorities)


@quick
@given(problems(n_objectives=2))
def test_it_finds_the_best_of_all_selections(problem: Problem) -> None:
    result = ilp.solve(problem, explain_infeasible=False)
    answers = cost_vectors(problem)
    assert result.status == ("optimal" if answers else "infeasible")
    if answers:
        assert costs(problem, result.best) == answers[0]
        assert result.best == problem.evaluate(result.best.choices)
        assert (result.bound, result.gap) == (answers[0][0], 0.0)


@settings(quick, max_examples=15)
@given(problems())
def test_cbc_agrees_with_highs(problem: Problem) -> None:
    highs = ilp.solve(problem, ties=False, explain_infeasible=False)
    cbc = ilp.solve(problem, solver="cbc", ties=False, explain_infeasible=False)
    assert highs.status == cbc.status
    if highs.selections:
        assert highs.best.totals["loss"] == cbc.best.totals["loss"]


@quick
@given(problems())
def test_a_peak_can_be_minimised(problem: Problem) -> None:
    problem = problem.with_objectives("ram")
    result = ilp.solve(problem, explain_infeasible=False)
    assert [costs(problem, s) for s in result.selections] == cost_vectors(problem)[:1]


@quick
@given(problems())
def test_the_core_keeps_every_selection_as_good_as_a_known_one(problem: Problem) -> None:
    known = greedy.solve(problem)
    if known.selections:
        ceiling = known.best.totals["loss"]
        kept = [set(options.tolist()) for options in core(problem, ceiling).kept]
        choices, totals = within_budgets(problem)
        for good in choices[totals["loss"] <= ceiling]:
            assert all(choice in options for choice, options in zip(good, kept, strict=True))


@quick
@given(problems())
def test_an_infeasible_problem_says_how_far_to_raise_a_budget(problem: Problem) -> None:
    result = ilp.solve(problem)
    if result.status != "infeasible":
        return
    reason = result.details["infeasible"]
    assert isinstance(reason, Infeasibility)
    assert reason.conflict
    for name in reason.conflict:
        rest = {other: problem.budgets[other] for other in reason.conflict if other != name}
        assert is_feasible(replace(problem, budgets=rest))
        raised = {**rest, name: problem.budgets[name] + int(reason.raise_by[name])}
        assert is_feasible(replace(problem, budgets=raised))
        assert not is_feasible(replace(problem, budgets={**raised, name: raised[name] - 1}))


def test_the_conflict_is_named_in_units() -> None:
    problem = problem_from_layers(
        ["a", "b"],
        [[Option("small"), Option("fast")]] * 2,
        {"loss": [[1, 1]] * 2, "size": [[1, 9]] * 2, "latency_s": [[0.75, 0.25]] * 2, "lut": [[3, 4]] * 2},
        objectives=("loss",),
        budgets={"lut": 8, "size": 5, "latency_s": 1},
    )
    result = ilp.solve(problem)
    assert result.claim == (
        "size <= 5 (at least 2 is possible) and latency_s <= 1 (at least 0.5 is possible) "
        "cannot be met together; raise size by 5 or latency_s by 0.5"
    )
    with pytest.raises(UserError, match="size <= 5"):
        _ = result.best


def test_an_objective_of_any_size_is_optimal_to_the_last_integer() -> None:
    random = np.random.default_rng(3)
    loss = np.sort(random.integers(0, 10**11, (16, 2)), axis=1)[:, ::-1]
    size = np.tile([4, 8], (16, 1)) * random.integers(1, 1000, (16, 1))
    problem = problem_from_layers(
        [f"l{i}" for i in range(16)], [[Option("4"), Option("8")]] * 16, {"loss": loss, "size": size},
        objectives=("loss",), budgets={"size": int(size.sum(axis=0) @ [0.5, 0.5])},
    )  # fmt: skip
    choices = (np.arange(2**16)[:, None] >> np.arange(16)) & 1
    totals = problem.totals(choices)
    best = totals["loss"][totals["size"] <= problem.budgets["size"]].min()
    assert ilp.solve(problem).best.totals["loss"] == best


def test_any_budget_is_solved_again_without_building_anew() -> None:
    problem = two_layer_problem()
    sizes = [problem.values(ilp.solve(problem.with_budgets({"size": b})).best)["size"] for b in (22, 44, 88)]
    assert sizes == [22, 44, 88]


def test_one_group_with_one_option_is_solved() -> None:
    problem = problem_from_layers(["a"], [[Option("x")]], {"loss": [[3]]}, objectives=("loss",))
    assert ilp.solve(problem).best.totals == {"loss": 3}


def test_an_unknown_solver_is_refused() -> None:
    with pytest.raises(UserError, match="solver 'gurobi' is unknown"):
        ilp.solve(two_layer_problem(), solver="gurobi")  # type: ignore[arg-type]


def test_terms_on_one_pair_add_up() -> None:
    """PuLP keeps only the last of two coefficients of one variable, so the model must add them first."""
    zeros = np.zeros(2, np.int64)
    groups = tuple(Group(name, (name,), (Option("a"), Option("b"))) for name in ("first", "second"))
    first = Pairwise(0, 1, "loss", np.array([[0, -1], [-1, 0]]))
    second = Pairwise(0, 1, "loss", np.array([[0, 0], [1, 0]]))
    problem = Problem(groups, {"loss": Column((zeros, zeros))}, ("loss",), pairwise=(first, second))
    for solver in ("highs", "cbc"):
        assert ilp.solve(problem, solver=solver).best.choices == (0, 1)
