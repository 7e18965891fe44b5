"""Every measured configuration, once: its plan, the costs of its layers and its row of results."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import qsim
from searches.evaluate import Evaluator, Halves, Measurement
from searches.schedule import FLOAT_BITS, PEAK, Cut, live_cuts, peak_bytes
from searches.statistics import bootstrap_interval, paired_difference

if TYPE_CHECKING:
    from hwmodels import Target
    from qsim.graph import Layer
    from qsim.plan import BitPlan
    from qsim.ptq import PlanBuilder
    from qsim.spec import Spec
    from searches.candidates import Candidates, Choice

Array = NDArray[Any]
Parts = Sequence[tuple["Candidates", "Choice"]]  # what every group takes
Row = dict[str, Any]


@dataclass(eq=False)
class Ledger:
    """Builds, prices and measures plans; `rows` are the results table, the float32 network first.

    The metric is measured on both halves of the evaluation data, with 95 % bootstrap intervals; the paired
    difference to float32 is of the reported half. `provenance` is copied into every row.
    """

    evaluator: Evaluator
    builder: PlanBuilder
    target: Target
    halves: Halves
    seed: int = 0
    provenance: Mapping[str, str] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    plans: dict[str, BitPlan] = field(default_factory=dict)
    layer_costs: dict[str, pd.DataFrame] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rows.append(self._float_row())

    def plan(self, parts: Parts, search: str = "", label: str = "") -> BitPlan:
        """The plan in which every group takes its part."""
        specs = {name: spec for group, choice in parts for name, spec in group.tensors(choice).items()}
        units = {name: unit for group, choice in parts for name, unit in group.arithmetic(choice).items()}
        return self.builder.build(specs, {"search": search, "label": label}, units)

    def record(self, parts: Parts, search: str, label: str = "") -> Row:
        """Measure a configuration and keep its row; one that is known only notes who else found it."""
        label = label or shorthand(parts)
        plan = self.plan(parts, search, label)
        if plan.id in self.plans:
            row = next(row for row in self.rows if row["plan_id"] == plan.id)
            row["found_by"] = " ".join(dict.fromkeys([*row["found_by"].split(), search]))
            return row
        self.plans[plan.id] = plan
        self.layer_costs[plan.id] = self.costs(parts, plan)
        row = self._row(plan, search, label, self.evaluator.measure(plan))
        self.rows.append(row)
        return row

    def loss(self, row: Row) -> float:
        """The metric on the choosing half, as something to minimise."""
        return float(-row["choose_value"] if self.evaluator.metric.higher_is_better else row["choose_value"])

    @cached_property
    def cuts(self) -> tuple[Cut, ...]:
        """What is in memory at each step of the network."""
        return live_cuts(self.evaluator.graph)

    def costs(self, parts: Parts, plan: BitPlan | None = None) -> pd.DataFrame:
        """Costs of the layers in `parts`, in the order of the network.

        A layer's output has the format that the plan gives it; without a plan it is what its choice says where no
        layer multiplies it, and taken to be that of the layer's own input elsewhere.
        """
        layers = [
            (layer, choice, layer.output in group.outputs)
            for group, choice in parts
            for layer in group.layers
        ]
        order = {layer.name: i for i, layer in enumerate(self.evaluator.graph.layers)}
        layers.sort(key=lambda entry: order[entry[0].name])
        in_plan = None if plan is None else _spec_in(plan)
        outputs = [
            in_plan(layer.output) if in_plan else choice.output if is_free else choice.activations
            for layer, choice, is_free in layers
        ]
        frame = self.price([(layer, choice) for layer, choice, _ in layers], outputs)
        frame.insert(0, "layer", [layer.name for layer, _, _ in layers])
        frame.insert(1, "format", [choice.label for _, choice, _ in layers])
        return frame

    def price(self, layers: Sequence[tuple[Layer, Choice]], outputs: Sequence[Spec | None]) -> pd.DataFrame:
        """Costs of layers under their choices, writing `outputs`: one row each."""
        return self.target.layer_costs(
            [layer for layer, _ in layers],
            [choice.activations if layer.kind == "matmul" else choice.weights for layer, choice in layers],
            [choice.activations for _, choice in layers],
            outputs,
            [choice.accumulator for _, choice in layers],
        )

    def table(self, objective: str, chosen: str) -> pd.DataFrame:
        """All rows, with the plans that no other beats on both the choosing half and `objective` marked."""
        table = pd.DataFrame(self.rows)
        loss = np.array([self.loss(row) for row in self.rows])
        cost = table[objective].to_numpy(float)
        table["is_front"] = [
            bool(np.isfinite(cost[i]))
            and not ((loss <= loss[i]) & (cost <= cost[i]) & ((loss < loss[i]) | (cost < cost[i]))).any()
            for i in range(len(table))
        ]
        return table.assign(chosen=table["plan_id"] == chosen, objective=objective)

    def _row(self, plan: BitPlan, search: str, label: str, measured: Measurement) -> Row:
        costs = self.layer_costs[plan.id].drop(columns=["layer", "format"])
        agreement = measured.agreement
        return {
            **self._provenance(),
            "plan_id": plan.id,
            "search": search,
            "found_by": search,
            "label": label,
            **self._metric_columns(measured.scores),
            "agreement": None if agreement is None else float(agreement[self.halves.report].mean()),
            **{str(name): value for name, value in self.target.total(costs).items()},
            "weight_bytes": weight_bytes(self.evaluator.graph.layers, _spec_in(plan)),
            PEAK: peak_bytes(self.cuts, lambda name: _bits(_spec_in(plan)(name))),
            "choose_distance": float(measured.distance[self.halves.choose].mean()),
            "seconds": measured.seconds,
        }

    def _float_row(self) -> Row:
        """The float32 network; its hardware is not priced (a float32 accelerator is not what is designed)."""
        return {
            **self._provenance(),
            "plan_id": "float32",
            "search": "float",
            "found_by": "float",
            "label": "float32",
            **self._metric_columns(self.evaluator.float_scores),
            "agreement": 1.0 if self.evaluator.is_classifier else None,
            "weight_bytes": weight_bytes(self.evaluator.graph.layers, lambda name: None),
            PEAK: peak_bytes(self.cuts, lambda name: FLOAT_BITS),
            "choose_distance": 0.0,
            "seconds": 0.0,
        }

    def _metric_columns(self, scores: Array) -> Row:
        reference = self.evaluator.float_scores
        value = None if self.evaluator.metric.is_mean else self.evaluator.metric.value
        columns: Row = {}
        for name, half in (("choose", self.halves.choose), ("report", self.halves.report)):
            interval = bootstrap_interval(scores[half], value, seed=self.seed)
            columns |= {
                f"{name}_value": interval.value,
                f"{name}_low95": interval.low,
                f"{name}_high95": interval.high,
            }
        half = self.halves.report
        paired = paired_difference(scores[half], reference[half], value, seed=self.seed)
        return columns | {
            "report_difference": paired.value,
            "report_difference_low95": paired.low,
            "report_difference_high95": paired.high,
        }

    def _provenance(self) -> Row:
        evaluator = self.evaluator
        return {
            "metric": evaluator.metric.name,
            "model": evaluator.graph.name,
            "model_hash": evaluator.graph.hash,
            "data_hash": evaluator.dataset.hash,
            "hardware": self.target.name,
            "arithmetic": evaluator.arithmetic,
            "seed": self.seed,
            "qsim_version": qsim.__version__,
            **self.provenance,
        }


def weight_bytes(layers: Iterable[Layer], spec_of: Callable[[str], Spec | None]) -> float:
    """Stored size of the weights and biases of MAC layers.

    Codes at their width with the scales of their blocks; scales a tensor or a channel (a few floats) are not
    counted; biases, and what has no spec, count 32 bits a value. Tied weights count once.
    """
    layers = [layer for layer in layers if layer.kind != "matmul"]
    bits: dict[str, float] = {}
    for layer in layers:
        size = int(np.prod(layer.weight_shape))
        bits[layer.weights] = 32.0 * size
        spec = spec_of(layer.weights)
        if spec is not None:
            is_block = spec.granularity is not None and spec.granularity.kind == "block"
            outputs = layer.weight_shape[layer.weight_axis or 0]
            overhead = spec.scale_bits_per_element((outputs, size // outputs)) if is_block else 0.0
            bits[layer.weights] = (spec.bits + overhead) * size
    return sum(bits.values()) / 8 + bias_bytes(layers)


def stored_bytes(group: Candidates, choice: Choice) -> float:
    """`weight_bytes` of one group's layers under one choice."""
    return weight_bytes(group.layers, group.tensors(choice).get)


def _spec_in(plan: BitPlan) -> Callable[[str], Spec | None]:
    return lambda name: plan.tensors[name].specs[0] if name in plan.tensors else None


def _bits(spec: Spec | None) -> float:
    return FLOAT_BITS if spec is None else spec.bits


def bias_bytes(layers: Iterable[Layer]) -> float:
    """Four bytes an output channel for every layer with a bias."""
    return sum(4.0 * layer.weight_shape[layer.weight_axis or 0] for layer in layers if layer.bias is not None)


def shorthand(parts: Parts) -> str:
    """The formats of a mixed plan, the most frequent first."""
    labels = [choice.label for _, choice in parts]
    counts = sorted(
        {label: labels.count(label) for label in labels}.items(), key=lambda item: (-item[1], item[0])
    )
    return " ".join(f"{count}x{label}" for label, count in counts)
