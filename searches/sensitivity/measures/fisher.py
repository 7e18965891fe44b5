"""Fisher diagonal times squared rounding error: sum_i F_ii e_i^2 / 2 over weights, biases and activations.

F_ii is the mean over samples of the squared derivative of the log likelihood, with labels drawn from the float32
network's own output; LQ-LoRA (Guo et al., ICLR 2024, arXiv 2311.12023) and SqueezeLLM (Kim et al., ICML 2024, arXiv
2306.07629) weight roundings by it. For regression the likelihood is Gaussian. Half the sum is the divergence (nats;
for regression the ratio of noise to signal power) that independent errors would cause. An activation's F and squared
error are averaged over samples, each on its own.
"""

from __future__ import annotations

from collections.abc import Callable

from searches.sensitivity.measures.measure import Measure
from searches.sensitivity.scan import Scan, Score, Trial


def _prepare(scan: Scan) -> Callable[[Trial], Score]:
    diagonal = scan.bounded.derivatives.fisher(scan.seed)
    return lambda trial: Score(trial.errors.weighted_squares(diagonal) / 2 * scan.loss_unit)


FISHER = Measure("fisher", "nats or ratio", _prepare)
