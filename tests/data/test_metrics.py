"""Metrics against their definitions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qsim.errors import UserError
from qsim.metrics import METRICS, Samples, get_metric


def samples(
    output: np.ndarray, labels: np.ndarray | None = None, reference: np.ndarray | None = None
) -> Samples:
    return Samples(output, output if reference is None else reference, output, labels)


def value(name: str, data: Samples) -> float:
    metric = METRICS[name]
    return metric.value(metric.score(data))


def test_top1_and_agreement() -> None:
    output = np.array([[1.0, 2], [3, 0], [0, 1], [5, 4]])
    assert value("top1", samples(output, np.array([1, 0, 0, 1]))) == 0.5
    assert value("agreement", samples(output, reference=-output)) == 0.0


def test_perplexity_of_uniform_logits_is_the_vocabulary() -> None:
    assert value("perplexity", samples(np.zeros((3, 5, 7)), np.zeros((3, 5), np.int64))) == pytest.approx(7)


def test_auc_counts_ordered_pairs() -> None:
    scores, labels = np.array([0.1, 0.4, 0.35, 0.8, 0.4]), np.array([0, 0, 1, 1, 1])
    pairs = [(p > n) + 0.5 * (p == n) for p in scores[labels == 1] for n in scores[labels == 0]]
    assert value("auc", samples(scores[:, None], labels)) == pytest.approx(np.mean(pairs))


def test_reconstruction_auc_uses_the_squared_error() -> None:
    inputs = np.zeros((4, 3))
    output = np.array([[0, 0, 0.1], [0, 0.2, 0], [1, 1, 1], [2, 0, 0]])
    data = Samples(output, output, inputs, np.array([0, 0, 1, 1]))
    assert value("reconstruction_auc", data) == 1.0


def test_sqnr_of_a_tenth_is_twenty_decibels() -> None:
    reference = np.ones((4, 5))
    assert value("sqnr", samples(reference * 1.1, reference=reference)) == pytest.approx(20.0)
    assert value("sqnr", samples(reference, reference=reference)) == np.inf


def test_own_function_and_unknown_names(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("def first(samples):\n    return samples.output[:, 0]\n")
    metric = get_metric(f"{file}:first")
    assert metric.value(metric.score(samples(np.array([[1.0, 9], [2, 9]])))) == 1.5
    with pytest.raises(UserError, match="there are top1"):
        get_metric("top5")
    with pytest.raises(UserError, match="no function 'second'"):
        get_metric(f"{file}:second")
    with pytest.raises(UserError, match="needs y_eval"):
        value("top1", samples(np.zeros((2, 2))))
