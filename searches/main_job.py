"""The main job: a network, a menu of formats and a piece of hardware in; measured trade-offs and bit plans out.

sensitivities (one group of layers at a time) -> additive problem -> exact front (and other solvers)
    -> plans, priced and measured -> results table, front, chosen plan
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from qsim.errors import UserError
from searches import front, option_costs, solvers
from searches.boundary import spread_indices
from searches.corrected import Choices, CorrectedSearch, Effort, Measured
from searches.ledger import Ledger, Row
from searches.option_costs import SENSITIVITY, OptionCosts
from searches.problem import Problem, SearchResult, Selection
from searches.sensitivity import by_group, measure_pairs, scan_plans, sensitivity_table

if TYPE_CHECKING:
    from qsim.plan import BitPlan
    from searches.build import LayerPair
    from searches.candidates import Candidates, Choice

Array = NDArray[Any]
Track = Callable[[Iterable[Any], str, int], Iterable[Any]]
OWN_OPTIONS = (
    "corrections",
    "steps",
    "conversions",
    "pairs",
)  # of a search config, read here and not by the solver


@dataclass(frozen=True)
class Settings:
    """What the user may set; defaults and meanings are in configs/qsim_search.yaml."""

    solver: str = "ilp"
    objective: str | None = None
    seed: int = 0
    measured_plans: int = 16
    accept_loss: float = 0.01
    sensitivity_measure: str = "kl"
    sensitivity_samples: int = 200
    sensitivity_also: Sequence[str] = ()
    budgets: Mapping[str, float] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Outcome:
    """rows: the results table, one row a measured configuration.

    chosen: id of the plan to ship, the cheapest accepted one; accepted: ids of all that the metric accepts on the
    choosing half, the cheapest first (the best plan alone where none is accepted).
    """

    rows: pd.DataFrame
    plans: Mapping[str, BitPlan]
    layer_costs: Mapping[str, pd.DataFrame]
    accepted: tuple[str, ...]
    objective: str
    search: SearchResult
    sensitivities: pd.DataFrame

    @property
    def chosen(self) -> str:
        return self.accepted[0]


@dataclass(frozen=True, eq=False)
class MainJob:
    """Everything the steps share; `run` is the job. The search sees the choosing half of the data only."""

    ledger: Ledger
    groups: Sequence[Candidates]
    menu: Sequence[Choice]
    settings: Settings
    track: Track

    @property
    def objective(self) -> str:
        """The cost that is traded: the one asked for, or what users of this hardware look at first."""
        return self.settings.objective or self.ledger.target.objectives[0]

    def run(self) -> Outcome:
        """Search and measure; raises UserError where no plan meets the budgets."""
        options = self.settings.options
        costs = option_costs.price(
            self.ledger, self.groups, conversions=bool(options.get("conversions", True))
        )
        costs.check((self.objective, *self.settings.budgets), self.ledger.target.name)
        if self.settings.solver == "uniform":
            self._measure_menu()
            claim = "every entry of the menu in all layers, nothing mixed"
            return self._outcome(SearchResult((), "uniform", "feasible", claim=claim), pd.DataFrame())
        self._check_budgets(costs)
        table = self._sensitivities()
        sensitivities = by_group(table, self.groups, self.settings.sensitivity_measure)
        costs = replace(costs, pairs=(*costs.pairs, *self._pairs(sensitivities)))
        found = self._search(costs, sensitivities, self._measure_menu())
        if self.settings.solver != "ilp":
            found = self._solve_otherwise(self._problem(costs, sensitivities), found)
            for selection in self.track(found.selections, "measuring plans", len(found.selections)):
                self.ledger.record(self._parts(selection.choices), self.settings.solver)
        return self._outcome(found, table)

    def _check_budgets(self, costs: OptionCosts) -> None:
        """Before anything is measured. Raises UserError that says which budgets conflict and by how much."""
        nothing = [np.zeros(len(group.choices)) for group in self.groups]
        found = front.solve(self._problem(costs, nothing))
        if not found.selections:
            raise UserError(f"no plan meets the budgets: {found.claim}")

    def expected_steps(self) -> dict[str, int]:
        """Steps of the stages that are known beforehand, by their description, for a progress bar."""
        options = self.settings.options
        stages = {"uniform plans": len(self.menu)}
        if self.settings.solver != "uniform":
            stages["sensitivities"] = sum(len(group.choices) for group in self.groups)
            stages |= self._effort.stages()
        if "generations" in options:
            stages[self.settings.solver] = int(options["generations"]) * int(options["population"])
        return stages

    @property
    def _effort(self) -> Effort:
        options = self.settings.options
        corrections = 0 if options.get("pairs") else int(options.get("corrections", 0))
        return Effort(self.settings.measured_plans, corrections, int(options.get("steps", 0)))

    def _outcome(self, found: SearchResult, sensitivities: pd.DataFrame) -> Outcome:
        accepted = self._accepted()
        return Outcome(
            self.ledger.table(self.objective, accepted[0]),
            self.ledger.plans,
            self.ledger.layer_costs,
            accepted,
            self.objective,
            found,
            sensitivities,
        )

    def _sensitivities(self) -> pd.DataFrame:
        """Every choice of every group alone: the measure that is searched on, and others that the user asks to see."""
        total = sum(len(group.choices) for group in self.groups)
        return sensitivity_table(
            self.groups,
            scan_plans(self.ledger.builder, self.groups),
            self.ledger.evaluator,
            self.ledger.halves.choose[: self.settings.sensitivity_samples],
            [self.settings.sensitivity_measure, *self.settings.sensitivity_also],
            lambda trials: self.track(trials, "sensitivities", total),
        )

    def _pairs(self, sensitivities: Sequence[Array]) -> list[LayerPair]:
        """What neighbouring groups cost together beyond the sum, where the search asks for it."""
        measure = self.settings.options.get("pairs")
        if not measure:
            return []
        if measure != self.settings.sensitivity_measure:
            raise UserError(
                f"search.pairs={measure} adds to sensitivities of the same measure: sensitivity.measure={measure}"
            )
        return measure_pairs(
            self.groups,
            self.ledger.plan,
            self.ledger.evaluator,
            self.ledger.halves.choose[: self.settings.sensitivity_samples],
            measure,
            "adjacent",
            self._track_pairs,
            singles=sensitivities,
        )

    def _track_pairs(self, cells: Iterable[Any]) -> Iterable[Any]:
        listed = list(cells)
        return self.track(listed, "pairs", len(listed))

    def _problem(self, costs: OptionCosts, sensitivities: Sequence[Array]) -> Problem:
        wanted = (
            *(name for name in self.ledger.target.objectives if name in costs.columns),
            "weight_bytes",
            "bops",
        )
        return costs.problem(self.groups, sensitivities, self.objective, self.settings.budgets, wanted)

    def _search(
        self, costs: OptionCosts, sensitivities: Sequence[Array], known: dict[Choices, Measured]
    ) -> SearchResult:
        """The front of the additive model, measured, corrected and measured again."""

        def measure(choices: Choices) -> Measured:
            return self._measured(self.ledger.record(self._parts(choices), "ilp"))

        limit = self.ledger.loss(self.ledger.rows[0]) + self.settings.accept_loss
        return CorrectedSearch(
            lambda values: self._problem(costs, values),
            sensitivities,
            measure,
            lambda loss: loss <= limit,
            known,
            self._effort,
            self.track,
        ).run()

    def _measured(self, row: Row) -> Measured:
        return Measured(self.ledger.loss(row), row["choose_distance"])

    def _parts(self, choices: Choices) -> list[tuple[Candidates, Choice]]:
        return [(group, group.choices[index]) for group, index in zip(self.groups, choices, strict=True)]

    def _measure_menu(self) -> dict[Choices, Measured]:
        """Every entry of the menu in all groups, except where a rule forces another."""
        known = {}
        for choice in self.track(self.menu, "uniform plans", len(self.menu)):
            choices = tuple(
                group.choices.index(choice) if choice in group.choices else 0 for group in self.groups
            )
            known[choices] = self._measured(
                self.ledger.record(self._parts(choices), choice.family, choice.label)
            )
        return known

    def _is_accepted(self, row: Row) -> bool:
        return self.ledger.loss(row) <= self.ledger.loss(self.ledger.rows[0]) + self.settings.accept_loss

    def _solve_otherwise(self, problem: Problem, exact: SearchResult) -> SearchResult:
        """Another solver of `searches.solvers`; one that measures sees the choosing half, from the exact front on."""
        further = [name for name in problem.costs if name not in (SENSITIVITY, self.objective)]
        costs = [self.objective, *further][: int(self.settings.options.get("n_objectives", 2)) - 1]

        def measured(selection: Selection) -> tuple[float, ...]:
            row = self.ledger.record(self._parts(selection.choices), self.settings.solver)
            return (self.ledger.loss(row), *(problem.value(name, selection.totals[name]) for name in costs))

        def mapper(function: Callable[[Selection], Any], selections: Iterable[Selection]) -> list[Any]:
            batch = list(selections)
            return [function(selection) for selection in self.track(batch, self.settings.solver, len(batch))]

        count = int(self.settings.options.get("population", 24)) // 2
        by_cost = [problem.value(self.objective, s.totals[self.objective]) for s in exact.selections]
        return solvers.solve(
            self.settings.solver,
            problem,
            self.settings.options,
            evaluate=measured,
            seeds=[exact.selections[index] for index in spread_indices(by_cost, count)],
            seed=self.settings.seed,
            mapper=mapper,
        )

    def _accepted(self) -> tuple[str, ...]:
        """Plans within the budgets that the metric accepts, the cheapest first; failing that, the best one."""
        plans = [
            row for row in self.ledger.rows[1:] if _meets(row, self.settings.budgets)
        ] or self.ledger.rows[1:]
        accepted = sorted(
            filter(self._is_accepted, plans), key=lambda row: (row[self.objective], row["plan_id"])
        )
        best = min(plans, key=lambda row: (self.ledger.loss(row), row["plan_id"]))
        return tuple(str(row["plan_id"]) for row in accepted) or (str(best["plan_id"]),)


def _meets(row: Row, budgets: Mapping[str, float]) -> bool:
    return all(row[name] <= limit for name, limit in budgets.items())
