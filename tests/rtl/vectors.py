"""Codes that make circuits work hard: every one where they are few, else the ends of every range and random ones."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

import qsim
from qsim.formats import Element

Array = NDArray[Any]
EXHAUSTIVE_BITS = 16


def element_of(spec: str) -> Element:
    return qsim.parse(spec).element


def finite_codes(element: Element) -> Array:
    """Every code that holds a finite number."""
    codes = np.arange(1 << element.bits)
    return codes[np.isfinite(element.decode(codes))]


def hard_codes(element: Element, count: int, rng: np.random.Generator) -> Array:
    """`count` codes of finite numbers: half random, half from the ends of the ranges of magnitude and exponent."""
    width = element.bits
    edges = {0, 1, 2, 3}
    for bit in range(width):
        edges |= {
            1 << bit,
            (1 << bit) - 1,
            (1 << bit) + 1,
            (1 << width) - 1 - (1 << bit),
            (1 << width) - (1 << bit),
        }
    edge_codes = np.array(sorted(code for code in edges if 0 <= code < 1 << width), object)
    drawn = rng.integers(0, 1 << min(width, 62), count).astype(object)
    drawn[::2] = rng.choice(edge_codes, len(drawn[::2]))
    codes = drawn.astype(np.uint64)
    return np.where(np.isfinite(element.decode(codes)), codes, 0).astype(np.int64)


def pairs(a: Element, b: Element, rng: np.random.Generator, count: int = 3000) -> tuple[Array, Array]:
    """All pairs of codes where both have 16 bits or fewer together, else `count` hard ones."""
    if a.bits + b.bits <= EXHAUSTIVE_BITS:
        grid = np.meshgrid(finite_codes(a), finite_codes(b), indexing="ij")
        return grid[0].ravel(), grid[1].ravel()
    return hard_codes(a, count, rng), hard_codes(b, count, rng)


def unsigned_codes(values: Array, spec: str) -> Array:
    """The codes of numbers of `spec` as bit patterns; a zero keeps its sign."""
    codes = np.asarray(qsim.encode(np.asarray(values, np.float64), spec).codes).astype(np.int64)
    return codes & ((1 << element_of(spec).bits) - 1)


def bits_of(codes: Array, width: int) -> Array:
    return np.asarray(codes).astype(np.int64) & ((1 << width) - 1)
