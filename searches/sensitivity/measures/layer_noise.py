"""Output error of the quantized layers alone: noise over signal power where their sums are formed.

The squared error of a layer's output on calibration data is what layer-wise rounding methods lower (AdaRound, Nagel et
al., ICML 2020, arXiv 2004.10568) and what MSE-driven searches rank by; it does not know what the rest of the network
makes of the error.
"""

from __future__ import annotations

from collections.abc import Callable

from searches.sensitivity.measures.measure import Measure
from searches.sensitivity.scan import Scan, Score, Trial


def _prepare(scan: Scan) -> Callable[[Trial], Score]:
    from qsim.emulator.deviation import node_noise

    return lambda trial: Score(node_noise(scan.bounded.float_recording, trial.plan))


LAYER_NOISE = Measure("layer_noise", "ratio", _prepare)
