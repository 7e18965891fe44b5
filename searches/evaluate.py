"""Measure plans by emulation: every sample's score once, kept in the store, read in halves.

The search chooses on one seeded half of the evaluation data; reports show the other.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import qsim
from qsim.errors import UserError
from qsim.metrics import METRICS, Samples

if TYPE_CHECKING:
    from qsim.data import Dataset
    from qsim.graph import Graph
    from qsim.metrics import Metric
    from qsim.plan import BitPlan
    from searches.store import Store

Array = NDArray[Any]


@dataclass(frozen=True)
class Halves:
    """A seeded split of the evaluation samples: indices to choose on, indices to report."""

    choose: Array
    report: Array

    @classmethod
    def split(cls, samples: int, seed: int) -> Halves:
        if samples < 2:
            raise UserError(
                f"the evaluation data have {samples} sample; a search needs at least 2 "
                "(one half chooses, the other reports)"
            )
        order = np.random.default_rng(seed).permutation(samples)
        return cls(np.sort(order[: samples // 2]), np.sort(order[samples // 2 :]))


@dataclass(frozen=True, eq=False)
class Measurement:
    """scores: [samples, k] of the metric; agreement: [samples] share of answers equal to float32's, or None;
    distance: [samples] from float32's output, what sensitivities are in small (`Evaluator.distance`).
    """

    scores: Array
    agreement: Array | None
    distance: Array
    seconds: float


@dataclass(frozen=True, eq=False)
class Evaluator:
    """A network, its data and its metric; `reference` is the float32 output, `float_scores` its scores."""

    graph: Graph
    dataset: Dataset
    metric: Metric
    reference: Array
    float_scores: Array
    store: Store | None = None
    arithmetic: str = "exact"

    @classmethod
    def create(
        cls,
        graph: Graph,
        dataset: Dataset,
        metric: Metric,
        store: Store | None = None,
        arithmetic: str = "exact",
    ) -> Evaluator:
        """Runs the float32 network once on all evaluation samples."""
        reference = qsim.emulate(graph, None, dict(dataset.evaluation)).output
        samples = Samples(reference, reference, first_input(dataset.evaluation), dataset.labels)
        return cls(graph, dataset, metric, reference, metric.score(samples), store, arithmetic)

    @property
    def is_classifier(self) -> bool:
        """Whether agreement of the most likely answer makes sense for this metric."""
        return self.metric.name in ("top1", "perplexity", "agreement")

    def measure(self, plan: BitPlan) -> Measurement:
        """The plan's scores on every evaluation sample, from the store where it has them."""
        if self.store is None:
            return decode_measurement(self.run(plan))
        key = {
            "kind": "evaluation with distance",
            "model": self.graph.hash,
            "data": self.dataset.hash,
            "plan": plan.id,
            "metric": self.metric.name,
            "arithmetic": self.arithmetic,
            "qsim_version": qsim.__version__,  # what another emulator measured is another measurement
        }
        return decode_measurement(self.store.measure(key, lambda: self.run(plan)))

    def value(self, scores: Array, half: Array) -> float:
        """The metric over the samples of one half."""
        return self.metric.value(scores[half])

    def run(self, plan: BitPlan) -> dict[str, Any]:
        """A fresh measurement as plain data, for a store; `decode_measurement` reads it."""
        start = time.perf_counter()
        output = qsim.emulate(
            self.graph, plan, dict(self.dataset.evaluation), arithmetic=self.arithmetic
        ).output
        seconds = time.perf_counter() - start
        samples = Samples(output, self.reference, first_input(self.dataset.evaluation), self.dataset.labels)
        agreement = METRICS["agreement"].score(samples)[:, 0] if self.is_classifier else None
        return {
            "scores": _encode(self.metric.score(samples)),
            "agreement": None if agreement is None else _encode(agreement),
            "distance": _encode(self.distance(output)),
            "seconds": seconds,
        }

    def distance(self, output: Array) -> Array:
        """[samples] from the float32 output: the mean Kullback-Leibler divergence (nats) of softmax(float32) from
        softmax(output) where the metric classifies, else noise power over the mean signal power.
        """
        if self.is_classifier:
            rows = divergences(self.reference, output)
            return rows.reshape(len(rows), -1).mean(1)
        exact = self.reference.reshape(len(self.reference), -1).astype(np.float64)
        signal = float((exact**2).sum(1).mean()) or 1.0
        return np.asarray(((output.reshape(exact.shape) - exact) ** 2).sum(1) / signal)


def divergences(reference: Array, output: Array) -> Array:
    """KL(softmax(reference) || softmax(output)) in nats of every row of the last axis."""
    p, q = _log_softmax(reference), _log_softmax(output)
    return np.asarray(np.maximum((np.exp(p) * (p - q)).sum(-1), 0.0))


def _log_softmax(logits: Array) -> Array:
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)))


def first_input(inputs: Mapping[str, Array]) -> Array:
    """What a metric that compares with the input looks at."""
    return next(iter(inputs.values()))


def _encode(array: Array) -> dict[str, Any]:
    """Bits, not decimals: a stored score is the measured one."""
    return {"shape": list(array.shape), "float64": base64.b64encode(array.astype("<f8").tobytes()).decode()}


def decode_measurement(stored: Mapping[str, Any]) -> Measurement:
    """What `Evaluator.run` measured."""

    def array(entry: Mapping[str, Any] | None) -> Array | None:
        return (
            None
            if entry is None
            else np.frombuffer(base64.b64decode(entry["float64"]), "<f8").reshape(entry["shape"])
        )

    scores, distance = array(stored["scores"]), array(stored["distance"])
    assert scores is not None and distance is not None
    return Measurement(scores, array(stored["agreement"]), distance, stored["seconds"])
