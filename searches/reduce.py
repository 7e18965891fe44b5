"""Make a problem smaller without losing an answer: drop options that no best selection needs.

An option goes when it breaks a budget whatever the others choose, or when another option of its group is no
worse in everything that counts: every objective and budgeted total, every cut of a budgeted or minimised
peak, and every pairwise term with every option of the other group. Of equals the first stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from searches.problem import Column, IntArray, Pairwise, Peak, Problem


@dataclass(frozen=True)
class Reduced:
    """A smaller problem and, per group, which options of the original it kept."""

    problem: Problem
    kept: tuple[NDArray[np.intp], ...]

    def original(self, choices: Sequence[int]) -> tuple[int, ...]:
        """The choices of the original problem."""
        return tuple(int(kept[choice]) for kept, choice in zip(self.kept, choices, strict=True))

    def within(self, outer: Reduced) -> Reduced:
        """This reduction of `outer.problem`, as a reduction of outer's original."""
        kept = (indices[chosen] for indices, chosen in zip(outer.kept, self.kept, strict=True))
        return Reduced(self.problem, tuple(kept))


def reduce(problem: Problem) -> Reduced | None:
    """The problem without options that cannot pay, or None when some budget cannot be met at all."""
    kept = tuple(np.arange(size) for size in problem.sizes)
    while True:
        affordable = _affordable(problem)
        if affordable is None:
            return None
        problem, kept = _restrict(problem, kept, affordable)
        useful = [_undominated(problem, g) for g in range(len(problem.groups))]
        # Terms between two groups compare against all options of the other: one group at a time keeps it
        # safe, because an option that goes only shortens the comparison of the others.
        problem, kept = _restrict(problem, kept, useful)
        if all(keep.all() for keep in (*affordable, *useful)):
            return Reduced(problem, kept)


def restrict(problem: Problem, keep: Sequence[NDArray[np.bool_]]) -> Reduced:
    """The problem with only the options whose flag is set; every group keeps at least one."""
    return Reduced(*_restrict(problem, tuple(np.arange(size) for size in problem.sizes), keep))


def _restrict(
    problem: Problem, kept: tuple[NDArray[np.intp], ...], keep: Sequence[NDArray[np.bool_]]
) -> tuple[Problem, tuple[NDArray[np.intp], ...]]:
    groups = tuple(
        replace(group, options=tuple(o for o, flag in zip(group.options, flags, strict=True) if flag))
        for group, flags in zip(problem.groups, keep, strict=True)
    )
    columns = {
        name: Column(tuple(v[flags] for v, flags in zip(column.values, keep, strict=True)), column.scale)
        for name, column in problem.columns.items()
    }
    peaks = {
        name: Peak(tuple({g: v[keep[g]] for g, v in cut.items()} for cut in peak.cuts), peak.scale)
        for name, peak in problem.peaks.items()
    }
    pairwise = tuple(
        Pairwise(t.first, t.second, t.column, t.values[keep[t.first]][:, keep[t.second]])
        for t in problem.pairwise
    )
    smaller = replace(problem, groups=groups, columns=columns, peaks=peaks, pairwise=pairwise)
    return smaller, tuple(indices[flags] for indices, flags in zip(kept, keep, strict=True))


def least_sums(problem: Problem, name: str) -> list[dict[int, IntArray]]:
    """For each sum behind a cost (the total, or every cut of a peak) a lower bound of each option's share.

    The bound of a sum is the sum over its groups of the smallest share; a pairwise term is shared to its
    first group.
    """
    if name in problem.peaks:
        return [dict(cut) for cut in problem.peaks[name].cuts]
    shares = dict(enumerate(problem.columns[name].values))
    for term in problem.pairwise:
        if term.column == name:
            shares[term.first] = shares[term.first] + term.values.min(axis=1)
    return [shares]


def _affordable(problem: Problem) -> list[NDArray[np.bool_]] | None:
    """Per group, the options that some selection within each single budget could hold; None when there is
    none.
    """
    keep = [np.ones(size, dtype=bool) for size in problem.sizes]
    for name, budget in problem.budgets.items():
        for shares in least_sums(problem, name):
            slack = budget - sum(int(share.min()) for share in shares.values())
            if slack < 0:
                return None
            for g, share in shares.items():
                keep[g] &= share - share.min() <= slack
    return keep if all(flags.any() for flags in keep) else None


def _undominated(problem: Problem, g: int) -> NDArray[np.bool_]:
    counted = set(problem.priorities)
    rows = [np.zeros((1, problem.sizes[g]), dtype=np.int64)]  # a group that nothing counts keeps one option
    rows += [problem.columns[name].values[g][None] for name in problem.columns if name in counted]
    rows += [
        cut[g][None]
        for name in problem.peaks
        if name in counted
        for cut in problem.peaks[name].cuts
        if g in cut
    ]
    rows += [t.values.T for t in problem.pairwise if t.first == g and t.column in counted]
    rows += [t.values for t in problem.pairwise if t.second == g and t.column in counted]
    facts = np.concatenate(rows)
    no_worse: NDArray[np.bool_] = np.all(facts[:, :, None] <= facts[:, None, :], axis=0)
    first = np.arange(len(no_worse))
    beats = no_worse & (np.logical_not(no_worse.T) | (first[:, None] < first))
    useful: NDArray[np.bool_] = np.logical_not(np.any(beats, axis=0))
    return useful
