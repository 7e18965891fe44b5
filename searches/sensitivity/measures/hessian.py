"""HAWQ-V2 (Dong et al., NeurIPS 2020, arXiv 1911.03852): mean Hessian trace times squared rounding error.

sum over the group's weights and activations of trace(H) / n * |e|^2, the trace by Hutchinson's estimator. H is of the
divergence from the float32 network's own output, so no labels are needed; there it is J' B J, and the estimator draws
in output space (`Derivatives.hessian_traces`): signs over all weights at once, the other way, left standard errors as
large as the traces. The standard error is that of the traces, of a sum taken as if they were independent.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from searches.sensitivity.measures.measure import Measure
from searches.sensitivity.scan import Scan, Score, Trial

DRAWS = 2  # for each sample


def _prepare(scan: Scan) -> Callable[[Trial], Score]:
    traces, unit = scan.bounded.derivatives.hessian_traces(DRAWS, scan.seed), scan.loss_unit

    def score(trial: Trial) -> Score:
        norms = {name: norm for name, norm in trial.errors.square_norms().items() if name in traces}
        values = [traces[name].value / traces[name].elements * norm for name, norm in norms.items()]
        errors = [traces[name].standard_error / traces[name].elements * norm for name, norm in norms.items()]
        return Score(unit * float(np.sum(values)), unit * float(np.sqrt(np.sum(np.square(errors)))))

    return score


HESSIAN = Measure("hessian", "nats or ratio", _prepare)
