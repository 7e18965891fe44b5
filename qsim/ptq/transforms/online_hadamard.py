"""Hadamard transforms at run time in front of layers: outliers of a block are spread over the block.

Ashkboos et al., "QuaRot", NeurIPS 2024, section 4 (the online transforms before the down and output projections);
in blocks for block formats as in "Block Rotation is All You Need for MXFP4", 2025, and for convolutions over channels.
A layer's input x becomes x H in a node of its own and its weight H' W; layers that read the same tensor share the
node. For formats with one scale a block let `block` be the format's block. The node multiplies by a constant (a MatMul,
or a 1x1 convolution with a group a block); it is marked as added and stays in float32 unless a plan says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from qsim.errors import UserError
from qsim.graph import Node
from qsim.graph.edit import GraphEdit
from qsim.graph.ir import Attribute
from qsim.ptq.transforms.layer_inputs import LayerInput, layer_inputs
from qsim.ptq.transforms.orthogonal import block_diagonal, block_sizes, randomized_hadamard
from qsim.ptq.transforms.slots import rotate_slot

if TYPE_CHECKING:
    from qsim.graph import Graph

Array = NDArray[Any]


@dataclass(frozen=True)
class OnlineHadamard:
    """block: channels mixed with each other, a power of two; None: the largest one that divides the channels. Channels
    left over by `block` are mixed in smaller powers of two. seed: of the signs of the rows (without signs it would
    undo a `Rotation`). layers: patterns of layer names; layers of one input channel, grouped and depthwise ones stay
    as they are.
    """

    block: int | None = None
    seed: int = 0
    layers: tuple[str, ...] = ("*",)

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))
        if self.block is not None and (self.block < 2 or self.block & (self.block - 1)):
            raise UserError(
                f"ptq.before online_hadamard: block is {self.block}, it must be a power of two above 1"
            )

    def __call__(self, graph: Graph, inputs: Mapping[str, Array]) -> Graph:
        edit, rng = GraphEdit(graph), np.random.default_rng(self.seed)
        entries = [e for e in layer_inputs(graph, self.layers, "online_hadamard") if e.layer.groups == 1]
        for tensor in dict.fromkeys(entry.tensor for entry in entries):
            readers = [entry for entry in entries if entry.tensor == tensor]
            sizes = block_sizes(readers[0].channels, self.block)
            if sizes[0] == 1:
                continue
            blocks = [randomized_hadamard(size, None, rng) for size in sizes[:1]] * sizes.count(sizes[0])
            blocks += [randomized_hadamard(size, None, rng) for size in sizes[len(blocks) :]]
            rotated = _insert(edit, readers[0], blocks)
            matrix = block_diagonal(blocks)
            for entry in readers:
                edit.read(entry.layer.node, tensor, rotated)
                rotate_slot(edit, entry.slot, matrix)
        return edit.finish()


def _insert(edit: GraphEdit, entry: LayerInput, blocks: list[Array]) -> str:
    """Nodes that rotate the input of a layer; returns the tensor they make."""
    rotated = edit.fresh(f"{entry.tensor}.rotated")
    equal = len({len(block) for block in blocks}) == 1  # then they are the same block
    if entry.layer.kind == "conv":
        nodes = _convolution(edit, entry, rotated, blocks, equal)
    else:
        nodes = _product(edit, entry, rotated, blocks, equal)
    edit.insert(nodes, before=entry.layer.node)
    return rotated


def _convolution(
    edit: GraphEdit, entry: LayerInput, rotated: str, blocks: list[Array], equal: bool
) -> list[Node]:
    """A 1x1 convolution, one group a block where all blocks are of one size."""
    spatial = (1,) * len(entry.layer.kernel)
    turned = [block.T for block in blocks]  # a convolution multiplies columns: (x H)' = H' x'
    stacked = np.concatenate(turned) if equal else block_diagonal(turned)
    weight = edit.add_parameter(
        f"{rotated}.hadamard", stacked.reshape(*stacked.shape, *spatial).astype(np.float32)
    )
    attributes: dict[str, Attribute] = {"group": len(blocks) if equal else 1, "kernel_shape": spatial}
    name = edit.fresh(f"{entry.layer.name}/rotation")
    return [Node(name, "Conv", (entry.tensor, weight), (rotated,), attributes)]


def _product(
    edit: GraphEdit, entry: LayerInput, rotated: str, blocks: list[Array], equal: bool
) -> list[Node]:
    """A product with one block, of the channels split into blocks; with the whole matrix where blocks differ."""
    name = edit.fresh(f"{entry.layer.name}/rotation")
    if not equal or len(blocks) == 1:
        matrix = edit.add_parameter(f"{rotated}.hadamard", block_diagonal(blocks).astype(np.float32))
        return [Node(name, "MatMul", (entry.tensor, matrix), (rotated,))]
    leading = (0,) * (len(edit.graph.sample_shapes[entry.tensor]) - 1)  # 0: the length stays
    matrix = edit.add_parameter(f"{rotated}.hadamard", blocks[0].astype(np.float32))
    split = edit.add_parameter(
        f"{rotated}.split", np.array((*leading, len(blocks), len(blocks[0])), np.int64)
    )
    joined = edit.add_parameter(f"{rotated}.joined", np.array((*leading, entry.channels), np.int64))
    parts, mixed = edit.fresh(f"{rotated}.parts"), edit.fresh(f"{rotated}.mixed")
    return [
        Node(edit.fresh(f"{entry.layer.name}/split"), "Reshape", (entry.tensor, split), (parts,)),
        Node(name, "MatMul", (parts, matrix), (mixed,)),
        Node(edit.fresh(f"{entry.layer.name}/join"), "Reshape", (mixed, joined), (rotated,)),
    ]
