"""Folding batch normalisation, and per-channel multiplications and additions, into the layer before.

y = (W x + b) * s + t becomes (W s) x + (b s + t); everything is computed in float64 and rounded once to float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from qsim.graph.ir import Array, Graph, Node

Affine = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]  # scale and shift of every channel
Ranks = Mapping[str, tuple[int | None, ...]]
_FOLDED_INTO = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def fold_batchnorm(graph: Graph, shapes: Ranks) -> Graph:
    """`graph` with every foldable BatchNormalization merged into the Conv, ConvTranspose, Gemm or MatMul before it.

    One that follows anything else, or a layer whose weights are quantized by a node, stays.
    """
    parameters = dict(graph.parameters)
    tensors_read = _readers(graph)
    dropped: set[int] = set()
    replaced: dict[int, list[Node]] = {}
    for node in graph.nodes:
        if node.op not in _FOLDED_INTO or node.input(1) not in parameters:
            continue
        chain, affine = _following_affine(node, graph, tensors_read, parameters, shapes)
        if not chain or (
            not any(n.op == "BatchNormalization" for n in chain) and node.op in ("Gemm", "MatMul")
        ):
            continue
        replaced[id(node)] = _merged(node, chain[-1].outputs[0], affine, parameters)
        dropped.update(id(n) for n in chain)
    nodes: list[Node] = []
    for node in graph.nodes:
        nodes += [] if id(node) in dropped else replaced.get(id(node), [node])
    return replace(graph, nodes=tuple(nodes), parameters=parameters)


def _readers(graph: Graph) -> dict[str, list[Node]]:
    readers: dict[str, list[Node]] = {}
    for node in graph.nodes:
        for name in node.inputs:
            if name:
                readers.setdefault(name, []).append(node)
    return readers


def _following_affine(
    node: Node,
    graph: Graph,
    readers: Mapping[str, list[Node]],
    parameters: Mapping[str, Array],
    shapes: Ranks,
) -> tuple[list[Node], Affine]:
    """The longest run of per-channel affine nodes behind `node` that nothing else reads, composed."""
    channels = _channels(node, parameters)
    scale, shift = np.ones(channels), np.zeros(channels)
    chain: list[Node] = []
    tensor = node.outputs[0]
    rank = _rank(node, parameters, shapes)
    while rank is not None and tensor not in graph.outputs and len(readers.get(tensor, [])) == 1:
        follower = readers[tensor][0]
        affine = _affine_of(follower, tensor, parameters, channels, rank, node.op)
        if affine is None:
            break
        scale, shift = scale * affine[0], shift * affine[0] + affine[1]
        chain.append(follower)
        tensor = follower.outputs[0]
    return chain, (scale, shift)


def _channels(node: Node, parameters: Mapping[str, Array]) -> int:
    weight = parameters[str(node.inputs[1])]
    match node.op:
        case "ConvTranspose":
            return int(weight.shape[1]) * int(node.get("group", 1))
        case "MatMul":
            return int(weight.shape[-1])
        case "Gemm":
            return int(weight.shape[0 if node.get("transB", 0) else 1])
    return int(weight.shape[0])


def _rank(node: Node, parameters: Mapping[str, Array], shapes: Ranks) -> int | None:
    """Rank of the layer's output."""
    weight = parameters[str(node.inputs[1])]
    if node.op != "MatMul":
        return weight.ndim
    shape = shapes.get(node.outputs[0])
    return len(shape) if shape is not None and weight.ndim == 2 else None


def _affine_of(
    node: Node, tensor: str, parameters: Mapping[str, Array], channels: int, rank: int, layer: str
) -> Affine | None:
    """Scale and shift of a per-channel node, or None if it is not one."""
    axis = rank - 1 if layer == "MatMul" else 1
    if node.op == "BatchNormalization":
        if axis != 1 or node.inputs[0] != tensor or any(n not in parameters for n in node.inputs[1:5]):
            return None
        gamma, beta, mean, variance = (parameters[str(n)].astype(np.float64) for n in node.inputs[1:5])
        scale = gamma / np.sqrt(variance + node.get("epsilon", 1e-5))
        return scale, beta - mean * scale
    if node.op not in ("Mul", "Add", "Sub", "Div"):
        return None
    first = node.inputs[0] == tensor
    constant = parameters.get(str(node.inputs[1 if first else 0]))
    if constant is None or constant.ndim > rank or (not first and node.op == "Div"):
        return None
    full = constant.reshape((1,) * (rank - constant.ndim) + constant.shape).astype(np.float64)
    if full.size not in (1, channels) or full.shape[axis] != full.size:
        return None
    value = np.broadcast_to(full.reshape(-1), (channels,))
    one, zero = np.ones(channels), np.zeros(channels)
    match node.op:
        case "Mul":
            return value, zero
        case "Div":
            return one / value, zero
        case "Add":
            return one, value
    return (one, -value) if first else (-one, value)


def _merged(node: Node, output: str, affine: Affine, parameters: dict[str, Array]) -> list[Node]:
    """The layer with scale and shift in its weights and bias, writing `output`."""
    scale, shift = affine
    weight_name = str(node.inputs[1])
    weight = parameters[weight_name].astype(np.float64) * _along_channels(
        node, parameters[weight_name], scale
    )
    folded = f"{weight_name}.folded"
    while folded in parameters:
        folded += "_"
    parameters[folded] = weight.astype(np.float32)
    bias_name = f"{folded}.bias"
    if node.op == "MatMul":
        parameters[bias_name] = shift.astype(np.float32)
        product = f"{output}.product"
        layer = replace(node, inputs=(node.inputs[0], folded), outputs=(product,))
        return [layer, Node(f"{node.name}/bias", "Add", (product, bias_name), (output,))]
    old = parameters.get(node.input(2) or "")
    bias = shift if old is None else old.astype(np.float64) * node.get("beta", 1.0) * scale + shift
    parameters[bias_name] = np.broadcast_to(bias, scale.shape).astype(np.float32)
    attributes = {**node.attributes, "beta": 1.0} if node.op == "Gemm" else node.attributes
    return [
        replace(node, inputs=(node.inputs[0], folded, bias_name), outputs=(output,), attributes=attributes)
    ]


def _along_channels(node: Node, weight: Array, scale: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """`scale` shaped to multiply the output channels of `weight`."""
    match node.op:
        case "MatMul":
            return scale
        case "Gemm":
            return scale[:, None] if node.get("transB", 0) else scale
        case "ConvTranspose":  # weight [C, M/groups, ...]: group g of C makes channels g*M/groups ...
            groups = node.get("group", 1)
            rows = np.repeat(scale.reshape(groups, -1), weight.shape[0] // groups, axis=0)
            return rows.reshape(*rows.shape, *(1,) * (weight.ndim - 2))
    return scale.reshape(-1, *(1,) * (weight.ndim - 1))
