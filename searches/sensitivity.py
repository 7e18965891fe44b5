"""How much each layer minds each format: one group quantized at a time, everything else in float32, measured
by emulation.

The additive model sums these over the groups. It ranks candidates; what a report says is measured on the
whole plan.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import qsim
from qsim.errors import UserError

if TYPE_CHECKING:
    from qsim.plan import BitPlan
    from searches.candidates import Candidates, Choice
    from searches.evaluate import Evaluator

Array = NDArray[Any]
MakePlan = Callable[[Sequence[tuple["Candidates", "Choice"]]], "BitPlan"]
MEASURES = ("kl", "noise")


def measure_sensitivities(
    groups: Sequence[Candidates],
    make_plan: MakePlan,
    evaluator: Evaluator,
    samples: Array,
    measure: str,
    track: Callable[[Iterable[tuple[int, int]]], Iterable[tuple[int, int]]] = lambda pairs: pairs,
) -> list[Array]:
    """One array a group, one value a choice: `measure` on the evaluation samples `samples` (from the choosing
    half).

    measure: "kl" is the mean Kullback-Leibler divergence (nats) of softmax(float32) from softmax(quantized),
    over the last axis; "noise" the ratio of noise to signal power of the output. `track` wraps the loop (a
    progress bar).
    """
    if measure not in MEASURES:
        raise UserError(f"sensitivity.measure '{measure}' is unknown; there are {', '.join(MEASURES)}")
    inputs = {name: array[samples] for name, array in evaluator.dataset.evaluation.items()}
    reference = evaluator.reference[samples]
    result = [np.zeros(len(group.choices)) for group in groups]
    pairs = [(g, c) for g, group in enumerate(groups) for c in range(len(group.choices))]
    for g, c in track(pairs):
        plan = make_plan([(groups[g], groups[g].choices[c])])

        def run(plan: BitPlan = plan) -> dict[str, float]:
            output = qsim.emulate(evaluator.graph, plan, inputs, arithmetic=evaluator.arithmetic).output
            return {
                "value": divergence(reference, output) if measure == "kl" else noise_ratio(reference, output)
            }

        key = {
            "kind": "sensitivity",
            "model": evaluator.graph.hash,
            "data": evaluator.dataset.hash,
            "plan": plan.id,
            "measure": measure,
            "samples": samples.tolist(),
            "arithmetic": evaluator.arithmetic,
            "qsim_version": qsim.__version__,
        }
        result[g][c] = (run() if evaluator.store is None else evaluator.store.measure(key, run))["value"]
    return result


def divergence(reference: Array, output: Array) -> float:
    """Mean KL(softmax(reference) || softmax(output)) in nats over all rows of the last axis."""
    p, q = _log_softmax(reference), _log_softmax(output)
    return float(np.maximum((np.exp(p) * (p - q)).sum(-1), 0.0).mean())


def noise_ratio(reference: Array, output: Array) -> float:
    """sum (output - reference)^2 / sum reference^2."""
    exact = reference.astype(np.float64)
    signal = float((exact**2).sum())
    return float(((output - exact) ** 2).sum()) / signal if signal > 0 else 0.0


def _log_softmax(logits: Array) -> Array:
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)))
