"""Giving a layer what a constant shift of its input adds to its output."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.graph import Node
from qsim.graph.edit import GraphEdit
from qsim.ptq.transforms.layer_inputs import LayerInput
from qsim.ptq.transforms.slots import slot_array

Array = NDArray[Any]


def add_to_bias(edit: GraphEdit, entry: LayerInput, shift: Array) -> None:
    """The output of a layer gains W `shift`, for a `shift` [channels] of its input: in its bias, or in a new one.

    A convolution must not pad, and not be grouped; the layer's weight is the one before any other change.
    """
    weight = slot_array(edit, entry.slot, entry.channels)
    moved = np.moveaxis(weight, (entry.weight_axis, entry.slot.axis), (0, 1))
    added = moved.reshape(*moved.shape[:2], -1).sum(-1) @ shift
    node = edit.node(entry.layer.node)
    if node.op in ("Conv", "Gemm"):
        own = edit.array(node.name, 2).astype(np.float64) if edit.is_parameter(node.name, 2) else 0.0
        alpha, beta = float(node.get("alpha", 1.0)), float(node.get("beta", 1.0))
        edit.set_array(node.name, 2, own + added * alpha / beta)
        return
    adder = _bias_node(edit, node)
    if adder is not None:
        place = 1 if adder.inputs[0] == node.outputs[0] else 0
        edit.set_array(adder.name, place, edit.array(adder.name, place).astype(np.float64) + added)
        return
    product = edit.fresh(f"{node.outputs[0]}.product")
    bias = edit.add_parameter(f"{node.name}.bias", added.astype(np.float32))
    name = edit.fresh(f"{node.name}/bias")
    edit.insert([Node(name, "Add", (product, bias), node.outputs)], after=node.name)
    edit.update(node.name, outputs=(product,))


def _bias_node(edit: GraphEdit, node: Node) -> Node | None:
    """The addition of a constant that alone reads the result of a MatMul."""
    readers = edit.graph.consumers[node.outputs[0]]
    if len(readers) != 1 or readers[0].op != "Add" or node.outputs[0] in edit.graph.outputs:
        return None
    places = [i for i in (0, 1) if edit.is_parameter(readers[0].name, i)]
    return edit.node(readers[0].name) if places else None
