"""Folding: how many output channels (PE) and products each (SIMD) a streaming layer computes in one cycle.

cycles = (outputs / PE) (reduction / SIMD) vectors, PE a divisor of the outputs and SIMD of the reduction (FINN-R,
Blott et al. 2018, section 4).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from hwmodels.workload import Shape


@dataclass(frozen=True)
class Folding:
    """pe: output channels, simd: products of each, per cycle; cycles: of one sample."""

    pe: int
    simd: int
    cycles: int


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
    best: tuple[int, int, int] | None = None
    work = shape.macs // (shape.outputs * shape.reduction)
    for pe in divisors(shape.outputs):
        for simd in divisors(shape.reduction):
            cycles = (shape.outputs // pe) * (shape.reduction // simd) * work
            if cycles <= cycle_budget:
                best = min(best or (pe * simd, pe, simd), (pe * simd, pe, simd))
                break
    if best is None:
        return Folding(shape.outputs, shape.reduction, work)
    pe, simd = best[1:]
    return Folding(pe, simd, (shape.outputs // pe) * (shape.reduction // simd) * work)
