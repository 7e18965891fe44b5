"""Layers as matrix products: convolutions unfolded, linear layers as they are, one matrix a group.

Weights are [groups, outputs / groups, K] and inputs [groups, rows, K], K in the order of qsim.views (kernel
positions, then input channels), so that a block of a block format is a run of columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from qsim.emulator.operators.convolution import pad_spatial, transposed_padding, window_padding
from qsim.ptq.weight_readers import weight_readers
from qsim.views import to_matrix

if TYPE_CHECKING:
    from qsim.graph import Graph, Layer, Node

Array = NDArray[Any]
UNFOLDED_VALUES = 1 << 24  # at a time: 64 MiB of float32


def is_tunable(graph: Graph, layer: Layer) -> bool:
    """Whether a layer alone reads its weight, as it is stored, and multiplies by it: what serves every method.

    Steps that work layer by layer serve more, see `why_not_tunable`.
    """
    node = next(node for node in graph.nodes if node.name == layer.node)
    is_own = node.input(1) == layer.weights and node.op != "ConvTranspose"
    return (
        is_own
        and why_not_tunable(graph, layer) is None
        and not weight_readers(graph, layer.weights).is_shared
    )


def why_not_tunable(graph: Graph, layer: Layer) -> str | None:
    """Why a layer's weights keep nearest rounding, in words for its user; None where they need not."""
    if layer.weights not in graph.parameters:
        return "it multiplies two activations"
    readers = weight_readers(graph, layer.weights)
    if readers.others:
        return f"{readers.others[0].op} '{readers.others[0].name}' reads its weights too"
    if len({other.weight_axis for other in readers.layers}) > 1:
        return f"'{layer.weights}' is read along different axes"
    reasons = [_why_no_product(graph, other) for other in readers.layers]
    return next((reason for reason in reasons if reason is not None), None)


def _why_no_product(graph: Graph, layer: Layer) -> str | None:
    """Why a layer is not an activation times a matrix."""
    node = next(node for node in graph.nodes if node.name == layer.node)
    match node.op:
        case "Conv" if layer.weight_axis == 0 and node.input(1) == layer.weights:
            return None
        case "ConvTranspose" if layer.weight_axis == 1 and node.input(1) == layer.weights:
            return None
        case "MatMul" if graph.parameters[layer.weights].ndim == 2 and layer.weight_axis is not None:
            return None
        case "Gemm" if layer.input == node.input(0):
            if node.get("transA", 0) or not node.get("alpha", 1.0) == node.get("beta", 1.0) == 1.0:
                return "its Gemm has transA, alpha or beta"
            return None
    return f"{node.op} with weights of shape {list(graph.parameters[layer.weights].shape)} has no matrix form here"


def matrix_groups(node: Node, layer: Layer) -> int:
    """The independent products of a layer: the groups of a convolution, 1 for a transposed one.

    There the weight of output j holds the inputs of all groups side by side, for output j of every group.
    """
    return layer.groups if node.op == "Conv" else 1


def weight_matrix(graph: Graph, layer: Layer) -> Array:
    """The float32 weight of a layer as [outputs, K]."""
    return np.ascontiguousarray(
        to_matrix(graph.parameters[layer.weights], layer.weight_axis or 0), np.float32
    )


def row_parts(
    node: Node, layer: Layer, x: torch.Tensor, q: torch.Tensor
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """`input_rows` of float32 and quantized inputs, of so many samples at a time as memory should hold unfolded."""
    values = x[:1].numel() * max(1, int(np.prod(layer.kernel, dtype=np.int64)))
    if node.op == "ConvTranspose":
        values *= int(np.prod(layer.stride, dtype=np.int64)) * layer.groups
    step = max(1, UNFOLDED_VALUES // max(values, 1)) if x.dim() > 2 else max(len(x), 1)
    for start in range(0, max(len(x), 1), step):
        part = x[start : start + step]
        rows = input_rows(node, layer, part)
        yield rows, rows if q is x else input_rows(node, layer, q[start : start + step])


def input_rows(node: Node, layer: Layer, x: torch.Tensor) -> torch.Tensor:
    """What the layer multiplies its weights with: [groups, rows, K], a row for every output position.

    For a transposed convolution a row for every output position and group, zeros at the inputs of other groups.
    """
    rank = len(layer.kernel)
    match node.op:
        case "Conv":
            padded = pad_spatial(x, window_padding(node, x.shape[2:], layer.kernel))
            strides = node.get("strides", (1,) * rank)
            return _unfold(padded, layer.kernel, strides, node.get("dilations", (1,) * rank), layer.groups)
        case "ConvTranspose":
            rows = _unfold(_upsampled(node, layer, x), layer.kernel, (1,) * rank, _dilations(node, rank), 1)
            taps = rows.reshape(rows.shape[1], -1, x.shape[1]).flip(1)  # the kernel runs backwards
            own = torch.eye(layer.groups).repeat_interleave(x.shape[1] // layer.groups, 1)
            return (taps[None] * own[:, None, None]).reshape(1, -1, rows.shape[-1])
        case "MatMul" if layer.input != node.input(0):  # the weight stands on the left
            return x.movedim(-2, -1).reshape(1, -1, x.shape[-2])
    return x.reshape(1, -1, x.shape[-1])


def _unfold(
    padded: torch.Tensor,
    kernel: tuple[int, ...],
    strides: tuple[int, ...],
    dilations: tuple[int, ...],
    groups: int,
) -> torch.Tensor:
    """The windows of [samples, channels, *space] as [groups, rows, K]; rows lie side by side in memory."""
    sizes = [
        (length - (k - 1) * d - 1) // s + 1
        for length, k, s, d in zip(padded.shape[2:], kernel, strides, dilations, strict=True)
    ]
    samples, taps = padded.shape[0], list(product(*(range(k) for k in kernel)))
    split = padded.unflatten(1, (groups, -1)).movedim(0, 2)  # [groups, channels, samples, *space]
    columns = padded.new_empty(groups, len(taps), split.shape[1], samples, *sizes)
    for tap, position in enumerate(taps):
        starts = [p * d for p, d in zip(position, dilations, strict=True)]
        window = (
            slice(start, start + (size - 1) * s + 1, s)
            for start, size, s in zip(starts, sizes, strides, strict=True)
        )
        columns[:, tap] = split[(..., *window)]
    return columns.reshape(groups, len(taps) * split.shape[1], -1).mT


def _upsampled(node: Node, layer: Layer, x: torch.Tensor) -> torch.Tensor:
    """Zeros between the values and around them, so that a convolution of stride 1 is the transposed one."""
    rank = len(layer.kernel)
    strides, dilations = node.get("strides", (1,) * rank), _dilations(node, rank)
    extra = node.get("output_padding", (0,) * rank)
    spread = [(size - 1) * s + 1 for size, s in zip(x.shape[2:], strides, strict=True)]
    wide = x.new_zeros(*x.shape[:2], *spread)
    wide[(slice(None), slice(None), *(slice(None, None, s) for s in strides))] = x
    reach = [(k - 1) * d for k, d in zip(layer.kernel, dilations, strict=True)]
    full = [size + r + e for size, r, e in zip(spread, reach, extra, strict=True)]
    pads = transposed_padding(node, x.shape[2:], strides, full)
    around = [(r - before, r - after + e) for r, e, (before, after) in zip(reach, extra, pads, strict=True)]
    return pad_spatial(wide, around)


def _dilations(node: Node, rank: int) -> tuple[int, ...]:
    return tuple(node.get("dilations", (1,) * rank))


def weight_tensor(matrix: torch.Tensor, shape: tuple[int, ...], axis: int) -> torch.Tensor:
    """A weight matrix [groups, outputs / groups, K] as the parameter of `shape` (qsim.views.from_matrix)."""
    rest = shape[: axis % len(shape)] + shape[axis % len(shape) + 1 :]
    flat = matrix.reshape(-1, *rest[1:], rest[0]) if len(rest) > 1 else matrix.reshape(-1, *rest)
    moved = flat.movedim(-1, 1) if len(rest) > 1 else flat
    return moved.movedim(0, axis)
