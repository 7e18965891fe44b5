"""Columns over pairs: costs are arrays, and what takes a loop is computed once for each different combination."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Costs = dict[str, Floats]
"""By cost name: [pairs], or [3, pairs] with the estimate, low90 and high90."""
T = TypeVar("T")

SUFFIXES = ("", "_low90", "_high90")
LARGEST_KEY = 2**62


def group(*columns: NDArray[Any]) -> tuple[Indices, Indices]:
    """The first row of every different combination of whole numbers >= 0, and for each row its combination's index."""
    import pandas as pd

    key, span = np.zeros(len(columns[0]), dtype=np.int64), 1
    for column in columns:
        size = int(column.max(initial=0)) + 1
        if span * size > LARGEST_KEY:
            key, different = pd.factorize(key)
            span = len(different)
        key, span = key * size + column.astype(np.int64), span * size
    index, different = pd.factorize(key)
    first = np.empty(len(different), dtype=np.int64)
    first[index[::-1]] = np.arange(len(key))[::-1]
    return first, index.astype(np.int64, copy=False)


def once(value: Callable[[int], Sequence[float]], *columns: NDArray[Any]) -> Floats:
    """[values, rows]: `value(row)`, computed for one row of every different combination of `columns`."""
    first, index = group(*columns)
    different = np.array([value(row) for row in first.tolist()], dtype=np.float64)
    return np.ascontiguousarray(different.T)[:, index]


def intern(items: Sequence[Any], convert: Callable[[Any], T]) -> tuple[Indices, tuple[T, ...]]:
    """Indices into the different converted values, and these in order of appearance.

    Grouped by object identity first (a spec's own hash walks its whole tree), by value second.
    """
    first, index = group(np.fromiter(map(id, items), dtype=np.int64, count=len(items)))
    places: dict[Hashable, int] = {}
    values: list[T] = []
    numbers = np.empty(len(first), dtype=np.int64)
    for place, row in enumerate(first.tolist()):
        value = convert(items[row])
        numbers[place] = places.setdefault(value, len(places))
        if len(values) < len(places):
            values.append(value)
    return numbers[index], tuple(values)


def sides(factor: float) -> Floats:
    """[3, 1]: what an estimate is multiplied by for itself and the ends of an interval of `factor` either way."""
    return np.array([[1.0], [1 / factor], [factor]])


def flattened(costs: Costs) -> dict[str, Floats]:
    """One column a name: intervals become <name>_low90 and <name>_high90."""
    columns: dict[str, Floats] = {}
    for name, values in costs.items():
        rows = values if values.ndim == 2 else values[None]
        columns |= {name + suffix: row for suffix, row in zip(SUFFIXES, rows)}
    return columns
