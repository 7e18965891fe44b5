"""Measured mean squared error of the network's output, in the output's own unit squared."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from searches.sensitivity.measures.measure import Measure
from searches.sensitivity.scan import Scan, Score, Trial


def _prepare(scan: Scan) -> Callable[[Trial], Score]:
    return lambda trial: Score(float(np.square(trial.output.astype(np.float64) - scan.reference).mean()))


MSE = Measure("mse", "output^2", _prepare, runs_network=True)
