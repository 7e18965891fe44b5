"""Steps in the order a config lists them, applied to every layer of a network on calibration data.

    tensors of a plan, rounded to nearest -> walk: layer after layer, all steps -> weights and biases tuned

What the steps leave is what is stored: the walk itself goes on with the decoded codes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from qsim.casting import Quantized, decode
from qsim.emulator.tensors import TensorCaster
from qsim.plan import BitPlan, TensorPlan
from qsim.ptq.grid import Grid, has_grid
from qsim.ptq.layer_matrix import is_tunable, weight_matrix
from qsim.ptq.problem import LayerProblem, Moments, Rounded
from qsim.ptq.steps.bias_correction import BiasCorrection
from qsim.ptq.walk import Pairs, walk
from qsim.views import from_matrix, matrix_axis, to_matrix

if TYPE_CHECKING:
    from qsim.graph import Graph, Layer, Node
    from qsim.ptq.steps import LayerStep

Array = NDArray[Any]
Track = Callable[[Iterable[Any], str, int], Iterable[Any]]
Memo = MutableMapping[tuple[Any, ...], "TunedLayer"]
BATCH = 25


@dataclass(frozen=True, eq=False)
class TunedLayer:
    """weight: codes and scales; bias: float32 [outputs], None where the layer has none or it stays as it is.

    error, error_before: mean squared output error that the layer adds after and before its steps.
    """

    weight: TensorPlan
    bias: Array | None
    error: float
    error_before: float


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
    memo: results by (layer, specs that they depend on), filled here; with it, many plans cost what their
    different parts cost. track: wraps the nodes that are run, for a progress bar.
    """
    memo = {} if memo is None else memo
    layers = [layer for layer in graph.layers if _takes_steps(graph, layer, tensors)]
    keys = {layer.name: _key(graph, layer, tensors, sequential) for layer in layers}
    if any(key not in memo for key in keys.values()):
        _fill(graph, inputs, tensors, steps, keys, memo, sequential=sequential, seed=seed, track=track)
    return {layer.name: memo[keys[layer.name]] for layer in layers}


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
            memo[key] = _tune_layer(graph, layer, node, pairs, tensors[layer.weights], steps, seed)
        tuned = memo[key]
        changed = {layer.weights: _values(tuned.weight, graph.parameters[layer.weights].shape)}
        if tuned.bias is not None and layer.bias is not None:
            changed[layer.bias] = torch.from_numpy(tuned.bias.reshape(graph.parameters[layer.bias].shape))
        return changed

    samples = len(next(iter(inputs.values())))
    batches = [
        {name: torch.from_numpy(array[i : i + BATCH]) for name, array in inputs.items()}
        for i in range(0, samples, BATCH)
    ]
    wanted = keys if sequential else {name: key for name, key in keys.items() if key not in memo}
    visits = {layer.node: visit for layer in graph.layers if layer.name in wanted}
    walk(graph, batches, caster, start, visits, sequential=sequential, track=track)


def _tune_layer(
    graph: Graph,
    layer: Layer,
    node: Node,
    pairs: Pairs,
    start: TensorPlan,
    steps: Sequence[LayerStep],
    seed: int,
) -> TunedLayer:
    matrix = weight_matrix(graph, layer)
    grid = Grid.of(start.specs[0], matrix.shape, layer.groups, start.scale, start.zero_point)
    weights = torch.from_numpy(matrix).double().reshape(grid.step.shape)
    moments = Moments.measure(node, layer, pairs)
    bias = _bias(graph, layer)
    absorbs_mean = bias is not None and any(isinstance(step, BiasCorrection) for step in steps)
    objective = moments.centered() if absorbs_mean else moments
    problem = LayerProblem(weights, moments, objective, seed)
    rounded = Rounded(grid, grid.cast(matrix), bias)
    before = float(problem.error(rounded.values).sum())
    for step in steps:
        rounded = step(problem, rounded)
    shape = graph.parameters[layer.weights].shape
    changed = bias is not None and rounded.bias is not None and not torch.equal(bias, rounded.bias)
    return TunedLayer(
        rounded.grid.store(rounded.values, shape, layer.weight_axis or 0),
        rounded.bias.float().numpy() if changed and rounded.bias is not None else None,
        float(problem.error(rounded.values).sum()),
        before,
    )


def _takes_steps(graph: Graph, layer: Layer, tensors: Mapping[str, TensorPlan]) -> bool:
    plan = tensors.get(layer.weights)
    return plan is not None and len(plan.specs) == 1 and has_grid(plan.specs[0]) and is_tunable(graph, layer)


def _bias(graph: Graph, layer: Layer) -> torch.Tensor | None:
    """The bias of a layer as [outputs]; None where it has none of its own."""
    if layer.bias is None or layer.bias not in graph.parameters or len(graph.consumers[layer.bias]) != 1:
        return None
    bias = graph.parameters[layer.bias]
    outputs = graph.parameters[layer.weights].shape[layer.weight_axis or 0]
    return torch.from_numpy(bias.reshape(-1)).double() if bias.size == outputs else None


def _key(graph: Graph, layer: Layer, tensors: Mapping[str, TensorPlan], sequential: bool) -> tuple[Any, ...]:
    """What a layer's result depends on: its own specs, and sequentially all that is cast before it."""
    own = (layer.name, tensors[layer.weights].spec, _spec(tensors, layer.input))
    if not sequential:
        return own
    before: list[str] = list(graph.inputs)
    for node in graph.nodes:
        if node.name == layer.node:
            break
        before += [name for name in (*node.inputs, *node.outputs) if name]
    return (*own, tuple((name, tensors[name].spec) for name in dict.fromkeys(before) if name in tensors))


def _spec(tensors: Mapping[str, TensorPlan], name: str) -> Any:
    return tensors[name].spec if name in tensors else None


def _values(plan: TensorPlan, shape: tuple[int, ...]) -> torch.Tensor:
    """The float32 values that a weight's entry stands for."""
    assert plan.codes is not None
    spec = plan.specs[0]
    matrix = to_matrix(plan.codes, plan.axis)
    coded = Quantized(matrix, plan.scale, plan.zero_point, spec, matrix.shape, matrix_axis(spec))
    return torch.from_numpy(np.asarray(from_matrix(decode(coded), shape, plan.axis), np.float32))
