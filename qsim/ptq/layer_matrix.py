"""Layers as matrix products: convolutions unfolded, linear layers as they are, one matrix a group.

Weights are [groups, outputs / groups, K] and inputs [groups, rows, K], K in the order of qsim.views (kernel
positions, then input channels), so that a block of a block format is a run of columns.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from qsim.emulator.operators.convolution import pad_spatial, window_padding
from qsim.views import to_matrix

if TYPE_CHECKING:
    from qsim.graph import Graph, Layer, Node

Array = NDArray[Any]


def is_tunable(graph: Graph, layer: Layer) -> bool:
    """Whether the layer is a plain product of an activation and a parameter that no other node reads.

    Others (attention products, recurrent and transposed convolutions, tied or viewed weights) keep nearest
    rounding.
    """
    node = next(node for node in graph.nodes if node.name == layer.node)
    if layer.weights not in graph.parameters or layer.weight_axis is None:
        return False
    if len(graph.consumers[layer.weights]) != 1 or node.input(1) != layer.weights:
        return False
    match node.op:
        case "Conv":
            return layer.weight_axis == 0
        case "Gemm":
            return not node.get("transA", 0) and node.get("alpha", 1.0) == node.get("beta", 1.0) == 1.0
        case "MatMul":
            return graph.parameters[layer.weights].ndim == 2
    return False


def weight_matrix(graph: Graph, layer: Layer) -> Array:
    """The float32 weight of a layer as [outputs, K]."""
    return np.ascontiguousarray(
        to_matrix(graph.parameters[layer.weights], layer.weight_axis or 0), np.float32
    )


def input_rows(node: Node, layer: Layer, x: torch.Tensor) -> torch.Tensor:
    """What the layer multiplies its weights with: [groups, rows, K], a row for every output position."""
    if node.op != "Conv":
        return x.reshape(1, -1, x.shape[-1])
    kernel, rank = layer.kernel, len(layer.kernel)
    strides = node.get("strides", (1,) * rank)
    dilations = node.get("dilations", (1,) * rank)
    padded = pad_spatial(x, window_padding(node, x.shape[2:], kernel))
    sizes = [
        (length - (k - 1) * d - 1) // s + 1
        for length, k, s, d in zip(padded.shape[2:], kernel, strides, dilations, strict=True)
    ]
    views = []
    for position in product(*(range(k) for k in kernel)):
        starts = [p * d for p, d in zip(position, dilations, strict=True)]
        window = tuple(
            slice(start, start + (size - 1) * s + 1, s)
            for start, size, s in zip(starts, sizes, strides, strict=True)
        )
        views.append(padded[(slice(None), slice(None), *window)].flatten(2))
    stacked = torch.stack(views, -1)  # [samples, channels, positions, kernel positions]
    samples, channels, positions, taps = stacked.shape
    grouped = stacked.reshape(samples, layer.groups, channels // layer.groups, positions, taps)
    return grouped.permute(1, 0, 3, 4, 2).reshape(layer.groups, samples * positions, -1)


def weight_tensor(matrix: torch.Tensor, shape: tuple[int, ...], axis: int) -> torch.Tensor:
    """A weight matrix [groups, outputs / groups, K] as the parameter of `shape` (qsim.views.from_matrix)."""
    rest = shape[: axis % len(shape)] + shape[axis % len(shape) + 1 :]
    flat = matrix.reshape(-1, *rest[1:], rest[0]) if len(rest) > 1 else matrix.reshape(-1, *rest)
    moved = flat.movedim(-1, 1) if len(rest) > 1 else flat
    return moved.movedim(0, axis)
