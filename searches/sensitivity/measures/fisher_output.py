"""Output errors of single layers, weighed by the Fisher matrix of the layer's output: no run of the network a format.

BRECQ (Li et al., ICLR 2021, arXiv 2102.05426) takes the squared gradient at a block's output as the weight of its
error, element by element. Here the whole matrix is kept: with u drawn so that E u u' is the Hessian of the loss by the
network's output, E (J' u . e)^2 / 2 is, to second order, the loss that the layer's output error e causes. One backward
pass a draw serves all layers and formats; a format then costs the layer itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from searches.sensitivity.measures.measure import Measure
from searches.sensitivity.scan import Scan, Score, Trial

DRAWS = 4
MEMORY_BYTES = 300_000_000


def responses(scan: Scan) -> Callable[[Trial], list[NDArray[Any]]]:
    """J' u . e of a trial: [draws of u, samples] a batch, or [draws, 1] where tensors have no sample axis.

    Linear in e: of errors at several layers together, the sum. Half the sum of squares, over draws and samples, is
    the predicted loss.
    """
    few = scan.bounded
    sizes = [np.prod(scan.graph.sample_shapes[name]) for name in few.node_outputs]
    affordable = int(MEMORY_BYTES // max(1, 4 * sum(sizes) * len(few.samples)))
    draws = min(DRAWS, max(1, affordable))
    slopes = few.node_derivatives.output_probes(draws, scan.seed)

    by_sample = {name for name in few.node_outputs if scan.graph.sample_shapes[name][:1] == (1,)}
    unit = np.sqrt(scan.loss_unit / (draws * len(few.samples)))

    def respond(trial: Trial) -> list[NDArray[Any]]:
        return [batch * unit for batch in trial.node_errors.along(slopes, by_sample)]

    return respond


def _prepare(scan: Scan) -> Callable[[Trial], Score]:
    respond = responses(scan)

    def score(trial: Trial) -> Score:
        squares = (
            np.square(np.concatenate([batch.ravel() for batch in respond(trial)])) / 2
        )  # in units of Evaluator.distance
        spread = float(squares.std(ddof=1) * np.sqrt(squares.size)) if squares.size > 1 else None
        return Score(float(squares.sum()), spread)

    return score


FISHER_OUTPUT = Measure("fisher_output", "nats or ratio", _prepare)
