"""The core of a problem: the options that a selection at least as good as a known one could still use.

Lagrangian relaxation prices every budget into the objective, so that each group decides on its own; the sum
of the groups' minima is a lower bound (Everett 1963; Held, Wolfe and Crowder 1974 for the steps). Forcing one
option raises the bound by its reduced cost; where that exceeds the known objective, the option is out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from searches.problem import IntArray, Problem
from searches.reduce import Reduced, least_sums, restrict

Floats = NDArray[np.float64]
STEPS = 300
STALLED = 10  # steps without a better bound before they are halved
MARGIN = 1e-9  # of the largest magnitude that was added up, for the float64 sums


@dataclass(frozen=True)
class Toll:
    """A redundant budget: a selection with objective <= ceiling pays at most `limit`, each option at least
    this.
    """

    values: tuple[IntArray, ...]
    limit: int


def core(problem: Problem, ceiling: int) -> Reduced:
    """The problem without the options that every selection with first objective <= `ceiling` lacks.

    `ceiling` must be reachable: the objective of a selection that meets the budgets.
    """
    return relax(problem, ceiling)[0]


def relax(problem: Problem, ceiling: int) -> tuple[Reduced, Toll]:
    """The core, and the reduced costs of its options at the best prices as a toll (in integers of the
    objective).
    """
    cost, rows, limits = _relaxation(problem)
    margin = MARGIN * float(np.abs(cost[np.isfinite(cost)]).max() * len(cost) + abs(ceiling) + 1)
    prices, step = np.zeros(len(rows)), 1.0
    best, stalled, reduced_costs = -np.inf, 0, cost
    out = np.zeros(cost.shape, dtype=bool)
    for _ in range(STEPS):
        priced = cost + np.tensordot(prices, rows, axes=1)
        least = priced.min(axis=1)
        bound = float(least.sum() - prices @ limits)
        out |= bound + priced - least[:, None] > ceiling + margin
        if bound > best:
            best, stalled, reduced_costs = bound, 0, priced - least[:, None]
        else:
            stalled += 1
        if stalled == STALLED:
            step, stalled = step / 2, 0
        slope = rows[:, np.arange(len(cost)), priced.argmin(axis=1)].sum(axis=1) - limits
        slope[(prices == 0) & (slope < 0)] = 0
        if not slope.any() or bound >= ceiling:
            break
        prices = np.maximum(0, prices + step * (ceiling - bound) / (slope @ slope) * slope)
    kept = restrict(problem, [~out[g, :size] for g, size in enumerate(problem.sizes)])
    tolls = tuple(np.floor(reduced_costs[g, where]).astype(np.int64) for g, where in enumerate(kept.kept))
    return kept, Toll(tolls, int(np.ceil(ceiling - best + margin)))


def _relaxation(problem: Problem) -> tuple[Floats, Floats, Floats]:
    """(objective [groups, options], budget rows [rows, groups, options], limits [rows]), the rows scaled to
    about 1.

    Absent options cost infinity. A minimised peak is bounded by its cut with the largest least sum.
    """
    shape = (len(problem.groups), max(problem.sizes))
    cost = np.full(shape, np.inf)
    for g, size in enumerate(problem.sizes):
        cost[g, :size] = 0
    sums = least_sums(problem, problem.objectives[0])
    for g, share in max(sums, key=lambda shares: sum(int(share.min()) for share in shares.values())).items():
        cost[g, : len(share)] = share
    rows, limits = [], []
    for budgeted, budget in problem.budgets.items():
        for shares in least_sums(problem, budgeted):
            row = np.zeros(shape)
            for g, share in shares.items():
                row[g, : len(share)] = share - share.min()
            slack = float(budget - sum(int(share.min()) for share in shares.values()))
            size = max(1.0, row.max(axis=1).sum())
            rows.append(row / size)
            limits.append(slack / size)
    return cost, np.array(rows).reshape(-1, *shape), np.array(limits)
