"""Measured distance of the network's output from float32's, in the unit that the searched plans are judged in.

`Evaluator.distance`: the divergence (nats) where the metric classifies, as measure "kl"; else the ratio of noise to
signal power, as "noise". The choice of loss follows the metric, so that one default serves every task.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from searches.sensitivity.measures.measure import Measure
from searches.sensitivity.scan import Scan, Score, Trial


def _prepare(scan: Scan) -> Callable[[Trial], Score]:
    evaluator = replace(scan.evaluator, reference=scan.reference)
    return lambda trial: Score(float(evaluator.distance(trial.output).mean()))


DISTANCE = Measure("distance", "nats or ratio", _prepare, runs_network=True)
