"""Task metrics: scores per sample first, one value over any subset of samples second.

Keeping a row of scores per sample is what lets a search choose on one half of the data and report the other,
with paired intervals, from a single emulation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.errors import UserError

Array = NDArray[Any]
Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Samples:
    """What a metric may look at: one row a sample in every array; `reference` is the float32 network's output."""

    output: Array
    reference: Array
    inputs: Array
    labels: Array | None


@dataclass(frozen=True)
class Metric:
    """A task metric.

    score: Samples -> [samples, k] float64, one row a sample, independent of the other samples.
    value: rows -> one number (top-1 and agreement: a fraction; perplexity: exp(nats/token); sqnr: dB).
    is_mean: the value is the mean of the one column of scores, so that bootstrap draws are matrix products.
    """

    name: str
    unit: str
    higher_is_better: bool
    score: Callable[[Samples], Scores]
    value: Callable[[Scores], float]
    is_mean: bool = False


def get_metric(name: str) -> Metric:
    """A metric by name, or the user's own `file.py:function` (Samples -> one score a sample; the mean counts)."""
    if name in METRICS:
        return METRICS[name]
    if ".py:" in name:
        return _own_metric(name)
    raise UserError(
        f"metric '{name}' is unknown; there are {', '.join(METRICS)}, or your own function as file.py:function"
    )


def _mean(scores: Scores) -> float:
    return float(scores[:, 0].mean())


def _labels(samples: Samples, metric: str) -> Array:
    if samples.labels is None:
        raise UserError(
            f"metric '{metric}' needs y_eval, which the data do not have; agreement and sqnr need no labels"
        )
    return samples.labels


def _argmax(output: Array) -> Array:
    flat = output.reshape(len(output), -1, output.shape[-1]) if output.ndim > 2 else output
    return np.asarray(flat.argmax(-1))


def _top1(samples: Samples) -> Scores:
    hits = _argmax(samples.output) == _labels(samples, "top1").reshape(_argmax(samples.output).shape)
    return hits.reshape(len(hits), -1).mean(1, keepdims=True, dtype=np.float64)


def _agreement(samples: Samples) -> Scores:
    same = _argmax(samples.output) == _argmax(samples.reference)
    return same.reshape(len(same), -1).mean(1, keepdims=True, dtype=np.float64)


def _negative_log_likelihood(samples: Samples) -> Scores:
    logits = samples.output.astype(np.float64)
    logits -= logits.max(-1, keepdims=True)
    labels = _labels(samples, "perplexity").astype(np.int64)
    if labels.shape != logits.shape[:-1]:
        raise UserError(
            f"metric 'perplexity' needs one label a position: y_eval {labels.shape}, logits {logits.shape}"
        )
    nats = np.log(np.exp(logits).sum(-1)) - np.take_along_axis(logits, labels[..., None], -1)[..., 0]
    return np.asarray(nats.reshape(len(nats), -1).mean(1, keepdims=True))


def _perplexity(scores: Scores) -> float:
    return float(np.exp(scores[:, 0].mean()))


def _noise(samples: Samples) -> Scores:
    reference = samples.reference.reshape(len(samples.reference), -1).astype(np.float64)
    output = samples.output.reshape(len(samples.output), -1).astype(np.float64)
    return np.stack([(reference**2).sum(1), ((output - reference) ** 2).sum(1)], 1)


def _sqnr_db(scores: Scores) -> float:
    signal, noise = scores.sum(0)
    with np.errstate(divide="ignore"):
        return float(10 * np.log10(signal / noise)) if noise > 0 else float("inf")


def _reconstruction_error(samples: Samples) -> Scores:
    difference = samples.output.reshape(len(samples.output), -1) - samples.inputs.reshape(
        len(samples.inputs), -1
    )
    return np.stack(
        [(difference**2).mean(1, dtype=np.float64), _labels(samples, "reconstruction_auc").astype(float)], 1
    )


def _last_score(samples: Samples) -> Scores:
    output = samples.output.reshape(len(samples.output), -1)
    return np.stack([output[:, -1].astype(np.float64), _labels(samples, "auc").reshape(-1).astype(float)], 1)


def _auc(scores: Scores) -> float:
    """Area under the ROC curve by ranks, ties counted half (Mann-Whitney); column 0 scores, column 1 labels 0/1."""
    _, inverse, count = np.unique(scores[:, 0], return_inverse=True, return_counts=True)
    rank = (np.cumsum(count) - (count - 1) / 2)[inverse]
    positive = scores[:, 1] == 1
    positives, negatives = int(positive.sum()), int((~positive).sum())
    if positives == 0 or negatives == 0:
        return float("nan")
    return float((rank[positive].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def _own_metric(name: str) -> Metric:
    file, function_name = name.rsplit(":", 1)
    namespace: dict[str, Any] = {"__file__": file, "__name__": Path(file).stem}
    try:
        exec(compile(Path(file).read_text(), file, "exec"), namespace)
    except OSError as error:
        raise UserError(f"metric file {file}: cannot be read ({error.strerror})") from None
    function = namespace.get(function_name)
    if not callable(function):
        raise UserError(f"metric file {file} has no function '{function_name}'")

    def score(samples: Samples) -> Scores:
        rows = np.asarray(function(samples), np.float64)
        if rows.shape != (len(samples.output),):
            raise UserError(
                f"metric {name} must return one score a sample, shape ({len(samples.output)},), not {rows.shape}"
            )
        return rows[:, None]

    return Metric(function_name, "", True, score, _mean, is_mean=True)


METRICS = {
    metric.name: metric
    for metric in (
        Metric("top1", "%", True, _top1, _mean, is_mean=True),
        Metric("agreement", "%", True, _agreement, _mean, is_mean=True),
        Metric("perplexity", "", False, _negative_log_likelihood, _perplexity),
        Metric("auc", "", True, _last_score, _auc),
        Metric("reconstruction_auc", "", True, _reconstruction_error, _auc),
        Metric("sqnr", "dB", True, _noise, _sqnr_db),
    )
}
