"""Dynamic programming over non-dominated partial selections: exact, any number of costs.

Groups are decided in order. A partial selection whose costs are all no better than another's can be dropped
when both leave the same future: the same choices of the groups that a later pairwise term or cut still looks
at (the "open" groups). On problems without such terms this is the classical dominance dynamic programming
(Nemhauser and Ullmann 1969); chains of pairwise terms and cuts of a schedule keep a few groups open. Memory,
not time, is the limit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from searches.core import Toll
from searches.problem import IntArray, Problem

BLOCK = 512
LARGEST_KEY = 2**40
NOTHING_ALIVE = -(2**62)


@dataclass(frozen=True)
class Frontier:
    """Non-dominated selections: choices [n, groups], costs [n, counted] in the order of `counted`."""

    choices: NDArray[np.int64]
    costs: IntArray
    counted: tuple[str, ...]


@dataclass(frozen=True)
class _States:
    costs: IntArray  # [n, counted]
    open_choices: Mapping[int, IntArray]  # open group -> [n]
    rank: IntArray  # [n], order of the partial selections, lexicographically
    paid: IntArray  # [n], of the toll


def frontier(
    problem: Problem,
    state_limit: int = 300_000,
    *,
    counted: tuple[str, ...] | None = None,
    toll: Toll | None = None,
) -> Frontier | None:
    """The front over the objectives within the budgets, sorted; None when states exceed `state_limit`.

    Of selections with equal objectives one is kept: least in the rest of `counted` (default: the budgeted
    costs that can bind), then lexicographically. Without a toll the front is complete; with one, selections
    that pay more are left out. An infeasible problem has an empty frontier.
    """
    counted = _counted(problem) if counted is None else counted
    none = np.zeros(1, dtype=np.int64)
    states = _States(np.zeros((1, len(counted)), dtype=np.int64), {}, none, none)
    for i, name in enumerate(counted):
        if name in problem.peaks:
            states.costs[:, i] = NOTHING_ALIVE
    history: list[tuple[IntArray, IntArray]] = []
    for g, size in enumerate(problem.sizes):
        if len(states.costs) * size > 40 * state_limit:
            return None
        states, parent, option = _expand(problem, counted, states, g, toll)
        within = _within_budgets(problem, counted, states, g)
        if toll is not None:
            within &= states.paid <= toll.limit
        states, parent, option = _pick(states, within, parent, option)
        key = _key(problem, states)
        if key is None:
            return None
        states, parent, option = _pick(states, _best_per_key(states.costs, key, states.rank), parent, option)
        if len(states.costs) > state_limit:
            return None
        history.append((parent, option))
    n_objectives = len(problem.objectives)
    order = np.lexsort((states.rank, *states.costs.T[::-1]))
    final = order[_undominated_sorted(states.costs[order, :n_objectives])]
    return Frontier(_trace(history, final), states.costs[final], counted)


def undominated(points: IntArray) -> NDArray[np.intp]:
    """Indices of the non-dominated rows of points [n, costs] (minimised), in lexicographic order, equals
    once.
    """
    order = np.lexsort(points.T[::-1])
    return order[_undominated_sorted(points[order])]


def _counted(problem: Problem) -> tuple[str, ...]:
    """The objectives, and the budgets that some selection breaks."""
    binding = []
    for name, budget in problem.budgets.items():
        if name in problem.peaks:
            highest = max(sum(int(v.max()) for v in cut.values()) for cut in problem.peaks[name].cuts)
        else:
            highest = sum(int(v.max()) for v in problem.columns[name].values)
            highest += sum(int(t.values.max()) for t in problem.pairwise if t.column == name)
        if highest > budget:
            binding.append(name)
    return tuple(dict.fromkeys((*problem.objectives, *binding)))


def _expand(
    problem: Problem, counted: tuple[str, ...], states: _States, g: int, toll: Toll | None
) -> tuple[_States, IntArray, IntArray]:
    """Every state with every option of group g; the states, their parents and the options taken."""
    n, size = len(states.costs), problem.sizes[g]
    parent = np.repeat(np.arange(n), size)
    option = np.tile(np.arange(size), n)
    costs = states.costs[parent]
    chosen = {h: choices[parent] for h, choices in states.open_choices.items()} | {g: option}
    for i, name in enumerate(counted):
        if name in problem.columns:
            costs[:, i] += problem.columns[name].values[g][option]
            for term in problem.pairwise:
                if term.second == g and term.column == name:
                    costs[:, i] += term.values[chosen[term.first], option]
        else:
            for cut in problem.peaks[name].cuts:
                if max(cut) == g:
                    alive = np.sum([values[chosen[h]] for h, values in cut.items()], axis=0)
                    costs[:, i] = np.maximum(costs[:, i], alive)
    still_open = _open_after(problem, counted, g)
    rank = states.rank[parent] * size + option
    paid = states.paid[parent] if toll is None else states.paid[parent] + toll.values[g][option]
    return _States(costs, {h: c for h, c in chosen.items() if h in still_open}, rank, paid), parent, option


def _open_after(problem: Problem, counted: tuple[str, ...], g: int) -> set[int]:
    """Groups up to g that a counted term or cut with a later group still looks at."""
    seen = {t.first for t in problem.pairwise if t.column in counted and t.first <= g < t.second}
    for name in counted:
        if name in problem.peaks:
            seen |= {h for cut in problem.peaks[name].cuts if max(cut) > g for h in cut if h <= g}
    return seen


def _within_budgets(problem: Problem, counted: tuple[str, ...], states: _States, g: int) -> NDArray[np.bool_]:
    """The states that can still meet every budget if all later groups take their cheapest option."""
    within = np.ones(len(states.costs), dtype=bool)
    for i, name in enumerate(counted):
        if name not in problem.budgets:
            continue
        ahead = 0
        if name in problem.columns:
            ahead = sum(int(values.min()) for values in problem.columns[name].values[g + 1 :])
            ahead += sum(int(t.values.min()) for t in problem.pairwise if t.column == name and t.second > g)
        within &= states.costs[:, i] <= problem.budgets[name] - ahead
    return within


def _pick(
    states: _States, where: NDArray[np.bool_] | NDArray[np.intp], parent: IntArray, option: IntArray
) -> tuple[_States, IntArray, IntArray]:
    rank = np.argsort(np.argsort(states.rank[where]))
    still_open = {h: choices[where] for h, choices in states.open_choices.items()}
    return _States(states.costs[where], still_open, rank, states.paid[where]), parent[where], option[where]


def _key(problem: Problem, states: _States) -> IntArray | None:
    """One number per combination of open choices; None when there are too many combinations."""
    key, combinations = np.zeros(len(states.costs), dtype=np.int64), 1
    for h, choices in states.open_choices.items():
        combinations *= problem.sizes[h]
        if combinations > LARGEST_KEY:
            return None
        key = key * problem.sizes[h] + choices
    return key


def _best_per_key(costs: IntArray, key: IntArray, rank: IntArray) -> NDArray[np.intp]:
    """Indices of the states that no state of the same key dominates; of equals the least rank."""
    order = np.lexsort((rank, *costs.T[::-1], key))
    starts = np.flatnonzero(np.diff(key[order], prepend=-1))
    if costs.shape[1] == 2:
        segment = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(order)))
        return order[_staircase(costs[order, 1], segment)]
    kept = [part[_undominated_sorted(costs[part])] for part in np.split(order, starts[1:])]
    return np.concatenate(kept) if kept else order


def _staircase(second: IntArray, segment: IntArray) -> NDArray[np.intp]:
    """Indices where `second` falls below all before it in its segment (rows sorted by segment, then first
    cost).
    """
    if not len(second):
        return np.zeros(0, dtype=np.intp)
    dense = np.unique(second, return_inverse=True)[1].reshape(-1)
    sunk = dense - segment * (len(dense) + 1)  # every segment starts below the one before
    lowest = np.minimum.accumulate(sunk)
    falls = np.ones(len(sunk), dtype=bool)
    falls[1:] = sunk[1:] < lowest[:-1]
    return np.flatnonzero(falls)


def _undominated_sorted(points: IntArray) -> NDArray[np.intp]:
    """Indices of the non-dominated rows of lexicographically sorted points; of equal rows the first."""
    n, k = points.shape
    if n == 0 or k == 1:
        return np.arange(min(n, 1))
    if k == 2:
        return _staircase(points[:, 1], np.zeros(n, dtype=np.int64))
    # The first cost is sorted, so a row is dominated iff an earlier one is no worse in the others. Only the
    # earlier rows that are non-dominated in the others need to be kept for comparison.
    kept: list[NDArray[np.intp]] = []
    shadow = points[:0, 1:]
    for start in range(0, n, BLOCK):
        block = points[start : start + BLOCK, 1:]
        alive = np.flatnonzero(~_shadowed(block, shadow))
        within = (block[alive, None, :] <= block[None, alive, :]).all(axis=2)
        earlier = np.triu(np.ones(within.shape, dtype=bool), k=1)
        alive = alive[~(within & earlier).any(axis=0)]
        kept.append(alive + start)
        shadow = np.concatenate([shadow, block[alive]])
        shadow = shadow[undominated(shadow)]
    return np.concatenate(kept)


def _shadowed(block: IntArray, shadow: IntArray) -> NDArray[np.bool_]:
    """Rows of block [b, k] that some row of shadow [s, k] (non-dominated, sorted) is no worse than."""
    if not len(shadow):
        return np.zeros(len(block), dtype=bool)
    if block.shape[1] == 2:
        place = np.searchsorted(shadow[:, 0], block[:, 0], side="right") - 1
        lower: NDArray[np.bool_] = shadow[np.maximum(place, 0), 1] <= block[:, 1]
        return lower & (place >= 0)
    hidden = np.zeros(len(block), dtype=bool)
    for start in range(0, len(shadow), BLOCK):
        part = shadow[start : start + BLOCK]
        hidden |= np.any(np.all(part[None] <= block[:, None], axis=2), axis=1)
    return hidden


def _trace(history: list[tuple[IntArray, IntArray]], last: NDArray[np.intp]) -> NDArray[np.int64]:
    """Choices [n, groups] of the states numbered `last` after the last group."""
    choices = np.zeros((len(last), len(history)), dtype=np.int64)
    for g in reversed(range(len(history))):
        parent, option = history[g]
        choices[:, g] = option[last]
        last = parent[last]
    return choices
