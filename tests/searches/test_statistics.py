"""Intervals against published and analytic values, hypervolume against counting cells."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from qsim.errors import UserError
from searches.statistics import bootstrap_interval, hypervolume, paired_difference, wilson_interval
from tests.searches.instances import quick


@quick
@given(st.integers(1, 5000), st.floats(0, 1), st.sampled_from([0.9, 0.95, 0.99]))
def test_wilson_agrees_with_scipy(samples: int, share: float, confidence: float) -> None:
    correct = int(share * samples)
    reference = binomtest(correct, samples).proportion_ci(confidence, method="wilson")
    ours = wilson_interval(correct, samples, confidence)
    assert ours.value == correct / samples
    assert ours.low == pytest.approx(reference.low, abs=1e-9)
    assert ours.high == pytest.approx(reference.high, abs=1e-9)
    assert 0 <= ours.low <= ours.value <= ours.high <= 1


@pytest.mark.parametrize(("correct", "samples"), [(0, 0), (3, 2), (-1, 5)])
def test_impossible_counts_are_refused(correct: int, samples: int) -> None:
    with pytest.raises(UserError, match="no confidence interval"):
        wilson_interval(correct, samples)


def test_the_bootstrap_has_the_width_of_the_normal_approximation() -> None:
    scores = (np.arange(2000) < 1500).astype(float)
    ours = bootstrap_interval(scores, seed=1)
    half = 1.96 * np.sqrt(0.75 * 0.25 / 2000)
    assert ours.value == 0.75
    assert ours.low == pytest.approx(0.75 - half, abs=0.1 * half)
    assert ours.high == pytest.approx(0.75 + half, abs=0.1 * half)


def test_a_metric_that_is_not_a_mean_is_resampled_by_itself() -> None:
    scores = np.random.default_rng(0).normal(size=(300, 2))
    mean = bootstrap_interval(scores, seed=3)
    called = bootstrap_interval(scores, lambda table: float(np.mean(table)), seed=3)
    assert called == pytest.approx(mean)
    ratio = bootstrap_interval(scores + 3, lambda t: t[:, 0].sum() / t[:, 1].sum(), seed=3)
    assert ratio.low < ratio.value < ratio.high


def test_a_paired_difference_is_narrower_than_the_two_intervals() -> None:
    random = np.random.default_rng(5)
    reference = random.random(1000) < 0.8
    ours = np.where(random.random(1000) < 0.02, ~reference, reference)
    paired = paired_difference(ours, reference, seed=9)
    assert paired.value == pytest.approx(ours.mean() - reference.mean())
    assert paired.high - paired.low < 0.5 * (bootstrap_interval(ours).high - bootstrap_interval(ours).low)
    assert paired_difference(ours, ours) == (0, 0, 0)
    assert paired_difference(ours, reference, seed=9) == paired


def test_what_has_no_interval_is_refused() -> None:
    with pytest.raises(UserError, match="at least one sample"):
        bootstrap_interval([])
    with pytest.raises(UserError, match="the same samples, not 2 and 3"):
        paired_difference([1, 0], [1, 0, 1])


@quick
@given(st.integers(1, 4), st.data())
def test_hypervolume_counts_the_dominated_cells(k: int, data: st.DataObject) -> None:
    points = data.draw(st.lists(st.lists(st.integers(0, 5), min_size=k, max_size=k), max_size=8))
    cells = np.zeros((5,) * k, dtype=bool)
    for point in points:
        cells[tuple(slice(p, None) for p in point)] = True
    assert hypervolume(points, [5] * k) == cells.sum()


def test_hypervolume_is_exact_for_large_integers() -> None:
    assert hypervolume([[0, 10**15], [10**15, 0]], [2 * 10**15 + 1] * 2) == (2 * 10**15 + 1) ** 2 - 10**30
    assert hypervolume(np.array([[0.25, 0.5]]), np.array([1.0, 1.0])) == 0.375
