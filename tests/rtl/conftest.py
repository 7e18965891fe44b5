"""Every test here that simulates needs Icarus Verilog; CI installs it (.ci/run)."""

from __future__ import annotations

import pytest

from hwmodels import rtl


@pytest.fixture(autouse=True)
def simulator(request: pytest.FixtureRequest) -> None:
    """Skip where Icarus Verilog is absent, unless the test is marked to run without it."""
    if not rtl.has_simulator() and "without_simulator" not in request.fixturenames:
        pytest.skip("Icarus Verilog is not installed (apt-get install iverilog)")


@pytest.fixture
def without_simulator(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without Icarus Verilog."""
    monkeypatch.setenv("PATH", "/nonexistent")
