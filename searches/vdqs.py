"""Value-driven quantization search, after VDQS of QuantMCU (Tao et al., DATE 2024, arXiv 2401.13714): no
solver.

Every group first takes the option with the best value, which weighs the computation it saves against the
entropy it loses. Then, while memory (or any budget) is exceeded, groups step down, the one that gives up the
least value per unit of excess first. Written from the published description; the normalisation and the
stepping rule are ours.
"""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from qsim.errors import UserError
from searches.moves import Moves
from searches.problem import Problem, SearchResult

SMALLEST_GAIN = 1e-12


def solve(problem: Problem, *, entropy_loss: str, compute: str, weight: float = 0.5) -> SearchResult:
    """A selection driven by two columns: `entropy_loss` (information lost) and `compute` (BOPs, cycles), both
    summed.

    weight: of the entropy against the computation, 0 to 1. "unknown": no step lowers what is left over the
    budgets.
    """
    started = time.perf_counter()
    for name in (entropy_loss, compute):
        if name not in problem.columns:
            raise UserError(f"vdqs needs the total '{name}'; this problem has {', '.join(problem.columns)}")
    if not 0 <= weight <= 1:
        raise UserError(
            f"vdqs: weight is {weight}, it lies between 0 (computation only) and 1 (entropy only)"
        )
    loss = weight * _share(problem, entropy_loss) + (1 - weight) * _share(problem, compute)
    moves = Moves(problem)
    current = np.array([
        int(loss[start : start + size].argmin()) for start, size in zip(moves.start, problem.sizes,
        strict=True)
    ])  # fmt: skip
    while True:
        excess = moves.outcome(current).excess
        stay = moves.start + current
        gain = excess[stay][moves.group] - excess
        helpful = np.flatnonzero(gain > SMALLEST_GAIN)
        if not len(helpful):
            break
        price = (loss[helpful] - loss[stay][moves.group[helpful]]) / gain[helpful]
        best = helpful[np.lexsort((-gain[helpful], price))[0]]
        current[moves.group[best]] = moves.option[best]
    selection = problem.evaluate(current)
    seconds = time.perf_counter() - started
    if not selection.feasible:
        return SearchResult(
            (), "vdqs", "unknown", seconds=seconds, claim="the steps ended outside the budgets"
        )
    return SearchResult((selection,), "vdqs", "feasible", seconds=seconds, claim="nothing is proven")


def _share(problem: Problem, name: str) -> NDArray[np.float64]:
    """Each option's value as a share of the range between all-smallest and all-largest: [sum of options]."""
    values = problem.columns[name].values
    span = sum(int(v.max()) - int(v.min()) for v in values)
    return np.concatenate([(v - v.min()) / max(1, span) for v in values])
