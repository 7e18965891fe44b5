"""Measured noise-to-signal power of the network's output: 1 / SQNR of the output, for regression and any other task."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from searches.sensitivity.measures.measure import Measure
from searches.sensitivity.scan import Scan, Score, Trial


def noise_ratio(reference: NDArray[Any], output: NDArray[Any]) -> float:
    """sum (output - reference)^2 / sum reference^2; 0 where there is no signal."""
    exact = reference.astype(np.float64)
    signal = float((exact**2).sum())
    return float(((output - exact) ** 2).sum()) / signal if signal > 0 else 0.0


def _prepare(scan: Scan) -> Callable[[Trial], Score]:
    return lambda trial: Score(noise_ratio(scan.reference, trial.output))


NOISE = Measure("noise", "ratio", _prepare, runs_network=True)
