"""Casting to formats given by a list of values: find the two neighbours, then round as everywhere."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.casting.rounding import rounds_away
from qsim.formats import TableElement
from qsim.formats.table import Grid
from qsim.spec import Cast, Rounding

Array = NDArray[np.float64]


def cast_to_table(x: Array, element: TableElement, cast: Cast, random_bits: NDArray[Any] | None) -> Array:
    """The values of `element` that `x` becomes. Beyond either end: the end, 0 for saturate_zero, NaN (NaR)
    for infinity with `ieee`; saturate_symmetric limits to the smaller of the two magnitudes.
    """
    grid = element.grid
    inside = np.clip(np.where(np.isnan(x), 0.0, x), grid.values[0], grid.values[-1])
    upper = np.searchsorted(grid.values, inside, side="left")
    is_exact = grid.values[upper] == inside
    lower = np.where(is_exact, upper, upper - 1)
    is_negative = inside < 0
    toward, away = np.where(is_negative, upper, lower), np.where(is_negative, lower, upper)
    gap = np.minimum(lower, len(grid.values) - 2)
    if cast.rounding.is_stochastic:
        fraction = _exact_fraction(inside, grid.values[toward], grid.values[away], cast.rounding)
    else:
        fraction = _ordered_fraction(inside, grid, gap, is_negative)
    fraction = np.where(is_exact, 0.0, fraction)
    takes_away = rounds_away(cast.rounding, fraction, ~grid.is_even[toward], is_negative, random_bits)
    value = grid.values[np.where(takes_away, away, toward)]
    return _overflow(value, x, grid, cast)


def _ordered_fraction(x: Array, grid: Grid, gap: NDArray[Any], is_negative: NDArray[np.bool_]) -> Array:
    """1/4, 1/2 or 3/4: before, at or beyond the bound of its gap, seen from zero. All that nearest kinds ask for."""
    if len(grid.bounds) == 0:
        return np.zeros_like(x)
    bound, error = grid.bounds[gap], grid.bound_error[gap]
    is_above = (x > bound) | ((x == bound) & (error < 0))
    is_below = (x < bound) | ((x == bound) & (error > 0))
    upward = np.where(is_above, 0.75, np.where(is_below, 0.25, 0.5))
    return np.where(is_negative, 1.0 - upward, upward)


def _exact_fraction(x: Array, toward: Array, away: Array, rounding: Rounding) -> Array:
    """A fraction that every stochastic kind treats like the exact (x - toward) / (away - toward).

    They compare the fraction with multiples of 2^-(k+1) only: it is cut to those, plus half of one where
    inexact. Near a multiple float64 may err, so those few are decided in rational arithmetic.
    """
    resolution = float(2 << rounding.random_bits)
    gap = np.where(away == toward, 1.0, away - toward)
    scaled = (x - toward) / gap * resolution
    near = np.abs(scaled - np.rint(scaled)) <= 2.0**-48 * np.maximum(1.0, scaled)
    cut = np.where(scaled == np.floor(scaled), scaled, np.floor(scaled) + 0.5)
    for index in zip(*np.nonzero(near & (away != toward)), strict=True):
        start, end = Fraction(float(toward[index])), Fraction(float(away[index]))
        exact = (Fraction(float(x[index])) - start) / (end - start) * int(resolution)
        cut[index] = exact.numerator // exact.denominator + (0.0 if exact.denominator == 1 else 0.5)
    return cut / resolution


def _overflow(value: Array, x: Array, grid: Grid, cast: Cast) -> Array:
    low, high = grid.values[0], grid.values[-1]
    is_outside = (x < low) | (x > high)
    match cast.overflow:
        case "saturate_symmetric":
            limit = min(-low, high) if low < 0 else high
            value = np.clip(value, max(-limit, low), limit)
        case "saturate_zero":
            value = np.where(is_outside, 0.0, value)
        case "ieee":
            value = np.where(np.isinf(x), np.nan, value)
    return np.where(np.isnan(x), np.nan, value)
