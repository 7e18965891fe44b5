"""Errors in units in the last place of a format."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qsim.formats import Element, values

Reals = NDArray[np.float64]


def ulp(reals: ArrayLike, element: Element, scale: float = 1.0) -> Reals:
    """The distance between the two finite values of scale * `element` that enclose each real number.

    Beyond the largest value, the distance below it. (Kahan's ulp; Muller et al., Handbook of Floating-Point
    Arithmetic, section 2.6.) For formats of up to 16 bits.
    """
    grid = _grid(element) * scale
    index = np.clip(np.searchsorted(grid, np.asarray(reals, np.float64), side="right"), 1, len(grid) - 1)
    return np.asarray(grid[index] - grid[index - 1])


def error_in_ulp(ours: ArrayLike, exact: ArrayLike, element: Element, scale: float = 1.0) -> Reals:
    """|ours - exact| / ulp(exact), the exact value first brought into the range of the format (saturation)."""
    grid = _grid(element) * scale
    reachable = np.clip(np.asarray(exact, np.float64), grid[0], grid[-1])
    return np.asarray(np.abs(np.asarray(ours, np.float64) - reachable) / ulp(reachable, element, scale))


def _grid(element: Element) -> Any:
    return np.unique(values(element.name))
