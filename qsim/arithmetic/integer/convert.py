"""A fake-quantized plan made integer only, as HAWQ-V3 does it (Yao et al., ICML 2021, section 3).

Every tensor becomes an integer. A layer's result takes the spec of the tensor that its activation function hands on;
where that has none (one side of a residual addition, the last layer) it stays an int32 accumulator at scale s_x * s_w,
and the next addition or average brings it to its own scale. A sum without a spec is int32 at one scale. Biases are
int32 at s_x * s_w. Every change of scale is one requantization.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from qsim.arithmetic.integer.run import MOVING, OPERATIONS, affine_of, check_integer_only
from qsim.arithmetic.requantize import RULES
from qsim.casting import Quantized, decode
from qsim.errors import PlanError
from qsim.formats import FLOAT32, Integer
from qsim.plan import BitPlan, LayerPlan, TensorPlan
from qsim.spec import Granularity, Scale, Spec

if TYPE_CHECKING:
    from qsim.graph import Graph, Layer, Node

ACCUMULATOR = Spec(Integer(32), granularity=Granularity("channel"), scale=Scale(FLOAT32))
_CLAMPS = frozenset(("Relu", "Clip"))
_KEEPS_SCALE = _CLAMPS | MOVING | {"AveragePool", "GlobalAveragePool"}
_OUTPUT_AXIS = {"Conv": 1, "ConvTranspose": 1}  # of the channels of a layer's result; else the last


def to_integer_only(graph: Graph, plan: BitPlan, rule: str = "dyadic") -> BitPlan:
    """`plan` with an integer spec for every tensor, int32 biases, and `rule` for every change of scale.

    Weights and the inputs of layers must already be int, uint or fixed with static scales, per tensor or (weights) per
    channel. Raises PlanError naming the first tensor or node that has no integer form.
    """
    if rule not in RULES:
        raise PlanError(f"unknown requantization rule '{rule}': one of {', '.join(RULES)}")
    tensors = dict(plan.tensors)
    for layer in graph.layers:
        tensors |= _layer_tensors(graph, layer, tensors)
    for node in graph.nodes:
        tensors |= _inherited(graph, node, tensors)
    layers = {**plan.layers}
    for node in graph.nodes:
        if node.op in OPERATIONS or node.op in MOVING:
            layers[node.name] = replace(layers.get(node.name, LayerPlan()), requantize=rule)
    converted = replace(
        plan, tensors=tensors, layers=layers, provenance={**plan.provenance, "integer_only": rule}
    )
    check_integer_only(graph, converted)
    return converted


def _layer_tensors(graph: Graph, layer: Layer, tensors: Mapping[str, TensorPlan]) -> dict[str, TensorPlan]:
    """Plans of what one layer computes: its accumulator's tensors up to the next spec, and its bias."""
    node = next(node for node in graph.nodes if node.name == layer.node)
    if node.op not in OPERATIONS:
        raise PlanError(f"layer '{layer.name}' ({node.op}) has no integer form")
    for name in (layer.input, layer.weights):
        if name not in tensors:
            raise PlanError(f"layer '{layer.name}': tensor '{name}' needs a spec to become integer only")
    scale = _accumulator_scale(layer, tensors)
    found: dict[str, TensorPlan] = {}
    if layer.bias is not None:
        found[layer.bias] = _bias(graph, layer, scale, tensors)
    path = [node.outputs[0], *_clamped(graph, node.outputs[0], tensors)]
    known = tensors.get(path[-1])
    axis = _OUTPUT_AXIS.get(node.op, len(graph.tensors[node.outputs[0]].shape) - 1)
    for name in path:
        if name not in tensors:
            found[name] = known or TensorPlan(ACCUMULATOR, "activation", axis, scale)
    return found


def _inherited(graph: Graph, node: Node, tensors: Mapping[str, TensorPlan]) -> dict[str, TensorPlan]:
    """Plans of what any other node computes: those of the tensors it hands on, or of the tensor it passes on."""
    found: dict[str, TensorPlan] = {}
    for name in node.outputs:
        if name in tensors:
            continue
        ahead = [name, *_clamped(graph, name, tensors)]
        if ahead[-1] in tensors:
            found |= dict.fromkeys(ahead[:-1], tensors[ahead[-1]])
        elif node.op in _KEEPS_SCALE and node.inputs[0] in tensors:
            found[name] = tensors[str(node.inputs[0])]
        elif node.op in ("Add", "Sub") and all(operand in tensors for operand in node.inputs):
            found[name] = _wide_sum([tensors[str(operand)] for operand in node.inputs])
    return found


def _wide_sum(operands: Sequence[TensorPlan]) -> TensorPlan:
    """int32 at one scale for a sum that nothing quantizes: a narrow operand brought to 24 bits keeps 8 for carries."""
    steps = [
        float(np.max(affine_of(BitPlan({"": operand}), "").scale)) * 2.0 ** min(operand.specs[0].bits - 24, 0)
        for operand in operands
    ]
    spec = Spec(Integer(32), granularity=Granularity("tensor"), scale=Scale(FLOAT32))
    return TensorPlan(spec, "activation", 1, np.array(max(steps), np.float32))


def _clamped(graph: Graph, name: str, tensors: Mapping[str, TensorPlan]) -> Iterator[str]:
    """The tensors after `name` through clamps and moves that alone read each other, up to the first with a spec."""
    while name not in tensors and name not in graph.outputs:
        readers = graph.consumers[name]
        if len(readers) != 1 or not _passes_on(graph, readers[0], tensors):
            return
        name = readers[0].outputs[0]
        yield name


def _passes_on(graph: Graph, reader: Node, tensors: Mapping[str, TensorPlan]) -> bool:
    """Clamps keep channels where they are; a move does not, so it is followed only on its way to a spec."""
    if reader.op in _CLAMPS:
        return True
    if reader.op not in MOVING or len(reader.outputs) != 1 or reader.op in ("Concat", "Max", "Min"):
        return False
    output = reader.outputs[0]
    ahead = [output, *_clamped(graph, output, tensors)]
    return ahead[-1] in tensors


def _accumulator_scale(
    layer: Layer, tensors: Mapping[str, TensorPlan]
) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """s_x * s_w in float32, one for each output channel."""
    plan = BitPlan({name: tensors[name] for name in (layer.input, layer.weights)})
    x, w = affine_of(plan, layer.input), affine_of(plan, layer.weights)
    if np.size(x.scale) != 1 or np.ndim(w.scale) > 1:
        raise PlanError(
            f"layer '{layer.name}': '{layer.input}' ({tensors[layer.input].text}) and '{layer.weights}' "
            f"({tensors[layer.weights].text}) need one scale for the input and one for the weights or each output"
        )
    product = np.float32(x.scale).reshape(()) * np.asarray(w.scale, np.float32)
    channels = layer.weight_shape[layer.weight_axis or 0] if layer.weight_shape else np.size(product)
    return np.ascontiguousarray(np.broadcast_to(product, (channels,)), np.float32)


def _bias(
    graph: Graph,
    layer: Layer,
    scale: np.ndarray[tuple[int], np.dtype[np.float32]],
    tensors: Mapping[str, TensorPlan],
) -> TensorPlan:
    """The stored int32 bias if it has the accumulator's scale, else its real value divided by it, ties to even."""
    stored = tensors.get(str(layer.bias))
    if (
        stored is not None
        and stored.codes is not None
        and stored.scale is not None
        and np.all(stored.scale == scale)
    ):
        return stored
    real = graph.parameters[str(layer.bias)]
    if stored is not None and stored.codes is not None:
        coded = Quantized(
            stored.codes, stored.scale, stored.zero_point, stored.specs[0], stored.codes.shape, 0
        )
        real = decode(coded)
    codes = np.rint(np.asarray(real, np.float64) / scale)
    if np.abs(codes).max(initial=0) >= 2.0**31:
        channel = int(np.abs(codes).argmax())
        raise PlanError(
            f"layer '{layer.name}': the bias of channel {channel} needs more than 32 bits at scale "
            f"{scale[channel]:.3g}; a larger scale for its (nearly zero) weights is needed"
        )
    return TensorPlan(ACCUMULATOR, "bias", 0, scale, None, codes.astype(np.int32))
