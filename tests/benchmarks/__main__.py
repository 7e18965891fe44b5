"""Every benchmark that needs no outside file, one after another: `make benchmark`."""

from __future__ import annotations

from tests.benchmarks import network

network.main()
