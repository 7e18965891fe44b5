"""What every choice of every group costs: totals, maxima, peak memory, and what two groups cost together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from hwmodels import AGGREGATE
from qsim.errors import UserError
from searches.build import LayerPair, problem_from_layers, to_integers
from searches.ledger import stored_bytes
from searches.problem import Option, Peak, Problem
from searches.schedule import PEAK, choice_cuts

if TYPE_CHECKING:
    import pandas as pd

    from hwmodels import Target
    from searches.candidates import Candidates
    from searches.ledger import Ledger

Array = NDArray[Any]
Rule = Literal["sum", "max"]
SENSITIVITY = "sensitivity"
PROBES = 3


@dataclass(frozen=True, eq=False)
class OptionCosts:
    """columns[name][group][choice] in the cost's own unit and how groups combine; peak: bytes [choice] of each group
    alive in each cut; pairs: what the formats of two groups add together.
    """

    columns: Mapping[str, list[Array]]
    rules: Mapping[str, Rule]
    peak: tuple[Mapping[int, Array], ...] = ()
    pairs: tuple[LayerPair, ...] = ()

    def check(self, names: Iterable[str], where: str) -> None:
        """Raises UserError for a cost that a search on this hardware cannot trade."""
        for name in names:
            if name not in self.columns and name != PEAK:
                known = ", ".join((*self.columns, PEAK))
                raise UserError(f"'{name}' is no cost that a search on {where} can trade: {known}")

    def problem(
        self,
        groups: Sequence[Candidates],
        sensitivities: Sequence[Array],
        objective: str,
        budgets: Mapping[str, float],
        wanted: Iterable[str] = (),
        pairs: Sequence[LayerPair] = (),
    ) -> Problem:
        """Sensitivity against `objective` within `budgets`; the costs `wanted` are counted too."""
        names = [name for name in dict.fromkeys((objective, *budgets, *wanted)) if name in self.columns]
        problem = problem_from_layers(
            [group.name for group in groups],
            [[Option(choice.label) for choice in group.choices] for group in groups],
            {SENSITIVITY: list(sensitivities), **{name: self.columns[name] for name in names}},
            objectives=(SENSITIVITY,),
            cuts={n: [[g] for g in range(len(groups))] for n in names if self.rules[n] == "max"},
            pairwise=[pair for pair in (*self.pairs, *pairs) if pair.column in (SENSITIVITY, *names)],
        )
        if PEAK in (objective, *budgets, *wanted):
            problem = replace(problem, peaks={**problem.peaks, PEAK: self._peak()})
        return problem.with_objectives(SENSITIVITY, objective).with_budgets(budgets)

    def _peak(self) -> Peak:
        flat = [values for cut in self.peak for values in cut.values()]
        integers, scale = to_integers(flat, PEAK)
        rows = iter(integers)
        return Peak(tuple({group: next(rows) for group in cut} for cut in self.peak), scale)


def price(ledger: Ledger, groups: Sequence[Candidates], *, conversions: bool = False) -> OptionCosts:
    """Costs of every (group, choice) on the ledger's target.

    conversions: also price what a layer's output costs in the format of the group that reads it, which depends on
    the choices of both (requantizer, width of the stream); without, a layer is taken to write its own format.
    """
    tables = [[ledger.costs([(group, choice)]) for choice in group.choices] for group in groups]
    rules = combination_rules(ledger.target, tables)
    columns = {
        name: [np.array([getattr(table[name], rule)() for table in row], np.float64) for row in tables]
        for name, rule in rules.items()
    }
    columns["weight_bytes"] = [
        np.array([stored_bytes(group, choice) for choice in group.choices]) for group in groups
    ]
    summed = [name for name, rule in rules.items() if rule == "sum" and name != "weight_bytes"]
    pairs = tuple(_conversions(ledger, groups, summed)) if conversions else ()
    cuts = choice_cuts(ledger.cuts, groups)
    return OptionCosts(columns, {**rules, "weight_bytes": "sum"}, cuts, pairs)


def combination_rules(target: Target, tables: Sequence[Sequence[pd.DataFrame]]) -> dict[str, Rule]:
    """How groups combine into the target's totals: {column: sum or max}, found by totalling a few whole networks.

    Columns that combine otherwise (a rate, an average) cannot be traded layer by layer and are left out.
    """
    import pandas as pd

    probes = [
        pd.concat([row[(probe * (g + 1)) % len(row)] for g, row in enumerate(tables)])
        for probe in range(PROBES)
    ]
    costs = [probe.drop(columns=["layer", "format"]) for probe in probes]
    totals = [target.total(frame) for frame in costs]
    rules: dict[str, Rule] = {}
    for name in map(str, costs[0].columns):
        if name.endswith(("_low90", "_high90")) or name not in totals[0] or AGGREGATE.get(name) == "min":
            continue
        choices: tuple[Rule, ...] = ("sum", "max")
        for rule in choices:
            combined = [float(getattr(frame[name], rule)()) for frame in costs]
            if np.allclose(combined, [total[name] for total in totals], rtol=1e-9, atol=0):
                rules[name] = rule
                break
    return rules


def _conversions(ledger: Ledger, groups: Sequence[Candidates], summed: Sequence[str]) -> Iterable[LayerPair]:
    """Every layer whose output another group reads: the extra costs `summed` of writing that group's format."""
    reader = {
        tensor: g
        for g, group in enumerate(groups)
        for layer in group.layers
        for tensor in (layer.input, *((layer.weights,) if layer.kind == "matmul" else ()))
    }
    for first, group in enumerate(groups):
        for layer in group.layers:
            second = reader.get(layer.output, first)
            if second == first:
                continue
            formats = [choice.activations for choice in groups[second].choices]
            rows = [(layer, choice) for choice in group.choices]
            own = ledger.price(rows, [choice.activations for choice in group.choices])
            table = ledger.price(
                [row for row in rows for _ in formats], [spec for _ in rows for spec in formats]
            )
            for name in summed:
                extra = table[name].to_numpy().reshape(len(rows), -1) - own[name].to_numpy()[:, None]
                if extra.any():
                    yield LayerPair(first, second, name, extra)
