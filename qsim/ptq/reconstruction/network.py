"""A plan as a function that gradients pass through: the quantized network whose parts are learned.

Nodes are run by qsim.emulator.operators, activations cast by the emulator's own caster; only sums are taken in
float32 as torch orders them, so a result differs from `qsim.emulate` by float rounding alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from qsim.emulator.execute import parameter_tensor
from qsim.emulator.operators import apply
from qsim.emulator.tensors import TensorCaster
from qsim.plan import BitPlan, TensorPlan
from qsim.ptq.bias import accumulator_scale, bias_entry
from qsim.ptq.grid import has_grid
from qsim.ptq.layer_matrix import is_tunable
from qsim.ptq.reconstruction.casts import (
    LearnedScale,
    cast_with_gradient,
    learned_scale,
    moved_point,
    step_size_gain,
)
from qsim.ptq.reconstruction.weights import LearnedWeight

if TYPE_CHECKING:
    from qsim.graph import Graph, Layer, Node

Array = NDArray[Any]
Values = dict[str, torch.Tensor]


class LearnedBias:
    """A bias [outputs], start + unit * learned; unit: the spread of each output, so that one rate serves all."""

    def __init__(self, start: torch.Tensor, unit: torch.Tensor) -> None:
        self._start, self._unit = start, unit.reshape(start.shape)
        self.learned = torch.zeros_like(start)

    def __call__(self) -> torch.Tensor:
        return self._start + self._unit * self.learned


class QuantizedNetwork:
    """weights, biases, scales: what can be learned, by tensor name; everything else is as the plan has it.

    weights: of layers that multiply by a parameter of their own, with a listable grid. biases: of the same
    layers, float32 (a plan's integers are finer than what is learned). scales: of activations cast under one
    static scale.
    """

    def __init__(
        self,
        graph: Graph,
        plan: BitPlan,
        sample: Mapping[str, torch.Tensor],
        kind: type[LearnedWeight],
        *,
        move_points: bool = False,
    ) -> None:
        """sample: some calibration inputs. kind: how weights are learned. move_points: whether fixed-point numbers
        without a scale may change their integer bits.
        """
        self.graph, self.plan = graph, plan
        self._caster = TensorCaster(graph, plan, torch.device("cpu"), plan.seed)
        self.layers = tuple(layer for layer in graph.layers if _is_learned(graph, plan, layer))
        self.weights: dict[str, LearnedWeight] = {}
        for layer in self.layers:
            entry = plan.tensors[layer.weights]
            scale = learned_scale(entry.specs[0], entry.scale, move_points=move_points)
            self.weights[layer.weights] = kind(graph, layer, entry, scale)
        self._readers = {
            name: layer for layer in self.layers if (name := _own_bias(graph, layer)) is not None
        }
        self.biases = self._learned_biases(sample)
        self.scales: dict[str, LearnedScale] = {}
        for name, entry in plan.tensors.items():
            if entry.role == "activation" and (entry.scale is None or entry.scale.ndim == 0):
                scale = learned_scale(entry.specs[0], entry.scale, move_points=move_points)
                self.scales |= {} if scale is None else {name: scale}

    def run(
        self,
        values: Mapping[str, torch.Tensor],
        keep: Collection[str],
        *,
        nodes: Sequence[Node] | None = None,
        drop: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> Values:
        """The tensors `keep`, before their own casts, from `values`, before theirs.

        nodes: the part of the network to run (default: all). drop: the share of activation values that stay as
        they are, not cast, drawn anew from `generator` for each tensor.
        """
        raw, cast = dict(values), {}
        parameters: Values = {}

        def read(name: str | None) -> torch.Tensor | None:
            if not name:
                return None
            if name in self.graph.parameters:
                if name not in parameters:
                    parameters[name] = self._parameter(name)
                return parameters[name]
            if name not in cast:
                cast[name] = self._dropped(name, raw[name], drop, generator)
            return cast[name]

        chosen = self.graph.nodes if nodes is None else nodes
        for node, last_read in zip(chosen, last_reads(chosen), strict=True):
            results = apply(node, [read(name) for name in node.inputs])
            raw |= {name: value for name, value in zip(node.outputs, results, strict=False) if name}
            for name in last_read:
                cast.pop(name, None)
                if name not in keep:
                    raw.pop(name, None)
        return {name: raw[name] for name in keep}

    def cast(self, name: str, value: torch.Tensor) -> torch.Tensor:
        """An activation as the plan casts it, with gradients for it and its scale."""
        entry = self.plan.tensors.get(name)
        if entry is None or not value.is_floating_point():
            return value
        learned, spec = self.scales.get(name), entry.specs[0]
        scale = torch.ones(()) if learned is None else learned()
        with torch.no_grad():
            rounded = self._caster_of(name, entry, learned)(name, value.detach())
        if spec.scale is not None and entry.scale is None:  # scales computed at run time cover every value
            return value + (rounded - value).detach()
        if spec.scale is not None and learned is None:
            scale = torch.from_numpy(np.asarray(entry.scale, np.float32))
        zero = 0.0 if entry.zero_point is None else float(entry.zero_point)
        low, high = spec.element.lowest - zero, spec.element.largest - zero
        gain = step_size_gain(value[0].numel(), high)
        return cast_with_gradient(value, scale, rounded, low, high, gain)

    def stored(self) -> BitPlan:
        """The plan with what was learned in the place of what it had."""
        tensors = dict(self.plan.tensors)
        for name, scale in self.scales.items():
            tensors[name] = _with_scale(tensors[name], scale)
        for name, weight in self.weights.items():
            tensors[name] = weight.stored()
        for layer in self.layers:
            if layer.bias in self.biases:
                bias = self.biases[layer.bias]().detach().numpy()
                entry = bias_entry(self.graph, layer, tensors, bias)
                if entry is not None:
                    tensors[layer.bias] = entry
        return replace(self.plan, tensors=tensors)

    def _learned_biases(self, sample: Mapping[str, torch.Tensor]) -> dict[str, LearnedBias]:
        nodes = {node.name: node for node in self.graph.nodes}
        outputs = {name: nodes[layer.node].outputs[0] for name, layer in self._readers.items()}
        seen = float_values(self.graph, sample, outputs.values())
        learned = {}
        for name, output in outputs.items():
            channel = 1 if nodes[self._readers[name].node].op == "Conv" else -1
            spread = seen[output].movedim(channel, 0).flatten(1).std(1)
            start = self._caster(name, parameter_tensor(self.graph, name)).clone()
            learned[name] = LearnedBias(start, spread)
        return learned

    def _parameter(self, name: str) -> torch.Tensor:
        if name in self.weights:
            return self.weights[name]()
        if name in self.biases:
            return self._bias(name)
        return self._caster(name, parameter_tensor(self.graph, name))

    def _bias(self, name: str) -> torch.Tensor:
        """A bias as the plan will hold it: of few-bit operands, the accumulator's units are coarse."""
        free, layer = self.biases[name](), self._readers[name]
        scales = {layer.input: self.scales.get(layer.input), layer.weights: self.weights[layer.weights].scale}
        operands = {
            tensor: _with_scale(self.plan.tensors[tensor], scale)
            for tensor, scale in scales.items()
            if tensor in self.plan.tensors
        }
        unit = accumulator_scale(layer, operands, free.detach().numpy())
        if unit is None:
            return free
        step = torch.from_numpy(unit)
        return free + ((free / step).round() * step - free).detach()

    def _dropped(
        self, name: str, value: torch.Tensor, drop: float, generator: torch.Generator | None
    ) -> torch.Tensor:
        cast = self.cast(name, value)
        if drop == 0.0 or cast is value:
            return cast
        return mixed(cast, value, drop, generator)

    def _caster_of(self, name: str, entry: TensorPlan, learned: LearnedScale | None) -> TensorCaster:
        if learned is None or not bool(learned.learned.any()):
            return self._caster
        plan = BitPlan({name: _with_scale(entry, learned)})
        return TensorCaster(self.graph, plan, torch.device("cpu"), self.plan.seed)


def mixed(
    ours: torch.Tensor, exact: torch.Tensor, share: float, generator: torch.Generator | None
) -> torch.Tensor:
    """`ours` with a share of its values, drawn at random, replaced by those of `exact`."""
    drawn = (torch.rand(ours.shape, generator=generator) < share).to(ours.dtype)
    return torch.lerp(ours, exact, drawn)  # exact at 0 and 1, and twice as fast as where with its gradient


def float_values(
    graph: Graph,
    values: Mapping[str, torch.Tensor],
    keep: Collection[str],
    nodes: Sequence[Node] | None = None,
) -> Values:
    """Tensors `keep` of the float32 network, as tensors that may enter a loss."""
    have, chosen = dict(values), graph.nodes if nodes is None else nodes
    with torch.no_grad():
        for node, last_read in zip(chosen, last_reads(chosen), strict=True):
            read = [
                None if not name else have[name] if name in have else parameter_tensor(graph, name)
                for name in node.inputs
            ]
            have |= {n: value for n, value in zip(node.outputs, apply(node, read), strict=False) if n}
            for name in last_read:
                if name not in keep:
                    have.pop(name, None)
    return {name: have[name] for name in keep}


def last_reads(nodes: Sequence[Node]) -> list[list[str]]:
    """For every node the tensors that no later one of `nodes` reads: memory holds what is still needed."""
    last = {name: i for i, node in enumerate(nodes) for name in (*node.outputs, *node.inputs) if name}
    found: list[list[str]] = [[] for _ in nodes]
    for name, position in last.items():
        found[position].append(name)
    return found


def _is_learned(graph: Graph, plan: BitPlan, layer: Layer) -> bool:
    entry = plan.tensors.get(layer.weights)
    if entry is None or entry.codes is None or len(entry.specs) != 1 or not has_grid(entry.specs[0]):
        return False
    return is_tunable(graph, layer)


def _own_bias(graph: Graph, layer: Layer) -> str | None:
    """The bias of a layer where it is a vector that no other node reads."""
    name = layer.bias
    if name is None or name not in graph.parameters or len(graph.consumers[name]) != 1:
        return None
    outputs = graph.parameters[layer.weights].shape[layer.weight_axis or 0]
    return name if graph.parameters[name].size == outputs else None


def _with_scale(entry: TensorPlan, scale: LearnedScale | None) -> TensorPlan:
    spec = entry.specs[0]
    if scale is None:
        return entry
    if spec.scale is None:
        return replace(entry, spec=moved_point(spec, float(scale.stored())))
    return replace(entry, scale=scale.stored())
