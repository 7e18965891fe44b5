"""The main job: a network, a menu of formats and a piece of hardware in; measured trade-offs and bit plans
out.

calibrate -> sensitivities (one group at a time) -> additive problem -> exact front (and evolution)
          -> plans -> measured accuracy of every plan -> rows of results, the front, the chosen plan
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import qsim
from hwmodels import AGGREGATE
from qsim.errors import UserError
from qsim.plan import BitPlan
from searches import front, solvers
from searches.build import problem_from_layers
from searches.evaluate import Evaluator, Halves, Measurement
from searches.problem import Option, Problem, SearchResult, Selection
from searches.sensitivity import measure_sensitivities
from searches.statistics import bootstrap_interval, paired_difference

if TYPE_CHECKING:
    from hwmodels import Target
    from qsim.ptq import PlanBuilder
    from qsim.spec import Spec
    from searches.candidates import Candidates, Choice

Array = NDArray[Any]
Parts = list[tuple["Candidates", "Choice"]]
Labelled = tuple[str, str, Parts]  # search, label, what every group takes
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
    """rows: the results table, one row a measured configuration; chosen: id of the plan to ship."""

    rows: pd.DataFrame
    plans: Mapping[str, BitPlan]
    layer_costs: Mapping[str, pd.DataFrame]
    chosen: str
    objective: str
    search: SearchResult
    sensitivities: pd.DataFrame


@dataclass(frozen=True, eq=False)
class MainJob:
    """Everything the steps share; `run` is the job."""

    evaluator: Evaluator
    builder: PlanBuilder
    target: Target
    groups: Sequence[Candidates]
    menu: Sequence[Choice]
    settings: Settings
    halves: Halves
    track: Track

    def run(self) -> Outcome:
        """Search and measure. The search sees the choosing half only; every row reports the other."""
        objective = self.settings.objective or self.target.objectives[0]
        sensitivities = self._sensitivities()
        costs = self._option_costs(objective)
        problem = self._problem(sensitivities, costs, objective)
        found = front.solve(problem)
        if not found.selections:
            raise UserError(f"no plan meets the budgets: {found.claim}")
        labelled: list[Labelled] = [("uniform", choice.label, self._uniform(choice)) for choice in self.menu]
        spread = _spread(found.selections, problem, objective, self.settings.measured_plans)
        labelled += [("ilp", "", self._parts(selection)) for selection in spread]
        if self.settings.solver != "ilp":
            found = self._solve_otherwise(problem, found, objective)
            labelled += [(self.settings.solver, "", self._parts(selection)) for selection in found.selections]
        rows, plans, layer_costs = self._measure_all(labelled)
        table = self._mark_front(pd.DataFrame(rows), objective)
        chosen = self._choose(table, objective)
        table = table.assign(chosen=table["plan_id"] == chosen, objective=objective)
        return Outcome(
            table, plans, layer_costs, chosen, objective, found, self._sensitivity_table(sensitivities)
        )

    # The additive model

    def _sensitivities(self) -> list[Array]:
        samples = self.halves.choose[: self.settings.sensitivity_samples]
        total = sum(len(group.choices) for group in self.groups)
        return measure_sensitivities(
            self.groups,
            lambda parts: self.builder.build(_specs(parts)),
            self.evaluator,
            samples,
            self.settings.sensitivity_measure,
            lambda pairs: self.track(pairs, "sensitivities", total),
        )

    def _option_costs(self, objective: str) -> dict[str, list[Array]]:
        """Costs of every (group, choice): sums over a group's layers, or the largest where a column's total is one."""
        tables = [[self._layer_costs([(group, choice)]) for choice in group.choices] for group in self.groups]
        known = _plain_columns(tables[0][0])
        for name in (objective, *self.settings.budgets):
            if name not in known or AGGREGATE.get(name) not in ("sum", "max"):
                possible = ", ".join(column for column in known if AGGREGATE.get(column) in ("sum", "max"))
                raise UserError(
                    f"'{name}' is no cost that a search on {self.target.name} can trade; it has {possible}"
                )
        wanted = (objective, *self.settings.budgets, *self.target.objectives, "weight_bytes", "bops")
        names = [
            name for name in dict.fromkeys(wanted) if name in known and AGGREGATE.get(name) in ("sum", "max")
        ]
        return {
            name: [
                np.array([float(getattr(table[name], AGGREGATE[name])()) for table in choices])
                for choices in tables
            ]
            for name in names
        }

    def _problem(
        self, sensitivities: Sequence[Array], costs: Mapping[str, list[Array]], objective: str
    ) -> Problem:
        largest = [name for name in costs if AGGREGATE[name] == "max"]
        return problem_from_layers(
            [group.name for group in self.groups],
            [[Option(choice.label) for choice in group.choices] for group in self.groups],
            {SENSITIVITY: list(sensitivities), **costs},
            objectives=(SENSITIVITY, objective),
            budgets=self.settings.budgets,
            cuts={name: [[index] for index in range(len(self.groups))] for name in largest},
        )

    # Plans and their measurements

    def _parts(self, selection: Selection) -> Parts:
        return [
            (group, group.choices[index]) for group, index in zip(self.groups, selection.choices, strict=True)
        ]

    def _uniform(self, choice: Choice) -> Parts:
        """Every group takes `choice`, except where a rule forces another."""
        return [(group, choice if choice in group.choices else group.choices[0]) for group in self.groups]

    def _measure_all(
        self, labelled: Sequence[Labelled]
    ) -> tuple[list[dict[str, Any]], dict[str, BitPlan], dict[str, pd.DataFrame]]:
        rows = [self._float_row()]
        plans: dict[str, BitPlan] = {}
        layer_costs: dict[str, pd.DataFrame] = {}
        for search, label, parts in self.track(labelled, "measuring plans", len(labelled)):
            plan = self.builder.build(_specs(parts), {"search": search, "label": label or "searched"})
            if plan.id in plans:
                row = next(row for row in rows if row["plan_id"] == plan.id)
                row["found_by"] = " ".join(dict.fromkeys([*row["found_by"].split(), search]))
                continue
            plans[plan.id] = plan
            layer_costs[plan.id] = self._layer_costs(parts, plan)
            rows.append(
                self._row(
                    plan,
                    search,
                    label or _shorthand(parts),
                    layer_costs[plan.id],
                    self.evaluator.measure(plan),
                )
            )
        return rows, plans, layer_costs

    def _layer_costs(self, parts: Parts, plan: BitPlan | None = None) -> pd.DataFrame:
        """Costs of the layers in `parts`. Without a plan a layer's output is taken to have its input's format."""
        layers = [(layer, choice) for group, choice in parts for layer in group.layers]
        order = {layer.name: i for i, layer in enumerate(self.evaluator.graph.layers)}
        layers.sort(key=lambda pair: order[pair[0].name])

        def output(name: str, choice: Choice) -> Spec | None:
            if plan is None:
                return choice.activations
            tensor = plan.tensors.get(name)
            return None if tensor is None else tensor.specs[0]

        frame = self.target.layer_costs(
            [layer for layer, _ in layers],
            [choice.activations if layer.kind == "matmul" else choice.weights for layer, choice in layers],
            [choice.activations for _, choice in layers],
            [output(layer.output, choice) for layer, choice in layers],
            [None] * len(layers),
        )
        frame.insert(0, "layer", [layer.name for layer, _ in layers])
        frame.insert(1, "format", [choice.label for _, choice in layers])
        return frame

    def _row(
        self, plan: BitPlan, search: str, label: str, costs: pd.DataFrame, measured: Measurement
    ) -> dict[str, Any]:
        totals = self.target.total(costs.drop(columns=["layer", "format"]))
        return {
            **self._provenance(),
            "plan_id": plan.id,
            "search": search,
            "found_by": search,
            "label": label,
            **self._metric_columns(measured.scores),
            "agreement": None
            if measured.agreement is None
            else float(measured.agreement[self.halves.report].mean()),
            **{str(name): value for name, value in totals.items()},
            "weight_bytes": weight_bytes(self.evaluator.graph.layers, plan),
            "seconds": measured.seconds,
        }

    def _float_row(self) -> dict[str, Any]:
        """The float32 network; its costs are not estimated (a float32 accelerator is not what is being designed)."""
        return {
            **self._provenance(),
            "plan_id": "float32",
            "search": "float",
            "found_by": "float",
            "label": "float32",
            **self._metric_columns(self.evaluator.float_scores),
            "agreement": 1.0 if self.evaluator.is_classifier else None,
            "weight_bytes": 4
            * sum(
                int(np.prod(layer.weight_shape))
                for layer in self.evaluator.graph.layers
                if layer.weights in self.evaluator.graph.parameters
            ),
            "seconds": 0.0,
        }

    def _metric_columns(self, scores: Array) -> dict[str, float]:
        reference = self.evaluator.float_scores
        value = None if self.evaluator.metric.is_mean else self.evaluator.metric.value
        columns: dict[str, float] = {}
        for name, half in (("choose", self.halves.choose), ("report", self.halves.report)):
            interval = bootstrap_interval(scores[half], value, seed=self.settings.seed)
            columns |= {
                f"{name}_value": interval.value,
                f"{name}_low95": interval.low,
                f"{name}_high95": interval.high,
            }
        half = self.halves.report
        paired = paired_difference(scores[half], reference[half], value, seed=self.settings.seed)
        return columns | {
            "report_difference": paired.value,
            "report_difference_low95": paired.low,
            "report_difference_high95": paired.high,
        }

    def _provenance(self) -> dict[str, Any]:
        evaluator = self.evaluator
        return {
            "metric": evaluator.metric.name,
            "model": evaluator.graph.name,
            "model_hash": evaluator.graph.hash,
            "data_hash": evaluator.dataset.hash,
            "hardware": self.target.name,
            "arithmetic": evaluator.arithmetic,
            "seed": self.settings.seed,
            "qsim_version": qsim.__version__,
        }

    def _solve_otherwise(self, problem: Problem, exact: SearchResult, objective: str) -> SearchResult:
        """Another solver of `searches.solvers`; one that measures sees the choosing half, from the exact front on."""
        sign = -1.0 if self.evaluator.metric.higher_is_better else 1.0
        further = [name for name in problem.costs if name not in (SENSITIVITY, objective)]
        costs = [objective, *further][: int(self.settings.options.get("n_objectives", 2)) - 1]

        def measured(selection: Selection) -> tuple[float, ...]:
            plan = self.builder.build(_specs(self._parts(selection)))
            loss = sign * self.evaluator.value(self.evaluator.measure(plan).scores, self.halves.choose)
            return (loss, *(problem.value(name, selection.totals[name]) for name in costs))

        def mapper(function: Callable[[Selection], Any], selections: Iterable[Selection]) -> list[Any]:
            batch = list(selections)
            return [function(selection) for selection in self.track(batch, self.settings.solver, len(batch))]

        population = int(self.settings.options.get("population", 24))
        return solvers.solve(
            self.settings.solver,
            problem,
            self.settings.options,
            evaluate=measured,
            seeds=_spread(exact.selections, problem, objective, population // 2),
            seed=self.settings.seed,
            mapper=mapper,
        )

    # What to make of the rows

    def _loss(self, table: pd.DataFrame) -> pd.Series:
        return -table["choose_value"] if self.evaluator.metric.higher_is_better else table["choose_value"]

    def _mark_front(self, table: pd.DataFrame, objective: str) -> pd.DataFrame:
        """`is_front`: no other measured plan is cheaper and better on the choosing half."""
        loss, cost = self._loss(table).to_numpy(), table[objective].to_numpy(float)
        table["is_front"] = [
            bool(np.isfinite(cost[i]))
            and not ((loss <= loss[i]) & (cost <= cost[i]) & ((loss < loss[i]) | (cost < cost[i]))).any()
            for i in range(len(table))
        ]
        return table

    def _choose(self, table: pd.DataFrame, objective: str) -> str:
        """The cheapest plan within `accept_loss` of float32 on the choosing half; failing that, the best one."""
        loss = self._loss(table)
        plans = table[table["plan_id"] != "float32"]
        good = plans[loss[plans.index] <= loss.iloc[0] + self.settings.accept_loss]
        if good.empty:
            best = int(loss[plans.index].to_numpy().argmin())
            return str(plans["plan_id"].iloc[best])
        return str(good.sort_values([objective, "plan_id"]).iloc[0]["plan_id"])

    def _sensitivity_table(self, sensitivities: Sequence[Array]) -> pd.DataFrame:
        return pd.DataFrame(
            [
                {"group": group.name, "format": choice.label, self.settings.sensitivity_measure: float(value)}
                for group, values in zip(self.groups, sensitivities, strict=True)
                for choice, value in zip(group.choices, values, strict=True)
            ]
        )


def weight_bytes(layers: Iterable[Any], plan: BitPlan) -> float:
    """Stored size of the weights and biases of the MAC layers: codes at their width, block scales included,
    channel scales (one float a channel) not; what the plan leaves out counts 32 bits.
    """
    bits: dict[str, float] = {}
    for layer in layers:
        tensor = plan.tensors.get(layer.weights)
        size = int(np.prod(layer.weight_shape))
        if layer.kind != "matmul":
            bits[layer.weights] = 32.0 * size
            if tensor is not None:
                spec = tensor.specs[0]
                matrix = (
                    layer.weight_shape[layer.weight_axis],
                    size // layer.weight_shape[layer.weight_axis],
                )
                overhead = (
                    spec.scale_bits_per_element(matrix)
                    if spec.granularity is not None and spec.granularity.kind == "block"
                    else 0.0
                )
                bits[layer.weights] = (spec.bits + overhead) * size
        if layer.bias is not None:
            bits[layer.bias] = 32.0 * layer.weight_shape[layer.weight_axis]
    return sum(bits.values()) / 8


def _specs(parts: Sequence[tuple[Candidates, Choice]]) -> dict[str, Spec]:
    return {name: spec for group, choice in parts for name, spec in group.tensors(choice).items()}


def _shorthand(parts: Parts) -> str:
    """The formats of a mixed plan, the most frequent first."""
    labels = [choice.label for _, choice in parts]
    counts = sorted(
        {label: labels.count(label) for label in labels}.items(), key=lambda item: (-item[1], item[0])
    )
    return " ".join(f"{count}x{label}" for label, count in counts)


def _spread(selections: Sequence[Selection], problem: Problem, objective: str, count: int) -> list[Selection]:
    """At most `count` points of a front, evenly spaced in the logarithm of the cost, both ends included."""
    if len(selections) <= count:
        return list(selections)
    cost = np.log(
        [max(problem.value(objective, selection.totals[objective]), 1e-30) for selection in selections]
    )
    wanted = np.linspace(cost.min(), cost.max(), count)
    return [selections[i] for i in sorted({int(np.abs(cost - value).argmin()) for value in wanted})]


def _plain_columns(frame: pd.DataFrame) -> list[str]:
    return [
        name
        for name in map(str, frame.columns)
        if not name.endswith(("_low90", "_high90")) and name not in ("layer", "format")
    ]
