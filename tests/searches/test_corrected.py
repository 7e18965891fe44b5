"""Measured plans correct the additive model, and the search that goes on with it finds more."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from qsim.errors import UserError
from searches.build import problem_from_layers
from searches.corrected import Choices, CorrectedSearch, Effort, Measured
from searches.correction import corrected
from searches.problem import Option, Problem

SIZES = (4, 4, 4, 4, 4)
BITS = np.array([8.0, 6.0, 4.0, 2.0])


def believed(seed: int = 0) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [0.002 * random.uniform(0.5, 2) * 4.0 ** ((8 - BITS) / 2) for _ in SIZES]


def true_distance(choices: Choices, seed: int = 0) -> float:
    """What is believed, wrong by a factor a group, and layers that make each other worse."""
    random = np.random.default_rng(seed + 100)
    factors = random.choice([0.2, 1.0, 5.0], size=len(SIZES))
    return float(sum(f * s[c] for f, s, c in zip(factors, believed(seed), choices, strict=True)))


def problem_of(sensitivities: list[np.ndarray]) -> Problem:
    return problem_from_layers(
        [f"layer{i}" for i in range(len(SIZES))],
        [[Option(f"w{int(b)}") for b in BITS]] * len(SIZES),
        {"sensitivity": sensitivities, "size": [BITS * (1 + i) for i in range(len(SIZES))]},
        objectives=("sensitivity", "size"),
    )


def search(effort: Effort, seed: int = 0, limit: float = 0.05) -> tuple[float, int]:
    """(size of the cheapest accepted plan, plans measured)."""
    known: dict[Choices, Measured] = {}
    job = CorrectedSearch(
        problem_of,
        believed(seed),
        lambda choices: Measured(true_distance(choices, seed), true_distance(choices, seed)),
        lambda loss: loss <= limit,
        known,
        effort,
    )
    assert job.run().selections
    best = job.cheapest(problem_of(believed(seed)))
    return (np.inf if best is None else float(best.totals["size"])), len(known)


def best_size(seed: int, limit: float = 0.05) -> float:
    sizes = [
        sum(BITS[c] * (1 + i) for i, c in enumerate(choices))
        for choices in itertools.product(*(range(n) for n in SIZES))
        if true_distance(choices, seed) <= limit
    ]
    return min(sizes)


def test_corrections_find_what_the_additive_model_misses() -> None:
    plain = [search(Effort(16, corrections=0, steps=0), seed) for seed in range(6)]
    learned = [search(Effort(12, corrections=3, steps=4), seed) for seed in range(6)]
    assert max(count for _, count in learned) <= 16
    ratio = [ours / best_size(seed) for seed, (ours, _) in enumerate(learned)]
    assert np.mean(ratio) < 1.1
    assert np.mean(ratio) < np.mean([size / best_size(seed) for seed, (size, _) in enumerate(plain)])


def test_enough_exact_plans_give_the_exact_model() -> None:
    plans = [tuple(np.random.default_rng(i).integers(0, SIZES)) for i in range(200)]
    fitted = corrected(believed(), plans, [true_distance(plan) for plan in plans], noise=1e-4, limit=np.inf)
    for plan in plans[:20]:
        total = sum(values[c] for values, c in zip(fitted, plan, strict=True))
        assert total == pytest.approx(true_distance(plan), rel=1e-3)


def test_nothing_measured_changes_nothing_and_collapsed_plans_are_left_out() -> None:
    start = believed()
    for values, same in zip(corrected(start, [], []), start, strict=True):
        np.testing.assert_array_equal(values, same)
    for values, same in zip(corrected(start, [(3,) * 5], [7.0]), start, strict=True):
        np.testing.assert_array_equal(values, same)


@pytest.mark.parametrize("losses", [[float("nan")], [-1.0], [1.0, 2.0]])
def test_losses_must_be_numbers_one_a_plan(losses: list[float]) -> None:
    with pytest.raises(UserError, match="one finite loss"):
        corrected(believed(), [(0,) * 5], losses)
