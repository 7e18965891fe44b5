"""Clipping by entropy: the range whose quantized histogram says most about the values.

Migacz, "8-bit Inference with TensorRT", NVIDIA, GTC 2017 (s7310): P is the histogram of the values with all beyond
the clip counted in the last bin inside it, Q the histogram inside the clip with the mass of every quantization
level spread evenly over its occupied bins; the clip of least KL(P || Q) is taken. There a level is one of 128 equal
intervals. Here it is what the spec's own cast makes of a bin's centre, so that minifloats, posits, tables and zero
points are served by the same lines. Where P has counts and Q none, Q gets SMOOTHING, as in MXNet's calibration.

Exact zeros, which are no error under any scale, are left out: after a ReLU they would outweigh all else.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.casting import quantize
from qsim.ptq.range_search import Ends, ScaleAndZero, scale_of_range, search_range
from qsim.spec import Spec

Array = NDArray[Any]
BINS = 2048
SMOOTHING = 1e-4


def kl_scale(sample: Array, ends: Ends, spec: Spec) -> ScaleAndZero:
    """(scale, zero point) of least divergence for `sample`, whose range is `ends`; a constant keeps the whole range."""
    values = sample[np.isfinite(sample) & (sample != 0)]
    if not values.size or values.min() == values.max():
        return scale_of_range(ends, spec)
    counts, edges = np.histogram(values.astype(np.float64), BINS)
    centres = (edges[:-1] + edges[1:]) / 2
    return search_range(ends, spec, lambda found: divergence(counts, centres, spec, found))


def divergence(counts: Array, centres: Array, spec: Spec, found: ScaleAndZero) -> float:
    """KL(P || Q) in nats of a histogram under a scale; infinite where no value lies inside the clip."""
    scale, zero_point = float(found[0]), 0.0 if found[1] is None else float(found[1])
    lowest, largest = ((end - zero_point) * scale for end in (spec.element.lowest, spec.element.largest))
    inside = (centres >= lowest) & (centres <= largest)
    kept = counts[inside].astype(np.float64)
    if not kept.any():
        return np.inf
    reference = kept.copy()
    reference[0] += counts[centres < lowest].sum()
    reference[-1] += counts[centres > largest].sum()
    p, q = reference / reference.sum(), _spread_by_level(kept, centres[inside], spec, found)
    q = np.where((q == 0) & (p > 0), SMOOTHING, q)
    some = p > 0
    return float((p[some] * np.log(p[some] / (q[some] / q.sum()))).sum())


def _spread_by_level(kept: Array, centres: Array, spec: Spec, found: ScaleAndZero) -> Array:
    """The share of each bin when all that is known of a value is its level."""
    cast = quantize(centres, spec, scale=found[0], zero_point=found[1])
    _, level = np.unique(cast, return_inverse=True)
    occupied = kept > 0
    mass, bins = np.bincount(level, kept), np.bincount(level, occupied)
    expanded = np.where(occupied, mass[level] / np.maximum(bins[level], 1), 0.0)
    return np.asarray(expanded / expanded.sum())
