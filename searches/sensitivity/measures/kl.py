"""Measured divergence of the network's output from float32's, as in ZeroQ (Cai et al., CVPR 2020, arXiv 2001.00281)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from searches.evaluate import divergences
from searches.sensitivity.measures.measure import Measure
from searches.sensitivity.scan import Scan, Score, Trial


def divergence(reference: NDArray[Any], output: NDArray[Any]) -> float:
    """Mean KL(softmax(reference) || softmax(output)) in nats over all rows of the last axis."""
    with np.errstate(invalid="ignore"):
        return float(divergences(reference, output).mean())


def _prepare(scan: Scan) -> Callable[[Trial], Score]:
    return lambda trial: Score(divergence(scan.reference, trial.output))


KL = Measure("kl", "nats", _prepare, runs_network=True)
