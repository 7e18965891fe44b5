"""The one question every solver answers: which option for each group of layers.

A decision is one option (a tuple of specs) per group. What it costs is counted in integers: a `Column` adds
up over the groups, a `Peak` is the largest of the sums over the cuts of a schedule (memory alive together), a
`Pairwise` term adds to a column what two groups cost together (a format conversion, an inter-layer
sensitivity). Objectives and budgets name columns and peaks; everything is minimised, a budget is met when the
total is <= it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import floor, prod
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from qsim.errors import UserError

IntArray = NDArray[np.int64]
Status = Literal["optimal", "feasible", "infeasible", "unknown"]
LARGEST_TOTAL = 2**62


@dataclass(frozen=True)
class Option:
    """One choice a group may take: a label for people and an opaque payload (spec strings) for the caller."""

    label: str
    payload: tuple[str, ...] = ()


@dataclass(frozen=True)
class Group:
    """Layers that must take the same option, and the options they may take."""

    name: str
    layers: tuple[str, ...]
    options: tuple[Option, ...]


@dataclass(frozen=True)
class Column:
    """A cost that adds up: `values[g][o]` for option o of group g, in integers of 1 / `scale` of its unit."""

    values: tuple[IntArray, ...]
    scale: float = 1.0


@dataclass(frozen=True)
class Peak:
    """A cost that is the largest over cuts; a cut maps each of its groups to what that group's options add to
    it.
    """

    cuts: tuple[Mapping[int, IntArray], ...]
    scale: float = 1.0


@dataclass(frozen=True)
class Pairwise:
    """What groups `first` < `second` add together to `column`: integers `values[o_first, o_second]`."""

    first: int
    second: int
    column: str
    values: IntArray


@dataclass(frozen=True)
class Selection:
    """One answer: an option index per group, and what it costs in the problem's integers."""

    choices: tuple[int, ...]
    totals: Mapping[str, int] = field(hash=False)
    excess: Mapping[str, int] = field(default_factory=dict, hash=False)  # over the budgets that it breaks

    @property
    def feasible(self) -> bool:
        """Whether every budget is met."""
        return not self.excess


@dataclass(frozen=True)
class SearchResult:
    """What a solver found and what it can prove.

    `bound` is a proven lower bound of the first objective in the problem's integers and `gap` the relative
    distance of the best selection from it (0 = proven optimal, None = nothing proven). `claim` says in words
    what is proven. `history` is the solver's own progress curve (hypervolume per generation, accuracy per
    step), `details` the rest.
    """

    selections: tuple[Selection, ...]
    solver: str
    status: Status
    bound: int | None = None
    gap: float | None = None
    seconds: float = 0.0
    claim: str = ""
    history: tuple[float, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def best(self) -> Selection:
        """The first selection; raises UserError with the solver's claim when there is none."""
        if not self.selections:
            raise UserError(
                f"{self.solver} found no selection ({self.status}): {self.claim or 'no reason given'}"
            )
        return self.selections[0]


@dataclass(frozen=True)
class Problem:
    """Groups with options, what they cost, what to minimise and what to stay below.

    Ties are broken the same way by every solver that proves optimality: the objectives in order, then the
    budgeted costs in order, then the lexicographically smallest choices (where the solver says so).
    """

    groups: tuple[Group, ...]
    columns: Mapping[str, Column]
    objectives: tuple[str, ...]
    budgets: Mapping[str, int] = field(default_factory=dict)
    peaks: Mapping[str, Peak] = field(default_factory=dict)
    pairwise: tuple[Pairwise, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what would give a wrong number later. Raises UserError."""
        if not self.groups:
            raise UserError("a search problem needs at least one group of layers")
        for group in self.groups:
            if not group.options:
                raise UserError(f"group '{group.name}' has no option left to choose from")
        if not self.objectives:
            raise UserError(f"a search problem needs an objective; its costs are {_names(self.costs)}")
        for role, names in (("objective", self.objectives), ("budget", self.budgets)):
            for name in names:
                if name not in self.columns and name not in self.peaks:
                    raise UserError(
                        f"{role} '{name}' is no cost of this problem, which has {_names(self.costs)}"
                    )
        self._check_shapes()
        self._check_range()

    def _check_shapes(self) -> None:
        sizes = [len(group.options) for group in self.groups]
        for name, column in self.columns.items():
            if [values.shape for values in column.values] != [(size,) for size in sizes]:
                raise UserError(f"cost '{name}' does not have one value for each option of each group")
        for name, peak in self.peaks.items():
            if name in self.columns:
                raise UserError(f"cost '{name}' is both a total and a peak; give one of them another name")
            if not peak.cuts:
                raise UserError(f"peak '{name}' has no cuts, so it has no value")
            for cut in peak.cuts:
                if any(cut[g].shape != (sizes[g],) for g in cut):
                    raise UserError(f"peak '{name}' does not have one value for each option of its groups")
        for term in self.pairwise:
            if term.column not in self.columns:
                raise UserError(
                    f"a pairwise term adds to '{term.column}', which is no total; {_names(self.columns)}"
                )
            if not 0 <= term.first < term.second < len(sizes):
                raise UserError(
                    f"a pairwise term of '{term.column}' joins groups {term.first} and {term.second}"
                )
            if term.values.shape != (sizes[term.first], sizes[term.second]):
                raise UserError(f"a pairwise term of '{term.column}' has shape {term.values.shape}")

    def _check_range(self) -> None:
        for name, column in self.columns.items():
            largest = sum(_magnitude(values) for values in column.values)
            largest += sum(_magnitude(term.values) for term in self.pairwise if term.column == name)
            if largest >= LARGEST_TOTAL:
                raise UserError(f"totals of cost '{name}' overflow 62 bits; give it a coarser scale")
        for name, peak in self.peaks.items():
            if max(sum(_magnitude(values) for values in cut.values()) for cut in peak.cuts) >= LARGEST_TOTAL:
                raise UserError(f"totals of peak '{name}' overflow 62 bits; give it a coarser scale")

    @cached_property
    def costs(self) -> tuple[str, ...]:
        """Names of every total and peak."""
        return (*self.columns, *self.peaks)

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Number of options of each group."""
        return tuple(len(group.options) for group in self.groups)

    @property
    def n_selections(self) -> int:
        """Size of the whole space."""
        return prod(self.sizes)

    @cached_property
    def priorities(self) -> tuple[str, ...]:
        """The costs that matter, in the order in which ties are broken: objectives, then budgeted costs."""
        return tuple(dict.fromkeys((*self.objectives, *self.budgets)))

    def totals(self, choices: NDArray[np.integer]) -> dict[str, IntArray]:
        """Exact totals of many selections at once: choices [n, groups] -> {cost: int64 [n]}."""
        picks = np.asarray(choices, dtype=np.intp)
        totals = {
            name: _added((values[picks[:, g]] for g, values in enumerate(column.values)), len(picks))
            for name, column in self.columns.items()
        }
        for term in self.pairwise:
            totals[term.column] += term.values[picks[:, term.first], picks[:, term.second]]
        for name, peak in self.peaks.items():
            alive = [
                _added((values[picks[:, g]] for g, values in cut.items()), len(picks)) for cut in peak.cuts
            ]
            totals[name] = np.max(alive, axis=0)
        return totals

    def evaluate(self, choices: Sequence[int] | NDArray[np.integer]) -> Selection:
        """The exact cost of one selection. Raises UserError when it is not one option index per group."""
        picked = tuple(int(choice) for choice in choices)
        if len(picked) != len(self.groups):
            raise UserError(f"a selection of this problem has {len(self.groups)} choices, not {len(picked)}")
        for group, choice in zip(self.groups, picked, strict=True):
            if not 0 <= choice < len(group.options):
                raise UserError(
                    f"group '{group.name}' has {len(group.options)} options, there is no number {choice}"
                )
        totals = {name: int(total[0]) for name, total in self.totals(np.array([picked])).items()}
        excess = {name: totals[name] - limit for name, limit in self.budgets.items() if totals[name] > limit}
        return Selection(picked, totals, excess)

    def rank(self, selection: Selection) -> tuple[int, ...]:
        """Sort key of the tie-breaking order: objectives, budgeted costs, choices."""
        return (*(selection.totals[name] for name in self.priorities), *selection.choices)

    def scale(self, cost: str) -> float:
        """Integers per unit of a cost."""
        return self.columns[cost].scale if cost in self.columns else self.peaks[cost].scale

    def value(self, cost: str, integer: int) -> float:
        """A total in the cost's own unit."""
        return integer / self.scale(cost)

    def values(self, selection: Selection) -> dict[str, float]:
        """Every total of a selection in its own unit."""
        return {name: self.value(name, total) for name, total in selection.totals.items()}

    def layer_options(self, selection: Selection) -> dict[str, Option]:
        """The option each layer gets."""
        return {
            layer: group.options[choice]
            for group, choice in zip(self.groups, selection.choices, strict=True)
            for layer in group.layers
        }

    def with_budgets(self, budgets: Mapping[str, float]) -> Problem:
        """The same problem under other budgets, given in the costs' own units. Raises UserError."""
        limits = {}
        for name, budget in budgets.items():
            if name not in self.costs:
                raise UserError(f"budget '{name}' is no cost of this problem, which has {_names(self.costs)}")
            if not np.isfinite(budget):
                raise UserError(f"budget '{name}' is {budget}, it must be a finite number")
            limits[name] = floor(budget * self.scale(name))
        return replace(self, budgets=limits)

    def with_objectives(self, *objectives: str) -> Problem:
        """The same problem minimising other costs."""
        return replace(self, objectives=objectives)


def _names(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"


def _magnitude(values: IntArray) -> int:
    return max(abs(int(values.min())), abs(int(values.max()))) if values.size else 0


def _added(terms: Iterable[IntArray], n: int) -> IntArray:
    total = np.zeros(n, dtype=np.int64)
    for term in terms:
        total += term
    return total
