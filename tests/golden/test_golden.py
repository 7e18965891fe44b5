"""Golden vectors from independent implementations: `pytest tests/golden --golden DIR [--families a,b]`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.golden.harness import GoldenFile, check

pytestmark = [pytest.mark.golden, pytest.mark.slow]


def test_golden(golden_name: str, golden: Path, record_property: Any) -> None:
    file = GoldenFile(golden, golden_name)
    unknown, results = "", []
    try:
        results = check(file)
    except LookupError as error:
        unknown = str(error.args[0])
    if unknown:
        pytest.fail(unknown, pytrace=False)
    vectors, differing = sum(r.vectors for r in results), sum(r.differing for r in results)
    allowed = sum(r.allowed for r in results)
    record_property("golden", [file.family, 1, vectors, allowed, differing])
    wrong = [r for r in results if r.differing]
    if wrong:
        lines = [f"  {r.what}: {r.differing} of {r.vectors} differ; {r.note}" for r in wrong[:20]]
        pytest.fail("\n".join([f"{golden_name}: {differing} of {vectors} differ", *lines]), pytrace=False)
