"""Information that rounding loses: entropy of a tensor's values in 256 bins, less that of its rounded values.

Value-driven search of QuantMCU (Tao et al., DATE 2024, arXiv 2401.13714) scores formats by the entropy of quantized
feature maps. In bits a value, summed over the group's weights and activations; written from the published description,
the reference of 256 bins over the tensor's range is ours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from searches.sensitivity.measures.measure import Measure
from searches.sensitivity.scan import Scan, Score, Trial

BINS = 256
LARGEST_SAMPLE = 1 << 16  # values a tensor that the histograms are of


def entropy_bits(values: NDArray[Any]) -> float:
    """Shannon entropy of the empirical distribution of the values, in bits; 0 for none."""
    _, counts = np.unique(values, return_counts=True)
    shares = counts / max(1, values.size)
    return float(-(shares * np.log2(shares)).sum()) if values.size else 0.0


def binned(values: NDArray[Any]) -> NDArray[Any]:
    """The index of each value among 256 equal bins over their range."""
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    return np.minimum((values - low) / ((high - low) or 1.0) * BINS, BINS - 1).astype(np.int64)


def _prepare(scan: Scan) -> Callable[[Trial], Score]:
    whole = {
        name: entropy_bits(binned(scan.bounded.exact.flat(name, LARGEST_SAMPLE).astype(np.float64)))
        for name in scan.tensors
    }

    def score(trial: Trial) -> Score:
        cast = [
            name for name, tensor in trial.plan.tensors.items() if tensor.role != "bias" and name in whole
        ]
        lost = [whole[name] - entropy_bits(trial.casts.flat(name, LARGEST_SAMPLE)) for name in cast]
        return Score(float(np.maximum(lost, 0.0).sum()))

    return score


ENTROPY = Measure("entropy", "bits", _prepare)
