"""A plan about to run: its defaults settled, its fit to the network checked, one batch at a time."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from qsim.emulator.execute import Transform, run_graph
from qsim.emulator.integer_plan import names_requantization, run_integers
from qsim.emulator.mac_layers import LayerRunner
from qsim.emulator.tensors import TensorCaster
from qsim.errors import PlanError
from qsim.plan import Arithmetic, BitPlan

if TYPE_CHECKING:
    from qsim.emulator.reuse import Recording
    from qsim.graph import Graph, Layer


@dataclass(frozen=True, eq=False)
class PlanRun:
    """A plan about to run: what casts its tensors and computes its nodes, the same for all batches."""

    graph: Graph
    plan: BitPlan | None
    arithmetic: Arithmetic
    seed: int
    caster: TensorCaster
    runner: LayerRunner

    @classmethod
    def of(
        cls,
        graph: Graph,
        plan: BitPlan | None,
        arrays: Mapping[str, torch.Tensor],
        arithmetic: Arithmetic | None,
        seed: int | None,
    ) -> PlanRun:
        """Defaults are the plan's own. Raises PlanError when plan and graph do not belong together."""
        if plan is not None:
            _check_plan(graph, plan)
        chosen: Arithmetic = arithmetic or (plan.arithmetic if plan is not None else "fast")
        number = seed if seed is not None else plan.seed if plan is not None else 0
        caster = TensorCaster(graph, plan, next(iter(arrays.values())).device, number)
        return cls(graph, plan, chosen, number, caster, LayerRunner(graph, plan, chosen, caster))

    def batch(
        self,
        first_sample: int,
        inputs: Mapping[str, torch.Tensor],
        keep: Collection[str] = (),
        known: Mapping[str, torch.Tensor] | None = None,
        transform: Transform | None = None,
    ) -> dict[str, torch.Tensor]:
        """Outputs and kept tensors of one batch; `transform` stands in for the caster (and calls it)."""
        self.caster.first_sample = first_sample
        if self.arithmetic == "exact" and self.plan is not None and names_requantization(self.plan):
            return run_integers(self.graph, self.plan, inputs, keep)
        return run_graph(
            self.graph,
            inputs,
            transform=transform or self.caster,
            run_node=self.runner,
            keep=keep,
            known=known,
        )

    def arithmetic_of(self, layer: Layer, reuse: Recording | None = None) -> str:
        """LayerTrace.arithmetic, of the recording where the layer did not run."""
        named = self.plan.layers.get(layer.node) if self.plan is not None else None
        if named is not None and named.requantize and self.arithmetic == "exact":
            return f"integer, requantized {named.requantize}"
        if reuse is not None and not self.runner.has_run(layer.name):
            return reuse.arithmetic_of(layer.name)
        return self.runner.arithmetic_of(layer.name)


def _check_plan(graph: Graph, plan: BitPlan) -> None:
    if plan.model_hash and plan.model_hash != graph.hash:
        raise PlanError(
            f"plan {plan.id} was made for model '{plan.model_name}' ({plan.model_hash[:12]}), "
            f"not for this one ({graph.hash[:12]})"
        )
    unknown = sorted(set(plan.tensors) - set(graph.tensors))
    if unknown:
        raise PlanError(
            f"plan {plan.id} names tensor '{unknown[0]}', which the model '{graph.name}' does not have"
        )
    mixed = next((name for name, tensor in plan.tensors.items() if len(tensor.specs) > 1), None)
    if mixed is not None:
        raise PlanError(
            f"plan {plan.id}: tensor '{mixed}' mixes specs over its channels; the emulator takes one spec a tensor"
        )
    layers = {layer.name for layer in graph.layers}
    strange = sorted(set(plan.layers) - layers - {node.name for node in graph.nodes})
    if strange:
        raise PlanError(
            f"plan {plan.id} names layer '{strange[0]}'; the model has {', '.join(sorted(layers))}"
        )
