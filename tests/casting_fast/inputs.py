"""Inputs that casts get wrong: midpoints, their neighbours, thresholds, subnormals, specials, random bit patterns."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def hard_values(dtype: Any = np.float32, count: int = 3300) -> NDArray[Any]:
    """About 5 * count values; float64 ones also lie a few float64 ulps beside float32 numbers."""
    draw = np.random.default_rng(20)
    patterns = draw.integers(0, 1 << 32, count, dtype=np.uint32).view(np.float32)
    patterns = np.where(np.isnan(patterns), np.float32(np.nan), patterns)  # quiet ones: casting others warns
    normal = draw.standard_normal(count) * np.exp2(draw.integers(-20, 16, count))
    ties = draw.integers(-64, 65, count) * np.exp2(draw.integers(-18, 13, count))
    ties = ties.astype(np.float32)
    above, below = np.nextafter(ties, np.float32(np.inf)), np.nextafter(ties, np.float32(-np.inf))
    tiny = np.float32(1e-45)
    specials = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, tiny, -tiny, 3.4e38, -3.4e38], np.float32)
    values = np.concatenate([patterns, normal.astype(np.float32), ties, above, below, specials]).astype(dtype)
    if dtype == np.float64:
        values = np.concatenate([values, values * (1 + 2.0**-50), values * (1 - 2.0**-50)])
    return values


def without_nan(x: NDArray[Any]) -> NDArray[Any]:
    """`x` with 1 in place of NaN."""
    return np.where(np.isnan(x), x.dtype.type(1), x)


def same_bits(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether values and signs of zero agree; all NaNs are one."""
    return ((a == b) & (np.signbit(a) == np.signbit(b))) | (np.isnan(a) & np.isnan(b))
