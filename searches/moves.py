"""All single-group changes of a selection at once: what each would do to the first objective and to the
budgets.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from searches.problem import IntArray, Problem


class Outcome(NamedTuple):
    """After each move, in the order of `Moves.group` and `Moves.option`: [moves]."""

    objective: IntArray
    excess: NDArray[np.float64]


class Moves:
    """Every (group, option) of a problem as one move; the outcomes of all of them in one vectorised step.

    Excess is what is over the budgets, as a share of each budget, added over the budgets and over the cuts of
    a peak (so that lowering one of two equally high cuts counts).
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.group = np.repeat(np.arange(len(problem.sizes)), problem.sizes)
        self.option = np.concatenate([np.arange(size) for size in problem.sizes])
        self.start = np.concatenate([[0], np.cumsum(problem.sizes)[:-1]])
        self._objective = self._rows(problem.objectives[0])
        self._budgets = {name: self._rows(name) for name in problem.budgets}

    def outcome(self, choices: IntArray) -> Outcome:
        """The outcome of every move from `choices`; staying is among the moves."""
        objective = self._after(self.problem.objectives[0], self._objective, choices).max(axis=0)
        excess = np.zeros(len(self.group))
        for name, rows in self._budgets.items():
            limit = self.problem.budgets[name]
            over = np.maximum(0, self._after(name, rows, choices) - limit)
            excess += over.sum(axis=0) / max(1, abs(limit))
        return Outcome(objective, excess)

    def cheapest(self) -> IntArray:
        """Per group the option with the least sum of shares of the budgets."""
        shares = np.zeros(len(self.group))
        for name, rows in self._budgets.items():
            shares += rows.sum(axis=0) / max(1, abs(self.problem.budgets[name]))
        ends = self.start + self.problem.sizes
        return np.array([int(shares[a:b].argmin()) for a, b in zip(self.start, ends, strict=True)])

    def _rows(self, name: str) -> IntArray:
        """The sums behind a cost as rows [sums, moves]: what each option adds to each sum."""
        if name in self.problem.columns:
            return np.concatenate(self.problem.columns[name].values)[None]
        cuts = self.problem.peaks[name].cuts
        rows = np.zeros((len(cuts), len(self.group)), dtype=np.int64)
        for row, cut in zip(rows, cuts, strict=True):
            for g, values in cut.items():
                row[self.start[g] : self.start[g] + len(values)] = values
        return rows

    def _after(self, name: str, rows: IntArray, choices: IntArray) -> IntArray:
        """The sums [sums, moves] after each move."""
        now = rows[:, self.start + choices]
        after = now.sum(axis=1, keepdims=True) + rows - now[:, self.group]
        for term in self.problem.pairwise:
            if term.column == name:
                i, j = term.first, term.second
                here = term.values[choices[i], choices[j]]
                after += here
                after[:, self.group == i] += term.values[:, choices[j]] - here
                after[:, self.group == j] += term.values[choices[i], :] - here
        return after
