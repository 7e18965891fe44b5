"""Folding: how many output channels (PE) and products each (SIMD) a streaming layer computes in one cycle.

cycles = (outputs / PE) (reduction / SIMD) vectors, PE a divisor of the outputs and SIMD of the reduction (FINN-R,
Blott et al. 2018, section 4).
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from hwmodels.columns import Floats
from hwmodels.workload import Pairs, Shape


@dataclass(frozen=True)
class Folding:
    """pe: output channels, simd: products of each, per cycle; cycles: of one sample."""

    pe: int
    simd: int
    cycles: int


@dataclass(frozen=True)
class Foldings:
    """The same as columns [pairs]."""

    pe: Floats
    simd: Floats
    cycles: Floats


@lru_cache(maxsize=4096)
def divisors(number: int) -> tuple[int, ...]:
    """Divisors in ascending order."""
    small = [d for d in range(1, int(number**0.5) + 1) if number % d == 0]
    return tuple(sorted({*small, *(number // d for d in small)}))


@lru_cache(maxsize=65536)
def fold(shape: Shape, cycle_budget: int) -> Folding:
    """The folding with the fewest multipliers within the budget; of several, the one with fewer PE, since every PE
    has an accumulator. If even full parallelism is too slow, full parallelism.
    """
    work = max(1, shape.macs // (shape.outputs * shape.reduction))
    candidates = []
    for pe in divisors(shape.outputs):
        least = -(-(shape.outputs // pe) * shape.reduction * work // cycle_budget)
        if least <= shape.reduction:
            simd = divisors(shape.reduction)[bisect_left(divisors(shape.reduction), least)]
            candidates.append((pe * simd, pe, simd))
    _, pe, simd = min(candidates, default=(0, shape.outputs, shape.reduction))
    return Folding(pe, simd, (shape.outputs // pe) * (shape.reduction // simd) * work)


def fold_layers(pairs: Pairs, cycle_budget: int) -> Foldings:
    """`fold` of every pair's layer, searched once a shape."""
    folded = [fold(shape, cycle_budget) for shape in pairs.shapes]
    columns = np.array([(x.pe, x.simd, x.cycles) for x in folded], dtype=np.float64).T[:, pairs.shape]
    return Foldings(*columns)
