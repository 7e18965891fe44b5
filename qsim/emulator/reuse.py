"""Reuse: a run recorded once, from which runs of other plans on the same inputs start.

A scan that changes one layer at a time computes the same activations again and again. A `Recording` holds those
of one base plan (float32, say) as they stood before they were cast; a run of another plan takes from it every
activation that only untouched nodes made, and computes what follows. A node is untouched when the plan casts
its operands, and forms its sums, as the base does; so the bits are those of a run from the start.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from qsim.emulator.batches import Inputs, as_tensors, batch_of, batches
from qsim.emulator.execute import needed_nodes
from qsim.emulator.integer_plan import names_requantization
from qsim.emulator.plan_run import PlanRun
from qsim.errors import UserError

if TYPE_CHECKING:
    from qsim.graph import Graph, Node
    from qsim.plan import Arithmetic, BitPlan, TensorPlan

MEMORY_BYTES = 1 << 29


@dataclass(frozen=True, eq=False)
class Recording:
    """Activations of one run, {tensor: value before its cast} for each batch of `batch` samples.

    outputs: room for what `qsim.emulator.deviation` last computed from them.
    """

    run: PlanRun
    inputs: Mapping[str, torch.Tensor]
    batch: int
    activations: Sequence[Mapping[str, torch.Tensor]]
    outputs: dict[Any, Any] = field(default_factory=dict)
    _untouched: dict[tuple[str | None, Arithmetic, int], frozenset[str]] = field(default_factory=dict)

    @cached_property
    def bytes(self) -> int:
        """Memory that the recording holds; views of one array count once."""
        storages = [value.untyped_storage() for values in self.activations for value in values.values()]
        return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())

    def check(self, graph: Graph, inputs: Mapping[str, torch.Tensor]) -> None:
        """Raises UserError unless this was recorded on the same network and inputs."""
        if graph.hash != self.run.graph.hash:
            raise UserError(f"reuse was recorded for model '{self.run.graph.name}', not for '{graph.name}'")
        for name, value in self.inputs.items():
            if value is not inputs[name] and not torch.equal(value, inputs[name]):
                raise UserError(f"reuse was recorded on other inputs: '{name}' differs")

    def known(
        self, plan: BitPlan | None, arithmetic: Arithmetic, seed: int
    ) -> Sequence[Mapping[str, torch.Tensor]]:
        """For each batch the activations that `plan` leaves as they were before their cast."""
        names = self.untouched(plan, arithmetic, seed)
        return [{name: batch[name] for name in batch if name in names} for batch in self.activations]

    def untouched(self, plan: BitPlan | None, arithmetic: Arithmetic, seed: int) -> frozenset[str]:
        """Recorded tensors that `plan` computes as the base does. None where arithmetic or integers differ."""
        key = (None if plan is None else plan.id, arithmetic, seed)
        if key not in self._untouched:
            self._untouched[key] = self._find_untouched(plan, arithmetic, seed)
        return self._untouched[key]

    def node_macs(self, plan: BitPlan | None) -> int:
        """Multiply-accumulates a sample of the layers that a run of `plan` on this recording computes."""
        chosen = plan.arithmetic if plan is not None else self.run.arithmetic
        names = self.untouched(plan, chosen, self.run.seed if plan is None else plan.seed)
        graph = self.run.graph
        ran = {node.name for node in needed_nodes(graph, graph.outputs, names)}
        return sum(layer.macs for layer in graph.layers if layer.node in ran)

    def arithmetic_of(self, layer: str) -> str:
        """How the recorded run formed the sums of a layer."""
        return self.run.runner.arithmetic_of(layer)

    def _find_untouched(self, plan: BitPlan | None, arithmetic: Arithmetic, seed: int) -> frozenset[str]:
        base = self.run.plan
        if any(names_requantization(either) for either in (base, plan)):
            return frozenset()
        if base is not None and arithmetic != self.run.arithmetic:
            return frozenset()
        changed = self._differing(plan, seed != self.run.seed)
        touched: set[str] = set()
        for node in self.run.graph.nodes:
            reads = {name for name in node.inputs if name}
            if reads & (changed | touched) or self._layer_differs(node, plan):
                touched.update(node.outputs)
        return frozenset().union(*self.activations[:1]) - touched

    def _differing(self, plan: BitPlan | None, other_seed: bool) -> set[str]:
        """Tensors that `plan` casts otherwise than the base does."""
        ours = {} if plan is None else plan.tensors
        base = {} if self.run.plan is None else self.run.plan.tensors
        return {
            name
            for name in {*ours, *base}
            if not _same(ours.get(name), base.get(name)) or (other_seed and _is_stochastic(ours[name]))
        }

    def _layer_differs(self, node: Node, plan: BitPlan | None) -> bool:
        names = [node.name, *(layer.name for layer in self.run.graph.layers if layer.node == node.name)]
        ours = {} if plan is None else plan.layers
        base = {} if self.run.plan is None else self.run.plan.layers
        return any(ours.get(name) != base.get(name) for name in names)


def record(
    graph: Graph,
    inputs: Inputs,
    plan: BitPlan | None = None,
    *,
    arithmetic: Arithmetic | None = None,
    seed: int | None = None,
    batch_size: int | None = None,
    memory_bytes: int = MEMORY_BYTES,
) -> Recording:
    """Run `plan` (None: float32) on `inputs` and keep what later runs can start from.

    Kept are the activations at which a run can join: those that layers read, and other operands of nodes with
    several. Where they exceed `memory_bytes` (for all samples), those that save least work a byte are left out
    and computed again when needed. Other arguments as in `emulate`.
    """
    arrays, _ = as_tensors(graph, inputs)
    run = PlanRun.of(graph, plan, arrays, arithmetic, seed)
    samples = len(next(iter(arrays.values())))
    step = batch_of(graph, samples, batch_size)
    wanted = _joints(graph)
    recorded: list[dict[str, torch.Tensor]] = []
    for start, batch in batches(arrays, step):
        values = _record_batch(run, start, batch, wanted)
        if not recorded:
            wanted = _affordable(graph, values, memory_bytes / max(1.0, samples / step))
        recorded.append({name: value for name, value in values.items() if name in wanted})
    return Recording(run, arrays, step, recorded)


def _record_batch(
    run: PlanRun, first_sample: int, batch: Mapping[str, torch.Tensor], wanted: frozenset[str]
) -> dict[str, torch.Tensor]:
    values = {}

    def keep(name: str, value: torch.Tensor) -> torch.Tensor:
        if name in wanted:
            values[name] = value
        return run.caster(name, value)

    run.batch(first_sample, batch, transform=keep)
    return values


def _joints(graph: Graph) -> frozenset[str]:
    """Activations that an untouched node may hand to a touched one."""
    found = {name for layer in graph.layers for name in (layer.input, layer.weights)}
    for node in graph.nodes:
        operands = [name for name in node.inputs if name and name not in graph.parameters]
        if len(operands) > 1:
            found.update(operands)
    return frozenset(found - set(graph.parameters) - set(graph.inputs))


def _affordable(graph: Graph, values: Mapping[str, torch.Tensor], budget_bytes: float) -> frozenset[str]:
    """The tensors of one batch to keep within `budget_bytes`: those dearest to compute again, a byte."""
    macs: dict[str, int] = {}
    for layer in graph.layers:
        macs[layer.node] = macs.get(layer.node, 0) + layer.macs
    joints, worth = set(values), {}
    for name, value in values.items():
        nodes = needed_nodes(graph, [name], joints - {name})
        work = sum(macs.get(node.name, 0) for node in nodes) + math.prod(value.shape[1:]) * len(nodes)
        worth[name] = work / max(1, value.untyped_storage().nbytes())
    kept, storages = set(), dict[int, int]()
    for name in sorted(values, key=lambda name: (-worth[name], name)):
        storage = values[name].untyped_storage()
        grown = {**storages, storage.data_ptr(): storage.nbytes()}
        if sum(grown.values()) <= budget_bytes:
            storages = grown
            kept.add(name)
    return frozenset(kept)


def _same(a: TensorPlan | None, b: TensorPlan | None) -> bool:
    if a is None or b is None or a is b:
        return a is b
    arrays = ((a.scale, b.scale), (a.zero_point, b.zero_point), (a.codes, b.codes))
    return (a.spec, a.role, a.axis) == (b.spec, b.role, b.axis) and all(
        x is y or (x is not None and y is not None and np.array_equal(x, y)) for x, y in arrays
    )


def _is_stochastic(plan: TensorPlan) -> bool:
    return any(spec.cast.rounding.is_stochastic for spec in plan.specs)
