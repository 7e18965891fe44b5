"""One weight through all steps: the problem made of its layer's inputs, the steps run in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from qsim.plan import TensorPlan
from qsim.ptq.grid import Grid
from qsim.ptq.layer_matrix import matrix_groups, weight_matrix
from qsim.ptq.problem import LayerProblem, Moments, Rounded
from qsim.ptq.steps.batchnorm_tuning import BatchNormTuning
from qsim.ptq.steps.bias_correction import BiasCorrection
from qsim.ptq.walk import Pairs
from qsim.ptq.weight_readers import WeightReaders

if TYPE_CHECKING:
    from qsim.graph import Graph, Layer, Node
    from qsim.ptq.steps import LayerStep

Steps = Sequence["LayerStep"]


def tune_layer(
    graph: Graph, layer: Layer, node: Node, pairs: Pairs, start: TensorPlan, steps: Steps
) -> Rounded:
    """A layer that alone reads its weight, from its nearest rounding `start` through all steps."""
    moments, bias = Moments.measure(node, layer, pairs), own_bias(graph, layer)
    objective = _objective(moments, bias, steps).regularized()
    rounded = nearest(graph, layer, node, start)
    problem = LayerProblem(_weights(graph, layer, rounded), moments, objective, bias)
    return _run(steps, problem, replace(rounded, bias=bias))


def tune_shared(
    graph: Graph, readers: WeightReaders, inputs: Mapping[str, Pairs], start: TensorPlan, steps: Steps
) -> Rounded:
    """A weight that several nodes read, by the moments of all its layers' `inputs` {layer: pairs} and tables together.

    The biases of its layers, where steps correct them, follow at the layers (`tune_bias`).
    """
    nodes = {node.name: node for node in graph.nodes}
    parts = []
    for layer in readers.layers:
        moments = Moments.measure(nodes[layer.node], layer, inputs[layer.name])
        parts.append(_objective(moments, own_bias(graph, layer), steps))
    first = readers.layers[0]
    rounded = nearest(graph, first, nodes[first.node], start)
    weights, joined = _weights(graph, first, rounded), Moments.joined(parts)
    if readers.tables:
        joined = Moments.joined([joined, Moments.of_table(joined, weights)])
    return _run(steps, LayerProblem(weights, joined, joined.regularized()), rounded)


def tune_bias(graph: Graph, layer: Layer, node: Node, pairs: Pairs, weight: Rounded, steps: Steps) -> Rounded:
    """A layer whose weight is tuned elsewhere: of the steps, those that correct its bias."""
    bias = own_bias(graph, layer)
    if bias is None or not corrects_mean(steps):
        return replace(weight, bias=bias)
    moments = Moments.measure(node, layer, pairs)
    problem = LayerProblem(_weights(graph, layer, weight), moments, moments, bias)
    corrections = [step for step in steps if isinstance(step, BiasCorrection)] or [BiasCorrection()]
    return _run(corrections, problem, replace(weight, bias=bias))


def nearest(graph: Graph, layer: Layer, node: Node, start: TensorPlan) -> Rounded:
    """A layer's weights as the plan's entry rounds them, without a bias."""
    matrix = weight_matrix(graph, layer)
    shape = (matrix.shape[0], matrix.shape[1])
    grid = Grid.of(start.specs[0], shape, matrix_groups(node, layer), start.scale, start.zero_point)
    return Rounded(grid, grid.cast(matrix), None)


def own_bias(graph: Graph, layer: Layer) -> torch.Tensor | None:
    """The bias of a layer as [outputs]; None where it has none of its own."""
    if layer.bias is None or layer.bias not in graph.parameters or len(graph.consumers[layer.bias]) != 1:
        return None
    bias = graph.parameters[layer.bias]
    outputs = graph.parameters[layer.weights].shape[layer.weight_axis or 0]
    return torch.from_numpy(bias.reshape(-1)).double() if bias.size == outputs else None


def _weights(graph: Graph, layer: Layer, rounded: Rounded) -> torch.Tensor:
    return torch.from_numpy(weight_matrix(graph, layer)).double().reshape(rounded.values.shape)


def _objective(moments: Moments, bias: torch.Tensor | None, steps: Steps) -> Moments:
    """What roundings are judged by: the error that a bias cannot absorb, where a step corrects it."""
    return moments.centered() if bias is not None and corrects_mean(steps) else moments


def corrects_mean(steps: Steps) -> bool:
    """Whether steps leave no mean error to a layer with a bias."""
    return any(isinstance(step, BiasCorrection | BatchNormTuning) for step in steps)


def _run(steps: Steps, problem: LayerProblem, rounded: Rounded) -> Rounded:
    for step in steps:
        rounded = step(problem, rounded)
    return rounded
