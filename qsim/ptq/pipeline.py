"""Steps in the order a config lists them, applied to a whole network on calibration data.

    tensors of a plan, rounded to nearest -> walk: layer after layer, all steps -> weights and biases as stored

What the steps leave is what is stored: the walk itself goes on with values on the grid.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from qsim.casting import Quantized, decode
from qsim.emulator.execute import run_graph
from qsim.emulator.tensors import TensorCaster
from qsim.plan import BitPlan, TensorPlan
from qsim.ptq.batches import batch_samples
from qsim.ptq.grid import has_grid
from qsim.ptq.layer_matrix import weight_tensor, why_not_tunable
from qsim.ptq.problem import Rounded
from qsim.ptq.tune_layer import own_bias, tune_bias, tune_layer, tune_shared
from qsim.ptq.walk import Pairs, Read, Track, Visit, walk
from qsim.ptq.weight_readers import WeightReaders, weight_readers
from qsim.views import from_matrix, matrix_axis, to_matrix

if TYPE_CHECKING:
    from qsim.graph import Graph, Layer, Node
    from qsim.ptq.steps import LayerStep

Array = NDArray[Any]
Memo = MutableMapping[tuple[Any, ...], Rounded]


@dataclass(frozen=True, eq=False)
class TunedLayer:
    """weight: codes and scales; bias: float32 [outputs], None where the layer has none or it stays as it is."""

    weight: TensorPlan
    bias: Array | None


def tune(
    graph: Graph,
    inputs: Mapping[str, Array],
    tensors: Mapping[str, TensorPlan],
    steps: Sequence[LayerStep],
    *,
    sequential: bool = True,
    seed: int = 0,
    memo: Memo | None = None,
    track: Track | None = None,
) -> dict[str, TunedLayer]:
    """Tune every layer that multiplies by a parameter with a spec: {layer name: result}.

    inputs: calibration data, {input: [samples, ...]}. tensors: entries of a plan for activations and weights,
    the start of the steps. sequential: each layer sees inputs from the quantized network before it; otherwise
    the float32 network's inputs, cast, so that its result depends on its own two specs alone. A weight that
    several nodes read is tuned once, at the first of them, for all (`weight_readers`).
    memo: layers' states by what they depend on, filled here; with it, many plans cost what their different
    parts cost. track: wraps the nodes as they are run, for a progress bar.
    """
    memo = {} if memo is None else memo
    layers = [layer for layer in graph.layers if layer.weights in tensors]
    layers = [layer for layer in layers if _why_nearest(graph, layer, tensors[layer.weights]) is None]
    keys = {layer.name: (tuple(steps), *_key(graph, layer, tensors, sequential)) for layer in layers}
    missing = [layer for layer in layers if keys[layer.name] not in memo]
    if missing:
        work = _Work(graph, tensors, tuple(steps), keys, memo, _batches(graph, inputs), sequential, seed)
        work.walk(layers[: layers.index(missing[-1]) + 1] if sequential else missing, track)
    return {layer.name: _finished(graph, layer, memo[keys[layer.name]]) for layer in layers}


def untuned(graph: Graph, tensors: Mapping[str, TensorPlan]) -> dict[str, str]:
    """Layers whose parameter has a spec and yet keeps nearest rounding, whatever the steps: {layer name: why}."""
    reasons = {
        layer.name: _why_nearest(graph, layer, tensors[layer.weights])
        for layer in graph.layers
        if layer.weights in graph.parameters and layer.weights in tensors
    }
    return {name: why for name, why in reasons.items() if why is not None}


def _why_nearest(graph: Graph, layer: Layer, weight: TensorPlan) -> str | None:
    """Why the weights of a layer keep nearest rounding; None where steps choose their roundings."""
    if len(weight.specs) != 1:
        return "its weights mix specs"
    if not has_grid(weight.specs[0]):
        return f"{weight.text} has no short list of values with static scales"
    return why_not_tunable(graph, layer)


@dataclass(frozen=True, eq=False)
class _Work:
    """One walk through the network: what it reads, and the memo that it fills."""

    graph: Graph
    tensors: Mapping[str, TensorPlan]
    steps: tuple[LayerStep, ...]
    keys: Mapping[str, tuple[Any, ...]]
    memo: Memo
    batches: Sequence[Mapping[str, torch.Tensor]]
    sequential: bool
    seed: int

    def walk(self, layers: Sequence[Layer], track: Track | None) -> None:
        """Tune `layers`, in their order."""
        start = {
            name: _values(tensor, self.graph.parameters[name].shape)
            for name, tensor in self.tensors.items()
            if tensor.role == "weight"
        }
        caster, visits = self._caster(), dict[str, Visit]()
        shared = {
            weight: weight_readers(self.graph, weight) for weight in {layer.weights for layer in layers}
        }
        for layer in layers:
            readers = shared[layer.weights]
            if not readers.is_shared:
                visits[layer.node] = partial(self._at_layer, layer)
                continue
            first = readers.first(self.graph)
            visits.setdefault(first.name, partial(self._at_first_reader, readers, None))
            if layer.node == first.name:
                visits[layer.node] = partial(self._at_first_reader, readers, layer)
            else:
                visits[layer.node] = partial(self._at_later_reader, readers, layer)
        walk(self.graph, self.batches, caster, start, visits, sequential=self.sequential, track=track)

    def _at_layer(self, layer: Layer, node: Node, read: Read) -> dict[str, torch.Tensor]:
        """A layer of its own weight."""
        key = self.keys[layer.name]
        if key not in self.memo:
            plan = self.tensors[layer.weights]
            self.memo[key] = tune_layer(self.graph, layer, node, read(layer.input), plan, self.steps)
        return _parameters(self.graph, layer, self.memo[key])

    def _at_first_reader(
        self, readers: WeightReaders, layer: Layer | None, node: Node, read: Read
    ) -> dict[str, torch.Tensor]:
        """A weight with several readers, at the first of them; `layer`: that one, where it is no table."""
        key = self._shared_key(readers)
        if key not in self.memo:
            inputs = {
                other.name: read(other.input) if other is layer else self._float_pairs(other.input)
                for other in readers.layers
            }
            plan = self.tensors[readers.layers[0].weights]
            self.memo[key] = tune_shared(self.graph, readers, inputs, plan, self.steps)
        if layer is not None:
            return self._at_later_reader(readers, layer, node, read)
        return _parameters(self.graph, readers.layers[0], self.memo[key])

    def _at_later_reader(
        self, readers: WeightReaders, layer: Layer, node: Node, read: Read
    ) -> dict[str, torch.Tensor]:
        """A layer whose weight has been tuned at another reader: its bias is its own."""
        key, weight = self.keys[layer.name], self.memo[self._shared_key(readers)]
        if key not in self.memo:
            self.memo[key] = tune_bias(self.graph, layer, node, read(layer.input), weight, self.steps)
        return _parameters(self.graph, layer, self.memo[key])

    def _shared_key(self, readers: WeightReaders) -> tuple[Any, ...]:
        """What a shared weight depends on: as its layers, up to its first reader."""
        before = _before(self.graph, readers.first(self.graph), self.tensors) if self.sequential else ()
        return (self.steps, "shared", *_own(readers.layers[0], readers, self.tensors), before)

    def _caster(self) -> TensorCaster:
        activations = {name: plan for name, plan in self.tensors.items() if plan.role == "activation"}
        plan = BitPlan(activations, model_name=self.graph.name, seed=self.seed)
        return TensorCaster(self.graph, plan, torch.device("cpu"), self.seed)

    def _float_pairs(self, name: str) -> Pairs:
        """A tensor of the float32 network and the same cast, batch after batch."""
        caster, first = self._caster(), 0
        for batch in self.batches:
            exact = run_graph(self.graph, batch, keep={name})[name]
            caster.first_sample = first
            yield exact, caster(name, exact) if caster.is_cast(name) else exact
            first += len(exact)


def _parameters(graph: Graph, layer: Layer, rounded: Rounded) -> dict[str, torch.Tensor]:
    """The parameters of a layer in the state `rounded`, float32, in their own shapes."""
    shape = graph.parameters[layer.weights].shape
    found = {layer.weights: weight_tensor(rounded.values, shape, layer.weight_axis or 0).float()}
    if rounded.bias is not None and layer.bias is not None:
        found[layer.bias] = rounded.bias.float().reshape(graph.parameters[layer.bias].shape)
    return found


def _finished(graph: Graph, layer: Layer, rounded: Rounded) -> TunedLayer:
    shape = graph.parameters[layer.weights].shape
    weight = rounded.grid.store(rounded.values, shape, layer.weight_axis or 0)
    before = own_bias(graph, layer)
    if before is None or rounded.bias is None or torch.equal(before, rounded.bias):
        return TunedLayer(weight, None)
    return TunedLayer(weight, rounded.bias.float().numpy())


def _batches(graph: Graph, inputs: Mapping[str, Array]) -> list[dict[str, torch.Tensor]]:
    """Calibration data in batches."""
    step = batch_samples(graph)
    return [
        {name: torch.from_numpy(array[start : start + step]) for name, array in inputs.items()}
        for start in range(0, len(next(iter(inputs.values()))), step)
    ]


def _key(graph: Graph, layer: Layer, tensors: Mapping[str, TensorPlan], sequential: bool) -> tuple[Any, ...]:
    """What a layer's result depends on: its own specs, and sequentially all that is cast before it."""
    own = _own(layer, weight_readers(graph, layer.weights), tensors)
    if not sequential:
        return own
    return (*own, _before(graph, next(node for node in graph.nodes if node.name == layer.node), tensors))


def _own(layer: Layer, readers: WeightReaders, tensors: Mapping[str, TensorPlan]) -> tuple[Any, ...]:
    """A layer and the specs of its weights and of the inputs of all layers that read them."""
    names = (layer.weights, *(other.input for other in readers.layers))
    return (layer.name, *(tensors[name].spec if name in tensors else None for name in names))


def _before(graph: Graph, node: Node, tensors: Mapping[str, TensorPlan]) -> tuple[Any, ...]:
    """The specs of all that is cast before a node."""
    before: list[str] = list(graph.inputs)
    for other in graph.nodes:
        if other is node:
            break
        before += [tensor for tensor in (*other.inputs, *other.outputs) if tensor]
    return tuple((tensor, tensors[tensor].spec) for tensor in dict.fromkeys(before) if tensor in tensors)


def _values(plan: TensorPlan, shape: tuple[int, ...]) -> torch.Tensor:
    """The float32 values that a weight's entry stands for."""
    assert plan.codes is not None
    spec = plan.specs[0]
    matrix = to_matrix(plan.codes, plan.axis)
    coded = Quantized(matrix, plan.scale, plan.zero_point, spec, matrix.shape, matrix_axis(spec))
    return torch.from_numpy(np.asarray(from_matrix(decode(coded), shape, plan.axis), np.float32))
