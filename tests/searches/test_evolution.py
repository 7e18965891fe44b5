"""Evolution starts from its seeds, measures each selection once, keeps the budgets, and repeats itself."""

from __future__ import annotations

import numpy as np
import pytest

from qsim.errors import UserError
from searches import front, nsga2, nsga3
from searches.build import problem_from_layers
from searches.evolution import AdditiveGap, additive_gap
from searches.problem import Option, Problem, Selection


@pytest.fixture
def problem() -> Problem:
    random = np.random.default_rng(2)
    loss = np.sort(random.integers(1, 1000, (8, 4)), axis=1)[:, ::-1]
    size = np.sort(random.integers(1, 1000, (8, 4)), axis=1)
    return problem_from_layers(
        [f"l{i}" for i in range(8)], [[Option(str(o)) for o in range(4)]] * 8, {"loss": loss, "size": size},
        objectives=("loss", "size"), budgets={"size": int(size.sum(axis=0) @ [0.3, 0, 0, 0.7])},
    )  # fmt: skip


def objectives(selection: Selection) -> tuple[float, float]:
    return selection.totals["loss"], selection.totals["size"]


def test_seeded_with_the_exact_front_it_stays_on_it(problem: Problem) -> None:
    exact = front.solve(problem).selections
    result = nsga2.solve(problem, objectives, seeds=exact, population=len(exact), generations=3)
    assert set(result.selections) == set(exact)
    assert result.details["gap"] == AdditiveGap(0.0, 0.0, 0.0)
    assert set(result.details["objectives"]) == {objectives(s) for s in exact}


def test_without_seeds_it_improves_and_keeps_the_budget(problem: Problem) -> None:
    result = nsga2.solve(problem, objectives, population=20, generations=15, seed=4)
    assert len(result.history) == 15
    assert all(later >= earlier for earlier, later in zip(result.history, result.history[1:], strict=False))
    assert result.history[-1] > result.history[0]
    assert all(s.feasible for s in result.selections)
    gap = additive_gap(problem, result.selections, front.solve(problem).selections)
    assert 0 <= gap.mean <= gap.worst
    assert 0 <= gap.hypervolume < 1


@pytest.mark.parametrize("solve", [nsga2.solve, nsga3.solve])
def test_the_same_seed_gives_the_same_answer(problem: Problem, solve) -> None:  # type: ignore[no-untyped-def]
    def measure(selection: Selection) -> tuple[float, float, float]:
        return *objectives(selection), float(max(selection.choices))

    first, second, other = (solve(problem, measure, population=12, generations=4, seed=s) for s in (7, 7, 8))
    assert first.selections == second.selections
    assert first.history == second.history
    assert first.history != other.history


def test_each_selection_is_measured_once_and_never_outside_the_budget(problem: Problem) -> None:
    seen: list[tuple[int, ...]] = []

    def measure(selection: Selection) -> tuple[float, float]:
        assert selection.feasible
        seen.append(selection.choices)
        return objectives(selection)

    result = nsga2.solve(problem, measure, population=16, generations=8)
    assert len(seen) == len(set(seen)) == result.details["evaluations"]


def test_what_could_not_be_measured_is_not_on_the_front(problem: Problem) -> None:
    def measure(selection: Selection) -> tuple[float, float]:
        return (float("nan") if selection.choices[0] == 0 else objectives(selection)[0]), objectives(
            selection
        )[1]

    result = nsga2.solve(problem, measure, population=16, generations=4)
    assert result.selections
    assert all(s.choices[0] != 0 for s in result.selections)


def test_a_space_smaller_than_the_population_is_covered() -> None:
    tiny = problem_from_layers(
        ["a"], [[Option("x"), Option("y")]], {"loss": [[1, 0]], "size": [[0, 1]]}, objectives=("loss", "size")
    )
    result = nsga2.solve(tiny, objectives, population=30, generations=2)
    assert {s.choices for s in result.selections} == {(0,), (1,)}


def test_an_impossible_setting_is_refused(problem: Problem) -> None:
    with pytest.raises(UserError, match="nsga2 needs a population"):
        nsga2.solve(problem, objectives, population=1)
