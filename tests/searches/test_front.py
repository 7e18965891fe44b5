"""Fronts are complete: compared with every selection, by both methods."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qsim.errors import UserError
from searches import front
from searches.dominance import frontier, undominated
from searches.problem import Problem
from tests.searches.instances import cost_vectors, front_points, problems, quick, two_layer_problem


def points(problem: Problem, result: object) -> list[tuple[int, ...]]:
    return [tuple(s.totals[n] for n in problem.objectives) for s in result.selections]  # type: ignore[attr-defined]


@pytest.mark.parametrize("n_objectives", [2, 3])
@quick
@given(data=st.data())
def test_dominance_programming_gives_the_complete_front(n_objectives: int, data: st.DataObject) -> None:
    problem = data.draw(problems(n_objectives))
    result = front.solve(problem, method="dominance")
    ours = points(problem, result)
    assert len(set(ours)) == len(ours)
    assert set(ours) == front_points(problem)
    assert ours == sorted(ours)
    for selection in result.selections:
        assert selection.feasible
        assert selection == problem.evaluate(selection.choices)
    assert result.status == ("optimal" if ours else "infeasible")


@settings(quick, max_examples=25)
@given(problems(2))
def test_epsilon_constraint_gives_the_complete_front(problem: Problem) -> None:
    result = front.solve(problem, method="epsilon")
    assert set(points(problem, result)) == front_points(problem)


@settings(quick, max_examples=15)
@given(problems(3))
def test_every_point_of_an_epsilon_grid_is_efficient(problem: Problem) -> None:
    result = front.solve(problem, method="epsilon", points=3)
    assert set(points(problem, result)) <= front_points(problem)
    assert bool(result.selections) == bool(front_points(problem))
    if result.selections:
        assert result.status == "feasible"
        assert result.details["complete"] is False


@quick
@given(problems(1))
def test_one_objective_gives_the_optimum_with_the_least_costs(problem: Problem) -> None:
    found = frontier(problem)
    assert found is not None
    best = cost_vectors(problem)[:1]
    assert found.costs.tolist() == [
        [dict(zip(problem.priorities, b))[name] for name in found.counted] for b in best
    ]


@quick
@given(problems(2))
def test_the_same_problem_gives_the_same_selections(problem: Problem) -> None:
    assert front.solve(problem).selections == front.solve(problem).selections


def test_too_many_states_fall_back_to_a_grid_of_proven_optima() -> None:
    problem = two_layer_problem().with_objectives("loss", "size")
    whole = front.solve(problem)
    grid = front.solve(problem, state_limit=2, points=3)
    assert (grid.solver, grid.status) == ("front/epsilon/highs", "feasible")
    assert set(points(problem, grid)) < set(points(problem, whole))
    assert {min(points(problem, grid)), max(points(problem, grid))} <= set(points(problem, whole))
    with pytest.raises(UserError, match="more than 2 states"):
        front.solve(problem, method="dominance", state_limit=2)


def test_a_front_needs_two_objectives() -> None:
    with pytest.raises(UserError, match="two objectives or more, not only 'loss'"):
        front.solve(two_layer_problem())


@quick
@given(st.integers(1, 4), st.integers(1, 300), st.integers(0, 10**6))
def test_undominated_rows(k: int, n: int, seed: int) -> None:
    rows = np.random.default_rng(seed).integers(0, 12, (n, k))
    kept = rows[undominated(rows)]
    no_worse = (rows[:, None] <= rows[None]).all(2) & (rows[:, None] < rows[None]).any(2)
    assert {tuple(r) for r in kept.tolist()} == {tuple(r) for r in rows[~no_worse.any(0)].tolist()}
    assert all(a < b for a, b in pairwise(kept.tolist()))


def test_undominated_over_many_blocks() -> None:
    rows = np.random.default_rng(0).integers(0, 10**6, (3000, 3))
    kept = set(undominated(rows).tolist())
    for i in np.random.default_rng(1).integers(0, 3000, 200).tolist():
        beaten = ((rows <= rows[i]).all(1) & (rows < rows[i]).any(1)).any()
        assert (i in kept) == (not beaten)
