"""Noise-to-signal power of the rounded tensors themselves, 1 / SQNR, summed over a group's weights and activations.

Noise-to-signal ratios of weights and activations add up through the layers of a network in the analysis of Lin,
Talathi and Annapureddy (ICML 2016, arXiv 1511.06393); no run of the network is needed.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from searches.sensitivity.measures.measure import Measure
from searches.sensitivity.scan import Scan, Score, Trial


def _prepare(scan: Scan) -> Callable[[Trial], Score]:
    signals = scan.bounded.exact.square_norms()

    def score(trial: Trial) -> Score:
        noises = trial.errors.square_norms()
        ratios = [
            noise / signals[name]
            for name, noise in noises.items()
            if trial.plan.tensors[name].role != "bias" and signals.get(name, 0.0) > 0
        ]
        return Score(float(np.sum(ratios)))

    return score


SQNR = Measure("sqnr", "ratio", _prepare)
