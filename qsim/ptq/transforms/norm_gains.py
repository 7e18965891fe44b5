"""The gain and bias of a normalisation taken into the layers that read it (SliceGPT, Ashkboos et al. 2024, sec. 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from qsim.graph.edit import GraphEdit
from qsim.ptq.transforms.channel_space import channel_space
from qsim.ptq.transforms.layer_inputs import LayerInput, layer_inputs
from qsim.ptq.transforms.reader_bias import add_to_bias
from qsim.ptq.transforms.slots import scale_slot, slot_array

if TYPE_CHECKING:
    from qsim.graph import Graph, Node

Array = NDArray[Any]
_NORMS = ("LayerNormalization", "RMSNormalization")


def fold_norm_gains(graph: Graph) -> Graph:
    """`graph` with the gain of every normalisation over the last axis folded into all layers that read its result.

    A gain is the scale of a LayerNormalization or RMSNormalization node, or a vector that a Mul applies to a quotient
    or product (a normalisation written out). One that something else reads too stays.
    """
    edit = GraphEdit(graph)
    entries = layer_inputs(graph, ("*",), "rotation")
    for node in graph.nodes:
        output = node.outputs[0]
        readers = [entry for entry in entries if entry.tensor == output]
        known = {entry.layer.node for entry in readers}
        if node.op not in (*_NORMS, "Mul") or output in graph.outputs:
            continue
        if not readers or {other.name for other in graph.consumers[output]} != known:
            _fold_through(edit, graph, node)
        elif any(entry.axis != len(graph.sample_shapes[output]) - 1 for entry in readers):
            continue
        elif node.op in _NORMS and edit.is_parameter(node.name, 1):
            _fold_node(edit, node, readers)
        elif node.op == "Mul":
            _fold_factor(edit, graph, node, readers)
    return edit.finish()


def _fold_through(edit: GraphEdit, graph: Graph, node: Node) -> None:
    """Fold the positive gain of a normalisation that layers read after a mean over positions or the like."""
    if node.op not in _NORMS or not edit.is_parameter(node.name, 1):
        return
    space = channel_space(graph, node.outputs[0], len(graph.sample_shapes[node.outputs[0]]) - 1, "scale")
    gain = edit.array(node.name, 1).astype(np.float64).reshape(-1)
    if space is not None and len(gain) == space.channels and (gain > 0).all():
        for slot in space.slots:
            scale_slot(edit, slot, 1 / gain)
        edit.set_array(node.name, 1, np.ones_like(gain))  # exactly


def _fold_node(edit: GraphEdit, node: Node, readers: list[LayerInput]) -> None:
    gain = edit.array(node.name, 1).astype(np.float64)
    bias = edit.array(node.name, 2).astype(np.float64) if edit.is_parameter(node.name, 2) else None
    if node.input(2) is not None and bias is None:
        return
    for entry in readers:
        if bias is not None and bias.any():
            add_to_bias(edit, entry, bias)
        _multiply(edit, entry, gain)
    edit.set_array(node.name, 1, np.ones_like(gain))
    if bias is not None:
        edit.set_array(node.name, 2, np.zeros_like(bias))


def _fold_factor(edit: GraphEdit, graph: Graph, node: Node, readers: list[LayerInput]) -> None:
    place = next((i for i in (0, 1) if edit.is_parameter(node.name, i)), None)
    if place is None or edit.array(node.name, place).size != readers[0].channels:
        return
    source = str(node.inputs[1 - place])
    maker = graph.producers.get(source)
    if maker is None or maker.op not in ("Div", "Mul"):
        return
    gain = edit.array(node.name, place).astype(np.float64).reshape(-1)
    for entry in readers:
        _multiply(edit, entry, gain)
    edit.bypass(node.name, source)


def _multiply(edit: GraphEdit, entry: LayerInput, gain: Array) -> None:
    array = slot_array(edit, entry.slot, entry.channels)
    shape = [-1 if axis == entry.slot.axis else 1 for axis in range(array.ndim)]
    edit.set_array(entry.slot.node, entry.slot.place, array * gain.reshape(shape))
