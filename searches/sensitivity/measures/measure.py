"""What a measure of sensitivity is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from searches.sensitivity.scan import Scan, Score, Trial


@dataclass(frozen=True)
class Measure:
    """prepare: does what is needed once for a scan and returns what scores one trial (larger is worse).

    unit: of the score. runs_network: whether each trial runs the rest of the network (else only single nodes).
    """

    name: str
    unit: str
    prepare: Callable[[Scan], Callable[[Trial], Score]]
    runs_network: bool = False
