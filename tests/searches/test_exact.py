"""The dominance programme finds the optimum with every tie broken, and agrees with the integer program."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

from qsim.errors import UserError
from searches import exact, ilp
from searches.build import problem_from_layers
from searches.problem import Option, Problem
from tests.searches.instances import cost_vectors, problems, quick


@quick
@given(problems(n_objectives=2))
def test_it_finds_the_best_of_all_selections(problem: Problem) -> None:
    result = exact.solve(problem)
    answers = cost_vectors(problem)
    assert result.status == ("optimal" if answers else "infeasible")
    ours = [tuple(s.totals[name] for name in problem.priorities) for s in result.selections]
    assert ours == answers[:1]


@pytest.mark.parametrize("seed", range(3))
def test_it_agrees_with_the_integer_program_on_forty_layers(seed: int) -> None:
    random = np.random.default_rng(seed)
    loss = np.sort(random.integers(0, 10**6, (40, 8)), axis=1)[:, ::-1]
    size = np.sort(random.integers(0, 10**6, (40, 8)), axis=1)
    problem = problem_from_layers(
        [f"l{i}" for i in range(40)], [[Option(str(o)) for o in range(8)]] * 40, {"loss": loss, "size": size},
        objectives=("loss",), budgets={"size": int(size.sum() / 20)},
    )  # fmt: skip
    assert exact.solve(problem).best.totals == ilp.solve(problem).best.totals


def test_of_equal_selections_the_lexicographically_smallest() -> None:
    problem = problem_from_layers(
        ["a", "b", "c"],
        [[Option("x"), Option("y")]] * 3,
        {"loss": [[1, 0]] * 3, "size": [[0, 1]] * 3},
        objectives=("loss",),
        budgets={"size": 1},
    )
    assert exact.solve(problem).best.choices == (0, 0, 1)


def test_too_many_states_are_refused() -> None:
    random = np.random.default_rng(0)
    problem = problem_from_layers(
        [f"l{i}" for i in range(20)], [[Option("x"), Option("y")]] * 20, {n: random.integers(0, 99, (20, 2))
        for n in "abcd"}, objectives=("a",), budgets=dict.fromkeys("bcd", 900),
    )  # fmt: skip
    with pytest.raises(UserError, match="more than 3 states here; ilp proves larger problems"):
        exact.solve(problem, state_limit=3)
