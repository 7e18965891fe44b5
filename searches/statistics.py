"""How sure a measured number is, and how good a set of points is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qsim.errors import UserError

Floats = NDArray[np.float64]
Value = Callable[[Any], float]
RESAMPLES = 2000
CHUNK_ELEMENTS = 4_000_000  # of the resampling weights, to bound memory


class Interval(NamedTuple):
    """A measured value with its confidence interval."""

    value: float
    low: float
    high: float


def wilson_interval(correct: float, samples: int, confidence: float = 0.95) -> Interval:
    """Interval of a share of right answers (Wilson 1927): correct / samples with its score interval."""
    if samples <= 0 or not 0 <= correct <= samples:
        raise UserError(f"{correct} right answers of {samples} samples have no confidence interval")
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share = correct / samples
    centre = (share + z * z / (2 * samples)) / (1 + z * z / samples)
    half = z / (1 + z * z / samples) * np.sqrt(share * (1 - share) / samples + (z / (2 * samples)) ** 2)
    # The interval of none (all) right starts at 0 (ends at 1) exactly; in floating point only nearly.
    low = 0.0 if correct == 0 else float(centre - half)
    high = 1.0 if correct == samples else float(centre + half)
    return Interval(share, low, high)


def bootstrap_interval(
    scores: ArrayLike,
    value: Value | None = None,
    *,
    seed: int = 0,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
) -> Interval:
    """Percentile bootstrap of a metric over samples: scores [samples] or [samples, k]; value None is the
    mean.

    A `value` other than the mean is called once per resample on the resampled scores.
    """
    table = _table(scores)
    drawn = _resampled(table, value, seed, resamples)
    return Interval(_value(table, value), *_percentiles(drawn, confidence))


def paired_difference(
    scores: ArrayLike,
    reference: ArrayLike,
    value: Value | None = None,
    *,
    seed: int = 0,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
) -> Interval:
    """value(scores) - value(reference) on the same samples, both resampled together (paired bootstrap)."""
    ours, theirs = _table(scores), _table(reference)
    if ours.shape[0] != theirs.shape[0]:
        raise UserError(
            f"a paired difference needs the same samples, not {ours.shape[0]} and {theirs.shape[0]}"
        )
    drawn = _resampled(ours, value, seed, resamples) - _resampled(theirs, value, seed, resamples)
    return Interval(_value(ours, value) - _value(theirs, value), *_percentiles(drawn, confidence))


def hypervolume(points: Sequence[Sequence[Any]] | NDArray[Any], reference: Sequence[Any]) -> Any:
    """Volume that the points (minimised) dominate below `reference`; exact for integers, any number of costs.

    Points that are not below the reference in every cost add nothing. Slices along the last cost (Zitzler
    1999), so it is meant for two or three costs and up to some thousand points.
    """
    rows = points.tolist() if isinstance(points, np.ndarray) else [list(point) for point in points]
    corner = [r.item() if isinstance(r, np.generic) else r for r in reference]
    inside = [row for row in rows if all(p < r for p, r in zip(row, corner, strict=True))]
    return _volume(inside, corner)


def _volume(points: list[list[Any]], corner: list[Any]) -> Any:
    if not points:
        return 0
    if len(corner) == 1:
        return corner[0] - min(point[0] for point in points)
    if len(corner) == 2:
        area, lowest = 0, corner[1]
        for first, second in sorted(points):
            if second < lowest:
                area += (corner[0] - first) * (lowest - second)
                lowest = second
        return area
    points = sorted(points, key=lambda point: point[-1])
    heights = [*(point[-1] for point in points[1:]), corner[-1]]
    volume, alive = 0, []
    for point, top in zip(points, heights):
        alive.append(point[:-1])
        if top > point[-1]:
            volume += _volume(alive, corner[:-1]) * (top - point[-1])
    return volume


def _table(scores: ArrayLike) -> Floats:
    table = np.asarray(scores, dtype=np.float64)
    if table.ndim == 0 or not len(table):
        raise UserError("a confidence interval needs at least one sample")
    return table


def _value(table: Floats, value: Value | None) -> float:
    return float(table.mean()) if value is None else float(value(table))


def _resampled(table: Floats, value: Value | None, seed: int, resamples: int) -> Floats:
    """The metric on draws with replacement, which depend on the seed and the number of samples only."""
    n = len(table)
    random = np.random.default_rng(seed)
    per_sample = table.reshape(n, -1).mean(axis=1)
    drawn = np.empty(resamples)
    chunk = max(1, CHUNK_ELEMENTS // n)
    for start in range(0, resamples, chunk):
        picks = random.integers(n, size=(min(chunk, resamples - start), n))
        if value is None:
            drawn[start : start + len(picks)] = per_sample[picks].mean(axis=1)
        else:
            drawn[start : start + len(picks)] = [value(table[pick]) for pick in picks]
    return drawn


def _percentiles(drawn: Floats, confidence: float) -> tuple[float, float]:
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
