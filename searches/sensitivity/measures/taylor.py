"""The loss as its Taylor polynomial at the float32 network, in the direction of the rounding errors e.

taylor1: |g . e| with g of the cross-entropy with the network's own most likely labels (Molchanov et al., CVPR 2019,
arXiv 1906.10771, use it for pruning); 0 for regression, where the gradient vanishes.
taylor2: g . e + e' H e / 2 of the divergence from the float32 network's own output, whose g is 0, by one
Hessian-vector product a trial: dearer than running the network, but no approximation beyond second order.
"""

from __future__ import annotations

from collections.abc import Callable

from searches.sensitivity.measures.measure import Measure
from searches.sensitivity.scan import Scan, Score, Trial


def _first_order(scan: Scan) -> Callable[[Trial], Score]:
    gradient = scan.bounded.derivatives.gradient()
    return lambda trial: Score(abs(gradient.dot(trial.errors)))


def _second_order(scan: Scan) -> Callable[[Trial], Score]:
    return lambda trial: Score(scan.bounded.derivatives.quadratic(trial.errors) * scan.loss_unit)


TAYLOR1 = Measure("taylor1", "nats", _first_order)
TAYLOR2 = Measure("taylor2", "nats or ratio", _second_order)
