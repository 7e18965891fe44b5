"""The main job: a network, a menu of formats and a piece of hardware in; measured trade-offs and bit plans out.

sensitivities (one group of layers at a time) -> additive problem -> exact front (and other solvers)
    -> plans, priced and measured -> results table, front, chosen plan
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hwmodels import AGGREGATE
from qsim.errors import UserError
from searches import front, solvers
from searches.build import problem_from_layers
from searches.ledger import Ledger, Row
from searches.problem import Option, Problem, SearchResult, Selection
from searches.sensitivity import measure_sensitivities

if TYPE_CHECKING:
    from qsim.plan import BitPlan
    from searches.candidates import Candidates, Choice

Array = NDArray[Any]
Track = Callable[[Iterable[Any], str, int], Iterable[Any]]
SENSITIVITY = "sensitivity"


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
        costs = self._option_costs()
        if self.settings.solver == "uniform":
            self._measure_menu()
            claim = "every entry of the menu in all layers, nothing mixed"
            return self._outcome(SearchResult((), "uniform", "feasible", claim=claim), pd.DataFrame())
        sensitivities = self._sensitivities()
        problem = self._problem(sensitivities, costs)
        found = front.solve(problem)
        if not found.selections:
            raise UserError(f"no plan meets the budgets: {found.claim}")
        self._measure_menu()
        self._walk_front(found.selections, problem)
        if self.settings.solver != "ilp":
            found = self._solve_otherwise(problem, found)
            for selection in self.track(found.selections, "measuring plans", len(found.selections)):
                self.ledger.record(self._parts(selection), self.settings.solver)
        return self._outcome(found, self._sensitivity_table(sensitivities))

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

    def _sensitivities(self) -> list[Array]:
        total = sum(len(group.choices) for group in self.groups)
        return measure_sensitivities(
            self.groups,
            self.ledger.plan,
            self.ledger.evaluator,
            self.ledger.halves.choose[: self.settings.sensitivity_samples],
            self.settings.sensitivity_measure,
            lambda pairs: self.track(pairs, "sensitivities", total),
        )

    def _option_costs(self) -> dict[str, list[Array]]:
        """Costs of every (group, choice): sums over the group's layers, or the largest where totals are."""
        target = self.ledger.target
        tables = [[self.ledger.costs([(group, choice)]) for choice in group.choices] for group in self.groups]
        tradable = [name for name in map(str, tables[0][0].columns) if AGGREGATE.get(name) in ("sum", "max")]
        for name in (self.objective, *self.settings.budgets):
            if name not in tradable:
                raise UserError(
                    f"'{name}' is no cost that a search on {target.name} can trade: {', '.join(tradable)}"
                )
        wanted = (self.objective, *self.settings.budgets, *target.objectives, "weight_bytes", "bops")
        return {
            name: [
                np.array([getattr(table[name], AGGREGATE[name])() for table in row], float) for row in tables
            ]
            for name in dict.fromkeys(wanted)
            if name in tradable
        }

    def _problem(self, sensitivities: Sequence[Array], costs: Mapping[str, list[Array]]) -> Problem:
        largest = [name for name in costs if AGGREGATE[name] == "max"]
        return problem_from_layers(
            [group.name for group in self.groups],
            [[Option(choice.label) for choice in group.choices] for group in self.groups],
            {SENSITIVITY: list(sensitivities), **costs},
            objectives=(SENSITIVITY, self.objective),
            budgets=self.settings.budgets,
            cuts={name: [[index] for index in range(len(self.groups))] for name in largest},
        )

    def _parts(self, selection: Selection) -> list[tuple[Candidates, Choice]]:
        return [
            (group, group.choices[index]) for group, index in zip(self.groups, selection.choices, strict=True)
        ]

    def _measure_menu(self) -> None:
        for choice in self.track(self.menu, "uniform plans", len(self.menu)):
            self.ledger.record(self._uniform(choice), choice.family, choice.label)

    def _uniform(self, choice: Choice) -> list[tuple[Candidates, Choice]]:
        """Every group takes `choice`, except where a rule forces another."""
        return [(group, choice if choice in group.choices else group.choices[0]) for group in self.groups]

    def _walk_front(self, selections: Sequence[Selection], problem: Problem) -> None:
        """Measure points of the additive front: half of them evenly spaced in cost, the others where the choice falls,
        around the cheapest that the metric accepts.
        """
        by_cost = sorted(selections, key=lambda selection: selection.totals[self.objective])
        count = min(self.settings.measured_plans, len(by_cost))
        spread = _spread_indices([self._cost(problem, selection) for selection in by_cost], (count + 1) // 2)
        accepted: dict[int, bool] = {}
        for step in self.track(range(count), "plans of the front", count):
            index = spread[step] if step < len(spread) else _next_index(accepted, len(by_cost))
            accepted[index] = self._is_accepted(self.ledger.record(self._parts(by_cost[index]), "ilp"))

    def _cost(self, problem: Problem, selection: Selection) -> float:
        return problem.value(self.objective, selection.totals[self.objective])

    def _is_accepted(self, row: Row) -> bool:
        return self.ledger.loss(row) <= self.ledger.loss(self.ledger.rows[0]) + self.settings.accept_loss

    def _solve_otherwise(self, problem: Problem, exact: SearchResult) -> SearchResult:
        """Another solver of `searches.solvers`; one that measures sees the choosing half, from the exact front on."""
        further = [name for name in problem.costs if name not in (SENSITIVITY, self.objective)]
        costs = [self.objective, *further][: int(self.settings.options.get("n_objectives", 2)) - 1]

        def measured(selection: Selection) -> tuple[float, ...]:
            row = self.ledger.record(self._parts(selection), self.settings.solver)
            return (self.ledger.loss(row), *(problem.value(name, selection.totals[name]) for name in costs))

        def mapper(function: Callable[[Selection], Any], selections: Iterable[Selection]) -> list[Any]:
            batch = list(selections)
            return [function(selection) for selection in self.track(batch, self.settings.solver, len(batch))]

        count = int(self.settings.options.get("population", 24)) // 2
        by_cost = [self._cost(problem, selection) for selection in exact.selections]
        return solvers.solve(
            self.settings.solver,
            problem,
            self.settings.options,
            evaluate=measured,
            seeds=[exact.selections[index] for index in _spread_indices(by_cost, count)],
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

    def _sensitivity_table(self, sensitivities: Sequence[Array]) -> pd.DataFrame:
        return pd.DataFrame(
            [
                {"group": group.name, "format": choice.label, self.settings.sensitivity_measure: float(value)}
                for group, values in zip(self.groups, sensitivities, strict=True)
                for choice, value in zip(group.choices, values, strict=True)
            ]
        )


def _meets(row: Row, budgets: Mapping[str, float]) -> bool:
    return all(row[name] <= limit for name, limit in budgets.items())


def _spread_indices(costs: Sequence[float], count: int) -> list[int]:
    """At most `count` indices, evenly spaced in the logarithm of the cost, both ends included."""
    if len(costs) <= count:
        return list(range(len(costs)))
    logarithms = np.log(np.maximum(costs, 1e-30))
    wanted = np.linspace(logarithms.min(), logarithms.max(), count)
    return sorted({int(np.abs(logarithms - value).argmin()) for value in wanted})


def _next_index(accepted: Mapping[int, bool], count: int) -> int:
    """The point of a front of `count`, cheapest first, to measure next.

    Half-way between the cheapest accepted point and the next cheaper measured one; where those are neighbours,
    the nearest unmeasured one below (measured curves are not monotone), failing that above.
    """
    upper = min((index for index, good in accepted.items() if good), default=count)
    lower = max((index for index in accepted if index < upper), default=-1)
    if upper - lower > 1:
        return (lower + upper) // 2
    unmeasured = [index for index in range(count) if index not in accepted]
    below = [index for index in unmeasured if index < upper]
    return max(below) if below else min(unmeasured)
