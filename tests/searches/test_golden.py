"""Every search instance of the shared golden folder (`pytest tests/golden` runs the same checks on any
folder).
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.golden import search

FAMILIES = ("mckp", "pareto", "hawq_v3")


@pytest.mark.golden
@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_golden_instances(family: str, shared: Path) -> None:
    files = sorted((shared / "golden" / "search" / family).glob("*.json"))
    outcomes = [outcome for file in files for outcome in search.check(file)]
    assert outcomes, f"no vectors in {family}"
    assert not [(what, why) for what, agrees, why in outcomes if not agrees]


@pytest.mark.golden
def test_the_published_hawq_plans_are_reproduced_nine_of_nine(shared: Path) -> None:
    outcomes = list(search.check(shared / "golden" / "search" / "hawq_v3" / "resnet18.json"))
    assert [agrees for _, agrees, _ in outcomes] == [True] * 9
