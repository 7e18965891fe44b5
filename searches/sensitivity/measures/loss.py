"""The task metric itself, measured: how much worse it is than float32's on the samples.

CalibTIP (Hubara et al., ICML 2021, arXiv 2006.10518) and AIMET rank layers by this. Of a share of right answers it
moves in steps of one sample and may be negative; perplexity is taken as its logarithm (nats a token).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from qsim.metrics import Samples
from searches.evaluate import first_input
from searches.sensitivity.measures.measure import Measure
from searches.sensitivity.scan import Scan, Score, Trial


def _prepare(scan: Scan) -> Callable[[Trial], Score]:
    evaluator = scan.evaluator
    labels = evaluator.dataset.labels
    labels = None if labels is None else labels[scan.samples]
    metric = evaluator.metric
    unharmed = metric.value(evaluator.float_scores[scan.samples])

    def score(trial: Trial) -> Score:
        samples = Samples(trial.output, scan.reference, first_input(scan.inputs), labels)
        value = metric.value(metric.score(samples))
        if metric.name == "perplexity":
            return Score(float(np.log(value) - np.log(unharmed)))
        if not np.isfinite(unharmed):  # the SQNR of float32 against itself
            return Score(-value)
        return Score(unharmed - value if metric.higher_is_better else value - unharmed)

    return score


LOSS = Measure("loss", "metric", _prepare, runs_network=True)
