"""What every choice of every group costs: totals, maxima, peak memory, and what two groups cost together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
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
    """columns[name][group][choice] in the cost's own unit and how groups combine; peaks[name]: for each cut what each
    of its groups adds, [choice]; pairs: what the formats of two groups add together.
    """

    columns: Mapping[str, list[Array]]
    rules: Mapping[str, Rule]
    peaks: Mapping[str, tuple[Mapping[int, Array], ...]] = field(default_factory=dict)
    pairs: tuple[LayerPair, ...] = ()

    def check(self, names: Iterable[str], where: str) -> None:
        """Raises UserError for a cost that a search on this hardware cannot trade."""
        for name in names:
            if name not in self.columns and name not in self.peaks:
                known = ", ".join((*self.columns, *self.peaks))
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
        counted = [name for name in self.peaks if name in (objective, *budgets, *wanted)]
        problem = replace(problem, peaks={**problem.peaks, **{name: self._peak(name) for name in counted}})
        return problem.with_objectives(SENSITIVITY, objective).with_budgets(budgets)

    def _peak(self, name: str) -> Peak:
        cuts = self.peaks[name]
        integers, scale = to_integers([values for cut in cuts for values in cut.values()], name)
        rows = iter(integers)
        return Peak(tuple({group: next(rows) for group in cut} for cut in cuts), scale)


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
    peaks = {PEAK: choice_cuts(ledger.cuts, groups), **_streaming_latency(ledger.target, tables)}
    return OptionCosts(columns, {**rules, "weight_bytes": "sum"}, peaks, pairs)


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


def _streaming_latency(
    target: Target, tables: Sequence[Sequence[pd.DataFrame]]
) -> dict[str, tuple[Mapping[int, Array], ...]]:
    """Seconds of a sample through layers that work at once: every layer's fill, and the rest of the slowest.

    One cut a layer: were that one the slowest. Empty where a target's latency is no such sum.
    """
    if target.kind != "fpga_streaming":
        return {}
    fills = [np.array([table["fill_cycles"].sum() for table in row]) for row in tables]
    clock_hz = (
        target.design.clock_hz
    )  # what the design is folded for; its layers reach it, or the plan says so
    cuts = []
    for group, row in enumerate(tables):
        for layer in range(len(row[0])):
            slowest = np.array([(table["cycles"] - table["fill_cycles"]).iloc[layer] for table in row])
            cuts.append(
                {g: (fill + slowest if g == group else fill) / clock_hz for g, fill in enumerate(fills)}
            )
    return {"latency_s": tuple(cuts)}


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
