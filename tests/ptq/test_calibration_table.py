"""The table of all methods: cells are found again by what they depend on, and words follow numbers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from qsim.metrics import METRICS
from qsim.ptq import Calibration
from searches.statistics import paired_difference
from tests.benchmarks.ptq_table.measure import Cell, keep_cell, load_cells, source_version
from tests.benchmarks.ptq_table.rows import FORMATS, METHODS, NETWORKS, PLAIN
from tests.benchmarks.ptq_table.write import _auc_difference, _mean_difference, sentence, verdict


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("format_name", FORMATS)
def test_every_row_is_a_calibration_in_every_format(method: str, format_name: str) -> None:
    for network in NETWORKS.values():
        Calibration(**METHODS[method].calibration(network, format_name, 0))
    assert METHODS[method].base in METHODS
    assert set(METHODS[method].target) <= set(FORMATS) and set(METHODS[method].without) <= set(NETWORKS)


def test_what_draws_is_measured_with_several_seeds() -> None:
    for method in METHODS.values():
        first, second = (method.calibration(NETWORKS["lm"], "W4A4", seed) for seed in (0, 1))
        assert first == second or method.seeds("W4A4") > 1
    assert METHODS["qdrop"].seeds("W4A4") == METHODS["qat"].seeds("W4A4") == 3


def test_a_cell_survives_its_file(tmp_path: Path) -> None:
    times = {"quantize_s": 1.5, "evaluate_s": 2.5, "spent_s": 3.5}
    cell = Cell(
        "dscnn", "gptq", "W4A8", 0, "k", "v", "plan", "graph", [[1.0], [0.0]], 0.5, 0.9, 20.0, **times
    )
    keep_cell(tmp_path, cell)
    keep_cell(tmp_path, replace(cell, network="lm", key="l", failed="why"))
    found = load_cells(tmp_path)
    assert found["k"] == cell and found["l"].failed == "why" and len(found) == 2


def test_sources_of_steps_do_not_make_calibrations_stale() -> None:
    versions = {name: source_version(METHODS[name]) for name in (PLAIN, "kl", "gptq", "cle")}
    assert versions[PLAIN] == versions["kl"]
    assert len(set(versions.values())) == 3


def row(format_name: str, low: float, high: float) -> dict[str, object]:
    middle = (low + high) / 2
    over = {"over_plain": middle, "over_plain_low95": low, "over_plain_high95": high}
    return {"method": "kl", "format": format_name, "metric": "top1", **over}


def test_words_follow_the_intervals() -> None:
    table = pd.DataFrame([row("int8", 0.01, 0.03), row("W4A8", -0.01, 0.02), row("W4A4", -0.05, -0.01)])
    assert [verdict(cell, True) for _, cell in table.iterrows()] == [1, 0, -1]
    assert [verdict(cell, False) for _, cell in table.iterrows()] == [-1, 0, 1]  # perplexity
    said = sentence(table, ("int8",), "points", 100.0, True)
    assert "better in 1 of 3 cells, worse in 1, median +0.50 points" in said
    assert "where its source aims (int8) it helps" in said
    assert "it hurts" in sentence(table, ("W4A4",), "points", 100.0, True)


def test_the_paired_interval_of_an_area_is_that_of_the_search() -> None:
    """Ties included; the draws are the same, so the intervals are too."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, 60)
    ours, theirs = (np.stack([np.round(rng.normal(label, 1), 1), label], 1) for _ in range(2))
    wanted = paired_difference(ours, theirs, METRICS["reconstruction_auc"].value)
    np.testing.assert_allclose(_auc_difference(ours, theirs), wanted, atol=1e-12)


def test_the_paired_interval_of_a_mean_is_that_of_the_search() -> None:
    rng = np.random.default_rng(0)
    ours, theirs = (rng.integers(0, 2, (60, 1)).astype(float) for _ in range(2))
    np.testing.assert_allclose(_mean_difference(ours, theirs), paired_difference(ours, theirs), atol=1e-12)
    wanted = paired_difference(ours, theirs, METRICS["perplexity"].value)
    np.testing.assert_allclose(_mean_difference(ours, theirs, np.exp), wanted, atol=1e-12)
