"""One test per file of the golden folder, and one line per family at the end of the run."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest

from tests.conftest import shared_folder
from tests.golden.harness import listed_files


def golden_folder(config: pytest.Config) -> Path:
    given = config.getoption("--golden", default=None)
    return Path(given).resolve() if given else shared_folder() / "golden"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "golden_name" not in metafunc.fixturenames:
        return
    config = metafunc.config
    folder = golden_folder(config)
    if config.getoption("--golden", default=None) is None and not folder.is_dir():
        skip = pytest.mark.skip(reason=f"no folder {folder}: give one with --golden DIR")
        metafunc.parametrize("golden_name", [pytest.param("", marks=skip, id="absent")])
        return
    only = [name for name in (config.getoption("--families", default=None) or "").split(",") if name]
    try:
        names = listed_files(folder, only)
    except LookupError as error:
        raise pytest.UsageError(str(error)) from None
    metafunc.parametrize("golden_name", names)


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Path:
    """The golden folder of this run."""
    return golden_folder(request.config)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    totals: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, []):
            for name, value in getattr(report, "user_properties", ()):
                if name == "golden":
                    family, *counts = value
                    totals[family] = [
                        total + count for total, count in zip(totals[family], counts, strict=True)
                    ]
    if not totals:
        return
    terminalreporter.section("golden vectors")
    terminalreporter.line(f"{'family':10} {'files':>6} {'vectors':>10} {'allowed':>8} {'differing':>10}")
    everything = [sum(column) for column in zip(*totals.values(), strict=True)]
    for family, (files, vectors, allowed, differing) in [*sorted(totals.items()), ("total", everything)]:
        terminalreporter.line(f"{family:10} {files:6} {vectors:10} {allowed:8} {differing:10}")
