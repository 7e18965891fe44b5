"""A low-rank branch beside a layer: W = (W - U V) + U V, the second product in nodes of its own.

The branch stays in float32 (or what a plan gives its tensors), the remainder is what is quantized.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from qsim.graph import Node
from qsim.graph.edit import GraphEdit
from qsim.ptq.transforms.layer_inputs import LayerInput

if TYPE_CHECKING:
    from qsim.graph import Graph

Array = NDArray[Any]


def weight_rows(edit: GraphEdit, entry: LayerInput) -> Array:
    """The weight of a layer as [outputs, channels * positions], float64."""
    array = edit.array(entry.slot.node, 1).astype(np.float64)
    if entry.layer.kind == "conv":
        return array.reshape(len(array), -1)
    return array if entry.weight_axis == 0 else array.T


def truncated_svd(matrix: Array, rank: int) -> tuple[Array, Array]:
    """The best approximation of `rank`: [outputs, rank] and [rank, K], singular values shared equally."""
    u, s, v = np.linalg.svd(matrix, full_matrices=False)
    root = np.sqrt(s[:rank])
    return u[:, :rank] * root, root[:, None] * v[:rank]


def has_room(entry: LayerInput, rank: int) -> bool:
    """Whether a branch of `rank` is smaller than the layer itself; grouped layers take none."""
    outputs = entry.layer.weight_shape[entry.layer.weight_axis or 0]
    length = entry.layer.reduction_length
    return entry.layer.groups == 1 and rank * (outputs + length) < outputs * length


def add_branch(
    edit: GraphEdit, entry: LayerInput, source: str, branch: Array, up: Array, down: Array
) -> None:
    """Take `branch` [outputs, K] out of the layer's weight; add `up` [outputs, r] `down` [r, K] of `source` instead.

    `branch` is what the two do to the layer's own input; they read `source`, which may be another view of it.
    """
    layer, node = entry.layer, edit.node(entry.layer.node)
    own = weight_rows(edit, entry) - branch
    if layer.kind == "conv":
        own = own.reshape(layer.weight_shape)
    elif entry.weight_axis != 0:
        own = own.T
    edit.set_array(node.name, 1, own)
    behind = _before_sum(edit, edit.graph, node)
    output = behind.outputs[0]
    main, low, inner = (edit.fresh(f"{output}.{part}") for part in ("main", "low_rank", "inner"))
    nodes = _convolutions if layer.kind == "conv" else _products
    total = Node(edit.fresh(f"{layer.name}/sum"), "Add", (main, low), (output,))
    edit.insert([*nodes(edit, entry, (source, inner, low), up, down), total], after=behind.name)
    edit.update(behind.name, outputs=(main,))


def _before_sum(edit: GraphEdit, graph: Graph, node: Node) -> Node:
    """The node whose result the branch is added to: the layer's, or that of the bias which alone reads it."""
    readers = graph.consumers[node.outputs[0]]
    is_alone = len(readers) == 1 and readers[0].op == "Add" and node.outputs[0] not in graph.outputs
    if is_alone and any(name in graph.parameters for name in readers[0].inputs):
        return edit.node(readers[0].name)
    return edit.node(node.name)


def _products(
    edit: GraphEdit, entry: LayerInput, tensors: tuple[str, str, str], up: Array, down: Array
) -> list[Node]:
    source, inner, low = tensors
    name = entry.layer.name
    first = edit.add_parameter(f"{name}.down", np.ascontiguousarray(down.T, np.float32))
    second = edit.add_parameter(f"{name}.up", np.ascontiguousarray(up.T, np.float32))
    return [
        Node(edit.fresh(f"{name}/down"), "MatMul", (source, first), (inner,)),
        Node(edit.fresh(f"{name}/up"), "MatMul", (inner, second), (low,)),
    ]


def _convolutions(
    edit: GraphEdit, entry: LayerInput, tensors: tuple[str, str, str], up: Array, down: Array
) -> list[Node]:
    """The layer's own kernel to `rank` channels, then 1x1."""
    source, inner, low = tensors
    name, node, shape = entry.layer.name, edit.node(entry.layer.node), entry.layer.weight_shape
    first = edit.add_parameter(f"{name}.down", down.reshape(-1, *shape[1:]).astype(np.float32))
    pointwise = up.reshape(*up.shape, *(1,) * (len(shape) - 2)).astype(np.float32)
    second = edit.add_parameter(f"{name}.up", pointwise)
    return [
        Node(edit.fresh(f"{name}/down"), "Conv", (source, first), (inner,), node.attributes),
        Node(
            edit.fresh(f"{name}/up"),
            "Conv",
            (inner, second),
            (low,),
            {"kernel_shape": shape[2:] and (1,) * len(shape[2:])},
        ),
    ]
