"""How each operator passes channels on: to other tensors, to parameters that follow them, or not at all.

A rule is called with a node and one of its tensors that carries the channels. It reaches the others, or adds the
slots at which the channels end (a layer, a gain), or raises BlockedError. Operators without a rule block.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from qsim.ptq.transforms.channel_walk import ChannelWalk

if TYPE_CHECKING:
    from qsim.graph import Node

Rule = Callable[[ChannelWalk, "Node", str], None]
_MEANS = ("ReduceMean", "ReduceSum")
_SQUARED = ("ReduceL2", "ReduceSumSquare")
_EXTREMES = ("ReduceMax", "ReduceMin")


def _conv(walk: ChannelWalk, node: Node, tensor: str) -> None:
    """Channels on axis 1: weight [outputs, inputs / group, ...]."""
    walk.require(walk.places[tensor].axis == 1)
    groups = int(node.get("group", 1))
    writes = tensor == node.outputs[0]
    if groups == 1 or (walk.change == "scale" and writes):
        _ends(walk, node, tensor, writes_axis=0, reads_axis=1)
        return
    inputs = walk.graph.sample_shapes[str(node.inputs[0])][1]
    outputs = walk.graph.sample_shapes[node.outputs[0]][1]
    walk.require(walk.change != "rotate" and tensor in (node.inputs[0], node.outputs[0]))
    if walk.change == "scale" and groups == inputs:
        walk.add_weight(node, 1, 0, reads=True, taps=outputs // inputs)
    elif walk.change == "scale":
        walk.require(walk.places[tensor].repeat == 1)
        walk.add_weight(node, 1, 1, reads=True, groups=groups)
    else:  # each channel on its own: they pass
        walk.require(groups == inputs == outputs)
        walk.follow(node, node.inputs[0])
        walk.add_weight(node, 1, 0, reads=False)
        walk.add_vector(node, 2, node.outputs[0], 1)


def _transposed_conv(walk: ChannelWalk, node: Node, tensor: str) -> None:
    walk.require(walk.places[tensor].axis == 1 and int(node.get("group", 1)) == 1)
    _ends(walk, node, tensor, writes_axis=1, reads_axis=0)


def _gemm(walk: ChannelWalk, node: Node, tensor: str) -> None:
    walk.require(not node.get("transA", 0) and walk.places[tensor].axis == 1)
    out_axis = 0 if node.get("transB", 0) else 1
    _ends(walk, node, tensor, writes_axis=out_axis, reads_axis=1 - out_axis)


def _matmul(walk: ChannelWalk, node: Node, tensor: str) -> None:
    """x W; of a product of activations, the columns of the second one pass to the output."""
    axis, rank = walk.places[tensor].axis, walk.rank(tensor)
    walk.require(axis == rank - 1 and node.inputs[0] != node.inputs[1])
    if walk.is_parameter(node.input(1)):
        weight_rank = walk.rank(node.inputs[1])
        walk.require(weight_rank >= 2)
        _ends(walk, node, tensor, writes_axis=weight_rank - 1, reads_axis=weight_rank - 2)
    else:
        walk.require(tensor != node.inputs[0] and not walk.is_parameter(node.input(0)))
        walk.reach(node.inputs[1], walk.rank(node.inputs[1]) - 1, walk.places[tensor].repeat)
        walk.reach(node.outputs[0], walk.rank(node.outputs[0]) - 1, walk.places[tensor].repeat)


def _ends(walk: ChannelWalk, node: Node, tensor: str, *, writes_axis: int, reads_axis: int) -> None:
    """A layer mixes all channels: they start at its output with weight and bias, or end at its input."""
    if tensor == node.outputs[0]:
        walk.add_weight(node, 1, writes_axis, reads=False)
        walk.add_vector(node, 2, tensor, 1)
    else:
        walk.require(tensor == node.inputs[0] and tensor not in node.inputs[1:])
        walk.add_weight(node, 1, reads_axis, reads=True)


def _gather(walk: ChannelWalk, node: Node, tensor: str) -> None:
    """Rows of an embedding."""
    walk.require(tensor == node.outputs[0] and node.get("axis", 0) == 0 and walk.is_parameter(node.input(0)))
    walk.require(walk.places[tensor].axis == walk.rank(tensor) - 1 and walk.rank(node.inputs[0]) == 2)
    walk.add_weight(node, 0, 1, reads=False)


def _norm(walk: ChannelWalk, node: Node, tensor: str) -> None:
    """LayerNorm and RMSNorm over the channels; a rotation passes where the gain is the same for all."""
    rank, axis = walk.rank(tensor), walk.places[tensor].axis
    walk.require(axis == rank - 1 and node.get("axis", -1) % rank == axis and len(node.outputs) == 1)
    if walk.change == "scale":
        walk.require(tensor == node.outputs[0])
    else:
        walk.follow(node, node.inputs[0])
        walk.keeps_ones |= node.op == "LayerNormalization"
    if walk.change == "rotate":
        walk.require(_is_uniform(walk, node.input(1)))
    else:
        walk.add_vector(node, 1, node.outputs[0], 1)
    walk.add_vector(node, 2, node.outputs[0], 1)


def _linear(walk: ChannelWalk, node: Node, tensor: str) -> None:
    walk.follow(node, node.inputs[0])


def _homogeneous(walk: ChannelWalk, node: Node, tensor: str) -> None:
    """f(s x) = s f(x) for s > 0: ReLU and its like."""
    walk.require(walk.change != "rotate" and tensor != node.input(1))
    walk.follow(node, node.inputs[0])
    if node.op == "PRelu" and walk.change == "permute":
        walk.add_vector(node, 1, tensor, walk.rank(tensor) - walk.places[tensor].axis)


def _elementwise(walk: ChannelWalk, node: Node, tensor: str) -> None:
    """Any function of one element, limits the same for all."""
    walk.require(walk.change == "permute" and tensor not in node.inputs[1:])
    walk.require(all(name is None or walk.rank(name) == 0 for name in node.inputs[1:]))
    walk.follow(node, node.inputs[0])


def _softmax(walk: ChannelWalk, node: Node, tensor: str) -> None:
    walk.require(walk.change == "permute")
    walk.follow(node, node.inputs[0])


def _mean_pool(walk: ChannelWalk, node: Node, tensor: str) -> None:
    walk.require(walk.places[tensor].axis == 1 and len(node.outputs) == 1)
    walk.follow(node, node.inputs[0])


def _max_pool(walk: ChannelWalk, node: Node, tensor: str) -> None:
    walk.require(walk.change != "rotate")
    _mean_pool(walk, node, tensor)


def _pad(walk: ChannelWalk, node: Node, tensor: str) -> None:
    """Zeros around other axes."""
    pads = walk.graph.parameters.get(str(node.input(1)))
    fill = walk.graph.parameters.get(str(node.input(2)))
    walk.require(node.get("mode", "constant") == "constant" and pads is not None and node.input(3) is None)
    walk.require(node.input(2) is None or (fill is not None and not fill.any()))
    assert pads is not None
    around = pads.reshape(2, -1)[:, walk.places[tensor].axis]
    walk.require(not around.any())
    walk.follow(node, node.inputs[0])


def _transpose(walk: ChannelWalk, node: Node, tensor: str) -> None:
    rank, place = walk.rank(tensor), walk.places[tensor]
    perm = tuple(node.get("perm", tuple(reversed(range(rank)))))
    inner = perm[place.axis] if tensor == node.outputs[0] else place.axis
    walk.reach(node.inputs[0], inner, place.repeat)
    walk.reach(node.outputs[0], perm.index(inner), place.repeat)


def _reshape(walk: ChannelWalk, node: Node, tensor: str) -> None:
    """What stands before the channels stays before them; what follows may be taken into their axis."""
    walk.require(tensor in (node.inputs[0], node.outputs[0]))
    other = node.outputs[0] if tensor == node.inputs[0] else str(node.inputs[0])
    place = walk.places[tensor]
    before = _lengths(walk.graph.tensors[tensor].shape[: place.axis])
    shape, lengths = walk.graph.tensors[other].shape, walk.graph.sample_shapes[other]
    for axis, length in enumerate(lengths):
        same = _lengths(shape[:axis]) == before
        if same and length > 1 and length % walk.channels == 0 and isinstance(shape[axis], int):
            walk.reach(other, axis, length // walk.channels)
            return
    walk.require(False)


def _lengths(shape: tuple[int | str, ...]) -> tuple[int, tuple[str, ...]]:
    """The fixed lengths multiplied, and the symbols in order."""
    fixed = math.prod(n for n in shape if isinstance(n, int))
    return fixed, tuple(n for n in shape if isinstance(n, str))


def _concat(walk: ChannelWalk, node: Node, tensor: str) -> None:
    """Along another axis than the channels'."""
    rank = walk.rank(tensor)
    walk.require(node.get("axis", 0) % rank != walk.places[tensor].axis)
    walk.follow(node, *node.inputs)


def _reduce(walk: ChannelWalk, node: Node, tensor: str) -> None:
    place, rank = walk.places[tensor], walk.rank(node.inputs[0])
    stated = walk.graph.parameters.get(str(node.input(1)))
    axes = set(range(rank)) if stated is None else {int(a) % rank for a in stated.reshape(-1)}
    keeps = bool(node.get("keepdims", 1))
    if tensor == node.outputs[0]:
        left = list(range(rank)) if keeps else [a for a in range(rank) if a not in axes]
        inner = left[place.axis]
    else:
        inner = place.axis
    if inner in axes:  # the channels end here
        invariant = walk.change == "permute" or (walk.change == "rotate" and node.op in _SQUARED)
        walk.require(invariant and tensor == node.inputs[0])
        return
    passes = walk.change == "permute" or node.op in _MEANS
    walk.require(passes or (walk.change == "scale" and node.op in _EXTREMES))
    outer = inner if keeps else inner - sum(a < inner for a in axes)
    walk.reach(node.inputs[0], inner, place.repeat)
    walk.reach(node.outputs[0], outer, place.repeat)


def _arithmetic(walk: ChannelWalk, node: Node, tensor: str) -> None:
    """Element by element with NumPy's broadcasting; operands may be constants or have one value for all channels."""
    if _is_square_of_norm(walk, node, tensor):
        return
    place = walk.places[tensor]
    from_end = walk.rank(tensor) - place.axis
    full = [i for i, name in enumerate(node.inputs) if _carries(walk, name, from_end, place.repeat)]
    constants = [i for i, name in enumerate(node.inputs) if walk.is_parameter(name)]
    others = [i for i in range(len(node.inputs)) if i not in full and i not in constants]
    walk.require(tensor == node.outputs[0] or any(node.inputs[i] == tensor for i in full))
    if walk.change == "permute":
        _join(walk, node, full, place.repeat, from_end)
        for i in constants:
            walk.add_vector(node, i, tensor, from_end)
    elif node.op in ("Mul", "Div"):
        _product(walk, node, tensor, full, constants, from_end)
    else:
        linear = ("Add", "Sub", "Sum", "Mean")
        walk.require(
            not others and (node.op in linear or (walk.change == "scale" and node.op in ("Max", "Min")))
        )
        walk.joins |= len(full) > 1
        _join(walk, node, full, place.repeat, from_end)
        for i in constants:
            walk.add_vector(node, i, tensor, from_end)


def _carries(walk: ChannelWalk, name: str | None, from_end: int, repeat: int) -> bool:
    """Whether an operand is an activation with all channels at `from_end`."""
    if name is None or walk.is_parameter(name):
        return False
    shape = walk.graph.sample_shapes[name]
    return len(shape) >= from_end and shape[-from_end] == walk.channels * repeat > 1


def _join(walk: ChannelWalk, node: Node, full: list[int], repeat: int, from_end: int) -> None:
    for name in (*(node.inputs[i] for i in full), node.outputs[0]):
        walk.reach(name, walk.rank(name) - from_end, repeat)


def _product(
    walk: ChannelWalk, node: Node, tensor: str, full: list[int], constants: list[int], from_end: int
) -> None:
    """Mul and Div under scaling and rotation."""
    repeat = walk.places[tensor].repeat
    if constants and not _is_uniform(walk, node.inputs[constants[0]]):
        walk.require(
            walk.change == "scale" and len(constants) == 1 and (node.op == "Mul" or constants == [1])
        )
        writes = (tensor == node.outputs[0]) == (node.op == "Mul")
        walk.add_vector(node, constants[0], tensor, from_end, reads=not writes)
        return
    walk.require(node.op == "Mul" or 1 not in full)
    if len(full) > 1:
        walk.require(walk.change == "scale")
        full = [_gated(walk, node)]
        walk.require(tensor == node.outputs[0] or tensor == node.inputs[full[0]])
    _join(walk, node, full, repeat, from_end)


def _gated(walk: ChannelWalk, node: Node) -> int:
    """Of a product of two activations the factor that may be scaled alone: a layer's result that nothing else reads."""
    for i in (1, 0):
        name = str(node.inputs[i])
        maker = walk.graph.producers.get(name)
        is_layer = maker is not None and maker.op in ("MatMul", "Gemm", "Conv", "Add")
        if is_layer and walk.graph.consumers[name] == (node,) and node.inputs[0] != node.inputs[1]:
            return i
    walk.require(False)
    return 0


def _is_square_of_norm(walk: ChannelWalk, node: Node, tensor: str) -> bool:
    """x * x or x ** 2 of which only the sum over the channels is read: the same after a rotation."""
    place = walk.places[tensor]
    exponent = walk.graph.parameters.get(str(node.input(1)))
    power = node.op == "Pow" and exponent is not None and exponent.size == 1 and float(exponent.item()) == 2
    square = node.op == "Mul" and node.inputs[0] == node.inputs[1]
    if walk.change != "rotate" or not (power or square) or tensor != node.inputs[0]:
        return False
    readers = walk.graph.consumers[node.outputs[0]]
    rank = walk.rank(tensor)
    for reader in readers:
        axes = walk.graph.parameters.get(str(reader.input(1)))
        if (
            reader.op not in _MEANS
            or axes is None
            or {int(a) % rank for a in axes.reshape(-1)} != {place.axis}
        ):
            return False
    return bool(readers) and node.outputs[0] not in walk.graph.outputs


def _is_uniform(walk: ChannelWalk, name: str | None) -> bool:
    """A constant of one value."""
    array = walk.graph.parameters.get(name or "")
    return array is not None and (array.size == 1 or bool(np.all(array == array.flat[0])))


def _rules() -> Mapping[str, Rule]:
    rules: dict[str, Rule] = {
        "Conv": _conv,
        "ConvTranspose": _transposed_conv,
        "Gemm": _gemm,
        "MatMul": _matmul,
        "Gather": _gather,
        "Softmax": _softmax,
        "Pad": _pad,
        "Transpose": _transpose,
        "Concat": _concat,
    }
    families: dict[str, Rule] = {
        "LayerNormalization RMSNormalization": _norm,
        "Neg Identity Dropout": _linear,
        "Relu LeakyRelu PRelu Abs": _homogeneous,
        "Clip Sigmoid HardSigmoid HardSwish Tanh Gelu QuickGelu Elu Selu Celu Softplus Softsign Mish Swish Erf Exp "
        "Log Sqrt Reciprocal ThresholdedRelu Floor Ceil Round Sign": _elementwise,
        "AveragePool GlobalAveragePool": _mean_pool,
        "MaxPool GlobalMaxPool": _max_pool,
        "Reshape Flatten Squeeze Unsqueeze": _reshape,
        "Add Sub Sum Mean Max Min Mul Div Pow": _arithmetic,
        "ReduceMean ReduceSum ReduceMax ReduceMin ReduceL1 ReduceL2 ReduceSumSquare ReduceProd": _reduce,
    }
    for names, rule in families.items():
        rules.update(dict.fromkeys(names.split(), rule))
    return rules


RULES = _rules()
