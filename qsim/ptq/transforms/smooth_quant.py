"""SmoothQuant: outliers of activation channels moved into the weights.

Xiao, Lin, Seznec, Wu, Demouth, Han, "SmoothQuant: Accurate and Efficient Post-Training Quantization for Large
Language Models", ICML 2023, eq. 4: channel j of a layer's input is divided, and its weights multiplied, by
s_j = max|X_j|^alpha / max|W_j|^(1 - alpha). Where a normalisation, a layer or a multiplication by constants makes the
channels, 1 / s is folded into its parameters; elsewhere a multiplication is put in front of the layer. Layers that
read the same channels share s.
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
from qsim.ptq.transforms.channel_space import ChannelSpace, channel_space
from qsim.ptq.transforms.layer_inputs import ChannelRange, LayerInput, channel_ranges, layer_inputs
from qsim.ptq.transforms.slots import scale_slot, slot_range

if TYPE_CHECKING:
    from qsim.graph import Graph

Array = NDArray[Any]


@dataclass(frozen=True)
class SmoothQuant:
    """alpha: 0 leaves activations alone, 1 makes all their channels alike. explicit: put a multiplication in where
    nothing can take the scales up; otherwise these layers stay as they are. layers: patterns of layer names.
    """

    alpha: float = 0.5
    explicit: bool = True
    layers: tuple[str, ...] = ("*",)

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))
        if not 0.0 <= self.alpha <= 1.0:
            raise UserError(f"ptq.before smooth_quant: alpha is {self.alpha}, it must lie between 0 and 1")

    def __call__(self, graph: Graph, inputs: Mapping[str, Array]) -> Graph:
        entries = layer_inputs(graph, self.layers, "smooth_quant")
        ranges = channel_ranges(graph, inputs, {entry.tensor: entry.axis for entry in entries})
        edit = GraphEdit(graph)
        done: set[str] = set()
        for entry in entries:
            if entry.tensor in done:
                continue
            readers = [other for other in entries if other.tensor == entry.tensor]
            space = channel_space(graph, entry.tensor, entry.axis, "scale")
            done.add(entry.tensor)
            if space is not None and space.channels == entry.channels:
                together = [other.tensor for other in entries if other.tensor in space.tensors]
                done.update(together)
                self._fold(edit, space, [ranges[tensor] for tensor in dict.fromkeys(together)])
            elif self.explicit:
                self._insert(edit, readers, ranges[entry.tensor])
        return edit.finish()

    def _fold(self, edit: GraphEdit, space: ChannelSpace, ranges: list[ChannelRange]) -> None:
        seen = np.max([found.magnitude for found in ranges], axis=0)
        weights = np.max([slot_range(edit, slot, space.channels) for slot in space.readers], axis=0)
        factors = 1 / smoothing(seen, weights, self.alpha)
        for slot in space.slots:
            scale_slot(edit, slot, factors)

    def _insert(self, edit: GraphEdit, readers: list[LayerInput], seen: ChannelRange) -> None:
        weights = np.max([slot_range(edit, entry.slot, entry.channels) for entry in readers], axis=0)
        insert_smoothing(edit, readers, smoothing(seen.magnitude, weights, self.alpha))


def smoothing(activations: Array, weights: Array, alpha: float) -> Array:
    """s of eq. 4 for the largest magnitudes of every channel; 1 where a channel is always zero on either side."""
    alive = (activations > 0) & (weights > 0)
    scales = np.ones(len(activations))
    scales[alive] = activations[alive] ** alpha / weights[alive] ** (1 - alpha)
    return scales


def insert_smoothing(edit: GraphEdit, readers: list[LayerInput], scales: Array) -> str:
    """Divide the input that `readers` share by `scales` in a node of its own; returns the new tensor."""
    first = readers[0]
    tail = len(edit.graph.sample_shapes[first.tensor]) - first.axis - 1
    factors = (1 / scales).astype(np.float32)
    name = edit.fresh(f"{first.layer.name}/smooth")
    smooth = edit.fresh(f"{first.tensor}.smooth")
    factor = edit.add_parameter(f"{smooth}.scale", factors.reshape(-1, *(1,) * tail))
    edit.insert([Node(name, "Mul", (first.tensor, factor), (smooth,))], before=first.layer.node)
    for entry in readers:
        edit.read(entry.layer.node, first.tensor, smooth)
        scale_slot(edit, entry.slot, factors.astype(np.float64))
    return smooth
