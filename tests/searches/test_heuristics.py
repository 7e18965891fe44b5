"""Heuristics keep the budgets, never beat the proven optimum, and give the same answer every time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given

import searches.random
from qsim.errors import UserError
from searches import bisection, greedy, hawq_v3, vdqs
from searches.build import problem_from_layers
from searches.moves import Moves
from searches.problem import Option, Problem, SearchResult
from tests.searches.instances import cost_vectors, problems, quick, two_layer_problem

SOLVERS: dict[str, Callable[[Problem], SearchResult]] = {
    "greedy": greedy.solve,
    "random": lambda problem: searches.random.solve(problem, samples=50),
    "vdqs": lambda problem: vdqs.solve(problem, entropy_loss="loss", compute="lut"),
}


@pytest.mark.parametrize("name", SOLVERS)
@quick
@given(problem=problems())
def test_a_heuristic_keeps_the_budgets_and_claims_nothing(name: str, problem: Problem) -> None:
    result = SOLVERS[name](problem)
    answers = cost_vectors(problem)
    assert result.status == ("feasible" if result.selections else "unknown")
    assert result.bound is None
    for selection in result.selections:
        assert selection == problem.evaluate(selection.choices)
        assert selection.feasible
        assert selection.totals["loss"] >= answers[0][0]
    assert SOLVERS[name](problem).selections == result.selections


@quick
@given(problems())
def test_the_outcome_of_every_move_is_what_it_says(problem: Problem) -> None:
    moves = Moves(problem)
    current = np.random.default_rng(0).integers(0, problem.sizes)
    outcome = moves.outcome(current)
    for i, (group, option) in enumerate(zip(moves.group, moves.option, strict=True)):
        after = current.copy()
        after[group] = option
        selection = problem.evaluate(after)
        assert outcome.objective[i] == selection.totals["loss"]
        assert (outcome.excess[i] == 0) == selection.feasible


def test_greedy_ends_where_lowering_one_cost_raises_another() -> None:
    problem = problem_from_layers(
        ["a", "b"],
        [[Option("x"), Option("y"), Option("z")]] * 2,
        {"loss": [[0, 1, 9]] * 2, "size": [[9, 1, 4]] * 2, "lut": [[1, 9, 4]] * 2},
        objectives=("loss",),
        budgets={"size": 8, "lut": 8},
    )
    assert greedy.solve(problem).best.choices == (2, 2)


def test_vdqs_weighs_entropy_against_computation() -> None:
    problem = two_layer_problem(size=44)
    assert vdqs.solve(problem, entropy_loss="loss", compute="size", weight=0).best.choices == (0, 0)
    assert vdqs.solve(problem, entropy_loss="loss", compute="size", weight=1).best.totals["size"] <= 44
    with pytest.raises(UserError, match="weight is 2"):
        vdqs.solve(problem, entropy_loss="loss", compute="size", weight=2)
    with pytest.raises(UserError, match="vdqs needs the total 'entropy'"):
        vdqs.solve(problem, entropy_loss="entropy", compute="size")


def test_bisection_finds_the_last_group_that_keeps_the_target() -> None:
    layers = 32
    loss = [[0, i + 1] for i in range(layers)]
    problem = problem_from_layers(
        [f"l{i}" for i in range(layers)],
        [[Option("w8"), Option("w4")]] * layers,
        {"loss": loss, "size": [[8, 4]] * layers},
        objectives=("loss", "size"),
    )
    result = bisection.solve(problem, lambda s: -s.totals["loss"], target=-100)
    assert result.best.totals["loss"] == 91  # 1 + 2 + ... + 13; one more would be 105
    assert result.best.choices == (1,) * 13 + (0,) * 19
    assert len(result.history) <= 1 + 6


def test_bisection_says_when_the_target_is_out_of_reach() -> None:
    result = bisection.solve(two_layer_problem(), lambda s: 0.5, target=0.9, cost="size")
    assert (result.status, result.selections, result.history) == ("unknown", (), (0.5,))


def test_hawq_sets_its_budget_between_the_uniform_selections() -> None:
    problem = two_layer_problem()
    assert [hawq_v3.budget(problem, "size", r) for r in (0, 0.5, 1)] == [22, 55, 88]
    result = hawq_v3.solve(problem, "size", 0.5)
    assert (result.best.totals["size"], result.gap) == (48, 0)
    with pytest.raises(UserError, match="lies between 0"):
        hawq_v3.budget(problem, "size", 25)
