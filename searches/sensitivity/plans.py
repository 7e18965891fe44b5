"""Plans of one group at a time, with the rounding that ships, at the price of a few.

A layer that is tuned step by step sees the inputs that the quantized network before it makes. In a plan with one
group those are the float32 network's, cast; so all groups can be tuned in one walk through the network a choice, and
each plan then finds its layers done.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from searches.sensitivity.scan import MakePlan

if TYPE_CHECKING:
    from qsim.graph import Graph
    from qsim.plan import BitPlan
    from qsim.ptq import PlanBuilder
    from searches.candidates import Candidates, Choice


def scan_plans(builder: PlanBuilder, groups: Sequence[Candidates]) -> MakePlan:
    """What `measure_sensitivities` takes as make_plan: the plans of `builder`, bit for bit.

    Tuning costs a walk through the network for each choice of the menu, not one for each group and choice. Plans of
    several groups, and of a group whose own layers feed each other, are built as always.
    """
    local = replace(builder, calibration=replace(builder.calibration, sequential=False))
    walk = replace(local, calibration=replace(local.calibration, after=()))
    alone = {group.name for group in groups if not feeds_itself(builder.graph, group)}
    walked: set[Choice] = set()

    def make_plan(parts: Sequence[tuple[Candidates, Choice]]) -> BitPlan:
        is_single = len(parts) == 1 and parts[0][0].name in alone
        if is_single and builder.calibration.steps and parts[0][1] not in walked:
            choice = parts[0][1]
            able = [group for group in groups if choice.label in {other.label for other in group.choices}]
            _build(walk, [(group, choice) for group in able if group.name in alone])
            walked.add(choice)
        return _build(local if is_single else builder, parts)

    return make_plan


def feeds_itself(graph: Graph, group: Candidates) -> bool:
    """Whether a tensor that the group casts or changes reaches the input of another of its layers, uncast."""
    inputs = {name for layer in group.layers for name in (layer.input, layer.weights)}
    touched = set(group.outputs) | inputs
    reached: set[str] = set()  # tensors that differ from float32's before any cast of their own
    for node in graph.nodes:
        if any(name in touched or name in reached for name in node.inputs if name):
            reached.update(node.outputs)
    return bool(reached & inputs)


def _build(builder: PlanBuilder, parts: Sequence[tuple[Candidates, Choice]]) -> BitPlan:
    specs = {name: spec for group, choice in parts for name, spec in group.tensors(choice).items()}
    units = {name: unit for group, choice in parts for name, unit in group.arithmetic(choice).items()}
    return builder.build(specs, {"search": "sensitivity"}, units)
