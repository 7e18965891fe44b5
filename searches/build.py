"""Build a `Problem` from what is known layer by layer: tables of costs, groups, cuts and pairwise terms.

Layers that must share an option collapse into one group here, before any solver sees them: their costs add
up, a pairwise term between two of them becomes an ordinary cost, and a cut counts each of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qsim.errors import UserError
from searches.problem import Column, Group, IntArray, Option, Pairwise, Peak, Problem

if TYPE_CHECKING:
    import pandas as pd

# A float column becomes integers so that the sum of its largest entries is just below 2^40: a total is then
# off by at most layers / 2^41 of that sum (5e-10 of it for 1000 layers), and every solver's float64 still
# holds it exactly.
SCALED_TOTAL_BITS = 40


@dataclass(frozen=True)
class LayerPair:
    """What two layers, by index, add together to the cost `column`: `values[option_first][option_second]`."""

    first: int
    second: int
    column: str
    values: NDArray[np.generic]


def to_integers(
    arrays: Sequence[ArrayLike], cost: str = "cost", scale: float | None = None
) -> tuple[list[IntArray], float]:
    """Integers and their scale (integers per unit) for the values of one cost over layers.

    Integers stay as they are (scale 1). Floats are multiplied by the power of two that brings the sum of the
    largest magnitudes just below 2^40, or by `scale`, and rounded half to even. Raises UserError for NaN and
    infinities.
    """
    floats = [np.asarray(values) for values in arrays]
    if (
        all(np.issubdtype(values.dtype, np.integer) or values.dtype == bool for values in floats)
        and scale is None
    ):
        return [values.astype(np.int64) for values in floats], 1.0
    floats = [values.astype(np.float64) for values in floats]
    for layer, values in enumerate(floats):
        if not np.isfinite(values).all():
            raise UserError(f"cost '{cost}' of layer {layer} is not a finite number")
    if scale is None:
        largest = sum(float(np.abs(values).max()) for values in floats if values.size)
        whole = largest < 2.0**53 and all((values == np.rint(values)).all() for values in floats)
        scale = 1.0 if whole else float(np.ldexp(1.0, SCALED_TOTAL_BITS - int(np.frexp(largest)[1])))
    scaled = [np.rint(values * scale) for values in floats]
    if any(np.abs(values).max(initial=0) >= 2.0**62 for values in scaled):
        raise UserError(f"cost '{cost}' overflows 62 bits at scale {scale:g}; give it a coarser scale")
    return [values.astype(np.int64) for values in scaled], scale


def problem_from_layers(
    layers: Sequence[str],
    options: Sequence[Sequence[Option]],
    costs: Mapping[str, Sequence[ArrayLike]],
    *,
    objectives: Sequence[str],
    budgets: Mapping[str, float] | None = None,
    groups: Sequence[Sequence[int]] = (),
    cuts: Mapping[str, Sequence[Sequence[int]]] | None = None,
    pairwise: Sequence[LayerPair] = (),
    scales: Mapping[str, float] | None = None,
) -> Problem:
    """A problem from per-layer values.

    `costs[name][layer][option]`; layers listed together in `groups` (indices) share an option and must have
    the same options. A cost named in `cuts` is a peak: the largest over the cuts of the sum over the layers
    of the cut; the others add up. `budgets` are in the costs' own units, `scales` override the integers per
    unit. Raises UserError.
    """
    members = _members(len(layers), groups)
    home = {layer: g for g, group in enumerate(members) for layer in group}
    problem_groups = tuple(_group(layers, options, group) for group in members)
    integers = {
        name: to_integers(
            [*values, *(p.values for p in pairwise if p.column == name)], name, (scales or {}).get(name)
        )
        for name, values in costs.items()
    }
    columns, peaks = {}, {}
    for name, (arrays, scale) in integers.items():
        if len(costs[name]) != len(layers):
            raise UserError(f"cost '{name}' has {len(costs[name])} layers, the problem has {len(layers)}")
        if cuts and name in cuts:
            peaks[name] = Peak(tuple(_cut(arrays, cut, home, name) for cut in cuts[name]), scale)
        else:
            collapsed = tuple(_added([arrays[layer] for layer in group]) for group in members)
            columns[name] = Column(collapsed, scale)
    terms = []
    pairs_done = dict.fromkeys(costs, len(layers))
    for pair in pairwise:
        if pair.column not in columns:
            raise UserError(f"a pairwise term adds to '{pair.column}', which is no total of this problem")
        values = integers[pair.column][0][pairs_done[pair.column]]
        pairs_done[pair.column] += 1
        first, second = home[pair.first], home[pair.second]
        if first == second:
            columns[pair.column].values[first][...] += np.diagonal(values)
        elif first < second:
            terms.append(Pairwise(first, second, pair.column, values))
        else:
            terms.append(Pairwise(second, first, pair.column, np.ascontiguousarray(values.T)))
    problem = Problem(problem_groups, columns, tuple(objectives), {}, peaks, tuple(terms))
    return problem.with_budgets(budgets or {})


def from_tables(
    costs: pd.DataFrame,
    *,
    objectives: Sequence[str],
    budgets: Mapping[str, float] | None = None,
    groups: Sequence[Sequence[str]] = (),
    cuts: Mapping[str, Sequence[Sequence[str]]] | None = None,
    aggregate: Mapping[str, str] | None = None,
    pairwise: pd.DataFrame | None = None,
    payload: Sequence[str] = (),
    scales: Mapping[str, float] | None = None,
) -> Problem:
    """A problem from one table with a row per (layer, option): columns `layer`, `option` and any numeric
    costs.

    Layers named together in `groups` share an option and may take what all of them offer. `aggregate` says
    how a cost combines: "sum" (default) or "max" (each layer on its own is a cut); `cuts` gives a peak's cuts
    by layer name. `pairwise` has columns first, second, option_first, option_second (missing pairs add 0) and
    the costs it adds to. `payload` names the columns whose strings become `Option.payload`. Costs that are
    neither objective nor budget are kept and reported. Raises UserError naming the layer, option or column.
    """
    _require(costs, ("layer", "option", *payload, *objectives, *(budgets or {})), "the cost table")
    if costs.duplicated(["layer", "option"]).any():
        row = costs[costs.duplicated(["layer", "option"])].iloc[0]
        raise UserError(f"the cost table has two rows for layer '{row['layer']}' option '{row['option']}'")
    layers = [str(name) for name in dict.fromkeys(costs["layer"])]
    number = {name: index for index, name in enumerate(layers)}
    rows = {str(name): frame.set_index("option") for name, frame in costs.groupby("layer", sort=False)}
    indexed = [[_index(number, layer, "a group") for layer in group] for group in groups]
    labels = _shared_labels(layers, rows, indexed)
    names = [
        str(name)
        for name in costs.columns
        if name not in ("layer", "option", *payload)
        and np.issubdtype(costs[name].to_numpy().dtype, np.number)
    ]
    combine = {name: (aggregate or {}).get(name, "sum") for name in names}
    for name in (*objectives, *(budgets or {})):
        if combine.get(name) not in ("sum", "max"):
            raise UserError(
                f"cost '{name}' cannot be searched on: it is a {combine.get(name, 'text')}, not a sum or max"
            )
    names = [name for name in names if combine[name] in ("sum", "max")]
    table = {name: [rows[layer].loc[labels[layer], name].to_numpy() for layer in layers] for name in names}
    options = [
        [
            Option(str(label), tuple(str(rows[layer].loc[label, key]) for key in payload))
            for label in labels[layer]
        ]
        for layer in layers
    ]
    by_layer = {
        name: [[_index(number, layer, f"a cut of {name}") for layer in cut] for cut in chosen]
        for name, chosen in (cuts or {}).items()
    }
    alone = {name: [[layer] for layer in range(len(layers))] for name in names if combine[name] == "max"}
    return problem_from_layers(
        layers, options, table, objectives=objectives, budgets=budgets, groups=indexed, cuts={**alone,
        **by_layer}, pairwise=_layer_pairs(pairwise, number, labels, layers), scales=scales,
    )  # fmt: skip


def _members(n_layers: int, groups: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
    """Disjoint groups covering every layer, in the order of their first layer."""
    parent = list(range(n_layers))

    def root(layer: int) -> int:
        while parent[layer] != layer:
            layer = parent[layer]
        return layer

    for group in groups:
        for layer in group:
            if not 0 <= layer < n_layers:
                raise UserError(f"a group names layer {layer}, there are {n_layers} layers")
        roots = sorted(root(layer) for layer in group)
        for other in roots[1:]:
            parent[other] = roots[0]
    members: dict[int, list[int]] = {}
    for layer in range(n_layers):
        members.setdefault(root(layer), []).append(layer)
    return [tuple(group) for group in members.values()]


def _group(layers: Sequence[str], options: Sequence[Sequence[Option]], group: tuple[int, ...]) -> Group:
    first = tuple(options[group[0]])
    for layer in group[1:]:
        if tuple(options[layer]) != first:
            raise UserError(
                f"layers '{layers[group[0]]}' and '{layers[layer]}' share a group but not their options"
            )
    return Group("+".join(layers[layer] for layer in group), tuple(layers[layer] for layer in group), first)


def _added(arrays: Sequence[IntArray]) -> IntArray:
    total = np.zeros_like(arrays[0])
    for values in arrays:
        total += values
    return total


def _cut(
    arrays: Sequence[IntArray], cut: Sequence[int], home: Mapping[int, int], name: str
) -> dict[int, IntArray]:
    total: dict[int, IntArray] = {}
    for layer in cut:
        if layer not in home:
            raise UserError(f"a cut of '{name}' names layer {layer}, there are {len(home)} layers")
        group = home[layer]
        total[group] = total[group] + arrays[layer] if group in total else arrays[layer]
    return total


def _require(table: pd.DataFrame, names: Sequence[str], what: str) -> None:
    for name in names:
        if name not in table.columns:
            raise UserError(f"{what} has no column '{name}', it has {', '.join(map(str, table.columns))}")


def _index(number: Mapping[str, int], layer: str, where: str) -> int:
    if layer not in number:
        raise UserError(f"{where} names layer '{layer}', which the cost table does not have")
    return number[layer]


def _shared_labels(
    layers: Sequence[str], rows: Mapping[str, pd.DataFrame], groups: Sequence[Sequence[int]]
) -> dict[str, list[str]]:
    """The options each layer keeps: those that all of its group offer, in the first layer's order."""
    labels: dict[str, list[str]] = {}
    for members in _members(len(layers), groups):
        names = [layers[layer] for layer in members]
        shared = [
            label for label in rows[names[0]].index if all(label in rows[name].index for name in names[1:])
        ]
        if not shared:
            raise UserError(f"the layers {', '.join(names)} share a group but have no option in common")
        labels.update(dict.fromkeys(names, shared))
    return labels


def _layer_pairs(
    table: pd.DataFrame | None,
    number: Mapping[str, int],
    labels: Mapping[str, list[str]],
    layers: Sequence[str],
) -> list[LayerPair]:
    if table is None or table.empty:
        return []
    keys = ["first", "second", "option_first", "option_second"]
    _require(table, keys, "the pairwise table")
    pairs = []
    for (first, second), rows in table.groupby(["first", "second"], sort=False):
        i, j = (
            _index(number, str(first), "the pairwise table"),
            _index(number, str(second), "the pairwise table"),
        )
        places = rows.set_index(["option_first", "option_second"])
        for column in (name for name in table.columns if name not in keys):
            matrix = places[column].unstack().reindex(index=labels[layers[i]], columns=labels[layers[j]])
            pairs.append(LayerPair(i, j, str(column), matrix.fillna(0).to_numpy()))
    return pairs
