"""The golden instances that are quick to prove; `pytest tests/golden` checks all of them, on any folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.golden.harness import GoldenFile, check

FILES = (
    "hawq_v3/resnet18.json",
    "haq/mobilenetv2_latency_lut.npy",
    "mckp/edge_infeasible_by_groups.json",
    "mckp/edge_tight_min.json",
    "mckp/grp_c3_n50.json",
    "mckp/pairobj_c1_n8x4.json",
    "mckp/peak_c1_n9x4.json",
    "pareto/p2_large_n40x12.json",
    "pareto/p2_pair_n9x4.json",
    "pareto/p3_grp_n10x3.json",
)


@pytest.mark.golden
@pytest.mark.parametrize("name", FILES)
def test_golden_instance(name: str, shared: Path) -> None:
    results = check(GoldenFile(shared / "golden", f"search/{name}"))
    assert results
    assert not [result for result in results if result.differing]
