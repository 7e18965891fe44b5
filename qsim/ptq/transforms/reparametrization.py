"""RepQ-ViT's reparametrization: scales and zero points a channel at calibration, one of each a tensor at run time.

Li, Xiao, Yang, Gu, "RepQ-ViT: Scale Reparameterization for Post-Training Quantization of Vision Transformers", ICCV
2023, section 3.2, eqs. 9 to 16: channels after a LayerNorm differ so much that each has its own range
[low, low + width]. x' = (x - shift) / r with r = width / mean(width) makes all ranges the same; LayerNorm's gain and
bias take 1 / r and the shift, the layers behind take r into their weights and the shift into their biases. The same
holds for any producer with parameters of its own: for a layer with bias directly in front, scale and shift; across
ReLU and the like, and where a reader pads or nothing holds a bias, the scale alone. (The paper's log-sqrt2 quantizer
for softmax is a number format, not a transform.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from qsim.graph.edit import GraphEdit
from qsim.ptq.transforms.channel_space import ChannelSpace, channel_space
from qsim.ptq.transforms.layer_inputs import ChannelRange, LayerInput, channel_ranges, layer_inputs
from qsim.ptq.transforms.reader_bias import add_to_bias
from qsim.ptq.transforms.slots import Slot, scale_slot, slot_array

if TYPE_CHECKING:
    from qsim.graph import Graph, Node

Array = NDArray[Any]
_BIAS_PLACE = {"LayerNormalization": 2, "Conv": 2, "Gemm": 2}


@dataclass(frozen=True)
class Reparametrization:
    """layers: patterns of the names of layers whose inputs are reparametrized. shift: also move the ranges onto each
    other, for formats with a zero point; without it channels are scaled to one largest magnitude.
    """

    shift: bool = True
    layers: tuple[str, ...] = ("*",)

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))

    def __call__(self, graph: Graph, inputs: Mapping[str, Array]) -> Graph:
        entries = layer_inputs(graph, self.layers, "reparametrization")
        ranges = channel_ranges(graph, inputs, {entry.tensor: entry.axis for entry in entries})
        edit = GraphEdit(graph)
        done: set[str] = set()
        for entry in entries:
            space = channel_space(graph, entry.tensor, entry.axis, "scale")
            if entry.tensor in done or space is None or space.channels != entry.channels:
                continue
            done.update(space.tensors)
            readers = [other for other in entries if other.tensor == entry.tensor]
            bias = _shiftable(edit, space, readers) if self.shift else None
            _reparametrize(edit, space, readers, ranges[entry.tensor], bias)
        return edit.finish()


def _reparametrize(
    edit: GraphEdit, space: ChannelSpace, readers: list[LayerInput], seen: ChannelRange, bias: Slot | None
) -> None:
    """Give all channels one range; with `bias`, the slot of the producer's, one lower end too."""
    width = seen.maximum - seen.minimum if bias is not None else seen.magnitude
    alive = width > width.max(initial=0.0) * 2.0**-16
    if not alive.any():
        return
    if bias is not None:
        lower = np.where(alive, (seen.minimum / np.where(alive, width, 1.0)), 0.0)
        shift = np.where(alive, seen.minimum - width * lower[alive].mean(), 0.0)
        for entry in readers:
            add_to_bias(edit, entry, shift)
        edit.set_array(bias.node, bias.place, slot_array(edit, bias, space.channels) - shift)
    factors = np.where(alive, width[alive].mean() / np.where(alive, width, 1.0), 1.0)
    for slot in space.slots:
        scale_slot(edit, slot, factors)


def _shiftable(edit: GraphEdit, space: ChannelSpace, readers: list[LayerInput]) -> Slot | None:
    """The slot of the bias that makes the tensor `readers` share, if all who read it can take a shift of it."""
    graph, tensor = edit.graph, readers[0].tensor
    producer = graph.producers[tensor]
    known = {entry.layer.node for entry in readers}
    if len(space.tensors) > 2 or {node.name for node in graph.consumers[tensor]} != known:
        return None
    if not all(_takes_shift(edit.node(entry.layer.node), entry) for entry in readers):
        return None
    place = _BIAS_PLACE.get(producer.op)
    if producer.op == "Add":
        place = next((i for i in (0, 1) if edit.is_parameter(producer.name, i)), None)
    biases = [slot for slot in space.slots if slot.node == producer.name and slot.place == place]
    return biases[0] if biases else None


def _takes_shift(node: Node, entry: LayerInput) -> bool:
    """No padding (zeros would have to become the shift) and no groups."""
    padded = any(node.get("pads", ())) or node.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID")
    return entry.layer.groups == 1 and not padded
