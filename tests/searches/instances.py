"""Small random problems with every kind of term, and their answers by looking at every selection."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from searches.build import LayerPair, problem_from_layers
from searches.problem import Option, Problem

quick = settings(deadline=None, max_examples=30)
VALUES = st.integers(-5, 30)


@st.composite
def problems(draw, n_objectives: int = 1, budgeted: bool = True) -> Problem:
    """Up to 5 layers x 4 options with groups, cuts, pairwise terms and budgets that may be infeasible."""
    n_layers, n_options = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    table = st.lists(
        st.lists(VALUES, min_size=n_options, max_size=n_options), min_size=n_layers, max_size=n_layers
    )
    costs = {name: draw(table) for name in ("loss", "size", "lut", "ram")}
    layer = st.integers(0, n_layers - 1)
    groups = (
        draw(st.lists(st.lists(layer, min_size=2, max_size=3, unique=True), max_size=1))
        if n_layers > 2
        else []
    )
    cuts = draw(st.lists(st.lists(layer, min_size=1, max_size=3, unique=True), min_size=1, max_size=4))
    matrix = st.lists(
        st.lists(VALUES, min_size=n_options, max_size=n_options), min_size=n_options, max_size=n_options
    )
    pairs = [
        LayerPair(i, j, column, np.array(draw(matrix)))
        for i, j, column in draw(
            st.lists(st.tuples(layer, layer, st.sampled_from(["loss", "size"])), max_size=2)
        )
        if i != j
    ]
    problem = problem_from_layers(
        [f"layer{i}" for i in range(n_layers)],
        [[Option(f"w{o}") for o in range(n_options)]] * n_layers,
        costs,
        objectives=("loss", "size", "ram")[:n_objectives],
        groups=groups,
        cuts={"ram": cuts},
        pairwise=pairs,
    )
    names = draw(st.lists(st.sampled_from(["size", "lut", "ram"]), unique=True)) if budgeted else []
    totals = problem.totals(every_choice(problem))
    budgets = {}
    for name in names:
        low, high = int(totals[name].min()), int(totals[name].max())
        budgets[name] = draw(st.integers(low - 1, low + (high - low) // 2 + 1))
    return problem.with_budgets(budgets)


def every_choice(problem: Problem) -> np.ndarray:
    return np.array(list(itertools.product(*(range(size) for size in problem.sizes))))


def within_budgets(problem: Problem) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """(choices, totals) of every selection within the budgets."""
    choices = every_choice(problem)
    totals = problem.totals(choices)
    within = np.ones(len(choices), dtype=bool)
    for name, budget in problem.budgets.items():
        within &= totals[name] <= budget
    return choices[within], {name: total[within] for name, total in totals.items()}


def cost_vectors(problem: Problem) -> list[tuple[int, ...]]:
    """What counts, in the order that breaks ties, of every selection within the budgets; ascending."""
    _, totals = within_budgets(problem)
    return sorted(zip(*(totals[name].tolist() for name in problem.priorities), strict=True))


def is_feasible(problem: Problem) -> bool:
    return bool(cost_vectors(problem))


def front_points(problem: Problem) -> set[tuple[int, ...]]:
    """The non-dominated objective vectors, by comparing all with all."""
    _, totals = within_budgets(problem)
    points = np.unique(np.stack([totals[name] for name in problem.objectives], axis=1), axis=0)
    no_worse = (points[:, None] <= points[None]).all(axis=2)
    np.fill_diagonal(no_worse, False)
    return {tuple(point) for point in points[~no_worse.any(axis=0)].tolist()}


def two_layer_problem(**budgets: float) -> Problem:
    """Two layers, three options: the more bits, the larger and the better."""
    return problem_from_layers(
        ["conv", "fc"],
        [[Option("w2", ("int2",)), Option("w4", ("int4",)), Option("w8", ("int8",))]] * 2,
        {"loss": [[9.5, 2.25, 0.0], [4.0, 1.5, 0.25]], "size": [[2, 4, 8], [20, 40, 80]]},
        objectives=("loss",),
        budgets=budgets,
    )
