"""A problem counts exactly, collapses groups, and refuses what would give a wrong number."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given

from qsim.errors import UserError
from searches.baselines import uniform
from searches.build import LayerPair, from_tables, problem_from_layers, to_integers
from searches.problem import Option, Problem
from searches.reduce import reduce
from tests.searches.instances import cost_vectors, every_choice, problems, quick, two_layer_problem


def test_totals_add_up_in_integers_and_come_back_in_units() -> None:
    problem = two_layer_problem(size=50.5)
    selection = problem.evaluate([1, 1])
    assert problem.values(selection) == {"loss": 3.75, "size": 44}
    assert problem.budgets == {"size": 50}
    assert selection.feasible
    assert problem.evaluate([2, 2]).excess == {"size": 38}
    assert {name: o.payload for name, o in problem.layer_options(selection).items()} == {
        "conv": ("int4",),
        "fc": ("int4",),
    }


def test_a_float_cost_keeps_its_sum_to_the_stated_precision() -> None:
    values = np.random.default_rng(1).lognormal(-20, 5, size=(50, 12))
    integers, scale = to_integers(list(values))
    assert np.log2(scale) == int(np.log2(scale))
    exact = values.sum(axis=0)
    ours = np.sum(integers, axis=0) / scale
    assert np.all(np.abs(ours - exact) <= 50 / 2 / scale)
    assert sum(row.max() for row in values) * scale < 2**40


@pytest.mark.parametrize("values", [[[1, 2]], [[1.0, 2.0]], [[0.0, 0.0]], [[2**52, 5]]])
def test_whole_numbers_stay_as_they_are(values: list[list[float]]) -> None:
    integers, scale = to_integers(values)
    assert scale == 1
    assert integers[0].tolist() == values[0]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_cost_that_is_no_number_is_refused(bad: float) -> None:
    with pytest.raises(UserError, match="cost 'size' of layer 1 is not a finite number"):
        to_integers([[1.0], [bad]], "size")


def test_groups_peaks_and_pairs_collapse_to_the_same_totals() -> None:
    random = np.random.default_rng(7)
    tables = {"loss": random.integers(0, 99, (5, 3)), "ram": random.integers(0, 99, (5, 3))}
    pairs = [LayerPair(i, j, "loss", random.integers(0, 9, (3, 3))) for i, j in [(0, 1), (3, 1), (1, 4)]]
    names, options = list("abcde"), [[Option(str(o)) for o in range(3)]] * 5
    cuts = {"ram": [[0, 1], [1, 2, 4], [3]]}

    def build(groups: list[list[int]]) -> Problem:
        return problem_from_layers(
            names, options, tables, objectives=("loss",), cuts=cuts, pairwise=pairs, groups=groups
        )

    grouped, free = build([[1, 4], [0, 3]]), build([])
    assert [group.layers for group in grouped.groups] == [("a", "d"), ("b", "e"), ("c",)]
    for choices in every_choice(grouped):
        ad, be, c = choices
        assert grouped.evaluate(choices).totals == free.evaluate([ad, be, c, ad, be]).totals


def test_overlapping_groups_are_one_group() -> None:
    problem = problem_from_layers(
        list("abcd"), [[Option("x")]] * 4, {"loss": [[1]] * 4}, objectives=("loss",), groups=[[2, 0], [3, 2]]
    )
    assert [group.layers for group in problem.groups] == [("a", "c", "d"), ("b",)]


@quick
@given(problems())
def test_reduction_keeps_a_best_selection(problem: Problem) -> None:
    reduced = reduce(problem)
    best = cost_vectors(problem)[:1]
    assert best == ([] if reduced is None else cost_vectors(reduced.problem)[:1])


def test_uniform_takes_the_label_that_all_free_groups_share() -> None:
    problem = problem_from_layers(
        ["stem", "a", "b"],
        [[Option("w8")], [Option("w4"), Option("w8")], [Option("w8"), Option("w2"), Option("w4")]],
        {"size": [[8], [4, 8], [8, 2, 4]]},
        objectives=("size",),
    )
    assert {label: s.choices for label, s in uniform(problem).items()} == {"w4": (0, 0, 2), "w8": (0, 1, 0)}


@pytest.fixture
def table() -> pd.DataFrame:
    rows = [
        ("a", "w4", 0.5, 4, 10.0, "int4"),
        ("a", "w8", 0.1, 8, 20.0, "int8"),
        ("b", "w8", 0.2, 16, 21.0, "int8"),
        ("b", "w4", 0.9, 8, 12.0, "int4"),
        ("c", "w4", 0.3, 2, 5.0, "int4"),
    ]
    return pd.DataFrame(rows, columns=["layer", "option", "loss", "size", "ram", "weights"])


def test_a_problem_from_tables(table: pd.DataFrame) -> None:
    pairs = pd.DataFrame(
        {"first": ["b"], "second": ["a"], "option_first": ["w4"], "option_second": ["w8"], "size": [100]}
    )
    problem = from_tables(
        table,
        objectives=["loss"],
        budgets={"ram": 20},
        aggregate={"ram": "max"},
        pairwise=pairs,
        payload=["weights"],
    )
    selection = problem.evaluate([1, 1, 0])
    assert [o.label for o in problem.layer_options(selection).values()] == ["w8", "w4", "w4"]
    values = problem.values(selection)
    assert values["loss"] == pytest.approx(1.3, abs=1e-9)
    assert (values["size"], values["ram"]) == (8 + 8 + 2 + 100, 20)
    assert problem.groups[0].options[0].payload == ("int4",)


def test_a_group_may_take_what_all_its_layers_offer(table: pd.DataFrame) -> None:
    problem = from_tables(table, objectives=["loss"], groups=[["a", "c"]])
    assert [[o.label for o in g.options] for g in problem.groups] == [["w4"], ["w8", "w4"]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"objectives": ["speed"]}, "the cost table has no column 'speed'"),
        ({"budgets": {"lut": 3}}, "the cost table has no column 'lut'"),
        ({"groups": [["a", "z"]]}, "a group names layer 'z'"),
        ({"aggregate": {"loss": "min"}}, "cost 'loss' cannot be searched on: it is a min"),
        ({"objectives": ["weights"]}, "cost 'weights' cannot be searched on"),
        ({"budgets": {"size": float("nan")}}, "budget 'size' is nan"),
        ({"objectives": []}, "needs an objective"),
    ],
)
def test_a_mistake_is_one_line(table: pd.DataFrame, change: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        from_tables(table, **{"objectives": ["loss"], **change})  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_a_selection_that_does_not_fit_is_refused() -> None:
    problem = two_layer_problem()
    with pytest.raises(UserError, match="has 2 choices, not 1"):
        problem.evaluate([0])
    with pytest.raises(UserError, match="group 'fc' has 3 options, there is no number 3"):
        problem.evaluate([0, 3])


def test_totals_that_would_overflow_are_refused() -> None:
    with pytest.raises(UserError, match="overflow 62 bits"):
        problem_from_layers(list("ab"), [[Option("x")]] * 2, {"c": [[2**61], [2**61]]}, objectives=("c",))
