"""Steps in the order a config lists them, applied to a whole network on calibration data.

    tensors of a plan, rounded to nearest -> walk: layer after layer, all steps -> weights and biases as stored

What the steps leave is what is stored: the walk itself goes on with values on the grid.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from qsim.casting import Quantized, decode
from qsim.emulator.tensors import TensorCaster
from qsim.plan import BitPlan, TensorPlan
from qsim.ptq.grid import Grid, has_grid
from qsim.ptq.layer_matrix import is_tunable, weight_matrix, weight_tensor
from qsim.ptq.problem import LayerProblem, Moments, Rounded
from qsim.ptq.steps.bias_correction import BiasCorrection
from qsim.ptq.walk import Pairs, Track, walk
from qsim.views import from_matrix, matrix_axis, to_matrix

if TYPE_CHECKING:
    from qsim.graph import Graph, Layer, Node
    from qsim.ptq.steps import LayerStep

Array = NDArray[Any]
Memo = MutableMapping[tuple[Any, ...], Rounded]
BATCH = 25


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
    the float32 network's inputs, cast, so that its result depends on its own two specs alone.
    memo: layers' states by what they depend on, filled here; with it, many plans cost what their different
    parts cost. track: wraps the nodes as they are run, for a progress bar.
    """
    memo = {} if memo is None else memo
    layers = [layer for layer in graph.layers if _takes_steps(graph, layer, tensors)]
    keys = {layer.name: (tuple(steps), *_key(graph, layer, tensors, sequential)) for layer in layers}
    if any(key not in memo for key in keys.values()):
        _fill(graph, inputs, tensors, steps, keys, memo, sequential=sequential, seed=seed, track=track)
    return {layer.name: _finished(graph, layer, memo[keys[layer.name]]) for layer in layers}


def _fill(
    graph: Graph,
    inputs: Mapping[str, Array],
    tensors: Mapping[str, TensorPlan],
    steps: Sequence[LayerStep],
    keys: Mapping[str, tuple[Any, ...]],
    memo: Memo,
    *,
    sequential: bool,
    seed: int,
    track: Track | None,
) -> None:
    """One walk through the network that tunes every layer of `keys` which the memo does not hold."""
    missing = {name for name, key in keys.items() if key not in memo}
    activations = {name: plan for name, plan in tensors.items() if plan.role == "activation"}
    plan = BitPlan(activations, model_name=graph.name, seed=seed)
    caster = TensorCaster(graph, plan, torch.device("cpu"), seed)
    start = {
        name: _values(tensor, graph.parameters[name].shape)
        for name, tensor in tensors.items()
        if tensor.role == "weight"
    }

    def visit(layer: Layer, node: Node, pairs: Pairs) -> dict[str, torch.Tensor]:
        key = keys[layer.name]
        if key not in memo:
            memo[key] = _tune_layer(graph, layer, node, pairs, tensors[layer.weights], steps)
        return _parameters(graph, layer, memo[key])

    samples = len(next(iter(inputs.values())))
    batches = [
        {name: torch.from_numpy(array[i : i + BATCH]) for name, array in inputs.items()}
        for i in range(0, samples, BATCH)
    ]
    last = max(i for i, layer in enumerate(graph.layers) if layer.name in missing)
    wanted = {layer.name for layer in graph.layers[: last + 1]} & set(keys) if sequential else missing
    visits = {layer.node: visit for layer in graph.layers if layer.name in wanted}
    walk(graph, batches, caster, start, visits, sequential=sequential, track=track)


def _tune_layer(
    graph: Graph, layer: Layer, node: Node, pairs: Pairs, start: TensorPlan, steps: Sequence[LayerStep]
) -> Rounded:
    matrix = weight_matrix(graph, layer)
    shape = (matrix.shape[0], matrix.shape[1])
    grid = Grid.of(start.specs[0], shape, layer.groups, start.scale, start.zero_point)
    rounded = Rounded(grid, grid.cast(matrix), _own_bias(graph, layer))
    weights = torch.from_numpy(matrix).double().reshape(rounded.values.shape)
    moments = Moments.measure(node, layer, pairs)
    absorbs_mean = rounded.bias is not None and any(isinstance(step, BiasCorrection) for step in steps)
    objective = moments.centered() if absorbs_mean else moments
    problem = LayerProblem(weights, moments, objective.regularized(), rounded.bias)
    for step in steps:
        rounded = step(problem, rounded)
    return rounded


def _parameters(graph: Graph, layer: Layer, rounded: Rounded) -> dict[str, torch.Tensor]:
    """The parameters of a layer in the state `rounded`, float32, in their own shapes."""
    shape = graph.parameters[layer.weights].shape
    found = {layer.weights: weight_tensor(rounded.values, shape, layer.weight_axis or 0).float()}
    if rounded.bias is not None and layer.bias is not None:
        found[layer.bias] = rounded.bias.float().reshape(graph.parameters[layer.bias].shape)
    return found


def _own_bias(graph: Graph, layer: Layer) -> torch.Tensor | None:
    """The bias of a layer as [outputs]; None where it has none of its own."""
    if layer.bias is None or layer.bias not in graph.parameters or len(graph.consumers[layer.bias]) != 1:
        return None
    bias = graph.parameters[layer.bias]
    outputs = graph.parameters[layer.weights].shape[layer.weight_axis or 0]
    return torch.from_numpy(bias.reshape(-1)).double() if bias.size == outputs else None


def _finished(graph: Graph, layer: Layer, rounded: Rounded) -> TunedLayer:
    shape = graph.parameters[layer.weights].shape
    weight = rounded.grid.store(rounded.values, shape, layer.weight_axis or 0)
    before = _own_bias(graph, layer)
    if before is None or rounded.bias is None or torch.equal(before, rounded.bias):
        return TunedLayer(weight, None)
    return TunedLayer(weight, rounded.bias.float().numpy())


def _takes_steps(graph: Graph, layer: Layer, tensors: Mapping[str, TensorPlan]) -> bool:
    plan = tensors.get(layer.weights)
    return plan is not None and len(plan.specs) == 1 and has_grid(plan.specs[0]) and is_tunable(graph, layer)


def _key(graph: Graph, layer: Layer, tensors: Mapping[str, TensorPlan], sequential: bool) -> tuple[Any, ...]:
    """What a layer's result depends on: its own specs, and sequentially all that is cast before it."""

    def spec(tensor: str) -> Any:
        return tensors[tensor].spec if tensor in tensors else None

    own = (layer.name, spec(layer.weights), spec(layer.input))
    if not sequential:
        return own
    before: list[str] = list(graph.inputs)
    for node in graph.nodes:
        if node.name == layer.node:
            break
        before += [tensor for tensor in (*node.inputs, *node.outputs) if tensor]
    return (*own, tuple((tensor, spec(tensor)) for tensor in dict.fromkeys(before) if tensor in tensors))


def _values(plan: TensorPlan, shape: tuple[int, ...]) -> torch.Tensor:
    """The float32 values that a weight's entry stands for."""
    assert plan.codes is not None
    spec = plan.specs[0]
    matrix = to_matrix(plan.codes, plan.axis)
    coded = Quantized(matrix, plan.scale, plan.zero_point, spec, matrix.shape, matrix_axis(spec))
    return torch.from_numpy(np.asarray(from_matrix(decode(coded), shape, plan.axis), np.float32))
