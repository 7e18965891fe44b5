"""Channel rearrangement for block formats: channels of like magnitude side by side, so that a block wastes no bits.

Trukhanov and Soloveychik, "Accurate Block Quantization in LLMs with Outliers", arXiv 2403.20137, 2024: an outlier
sets the scale of its whole block, so channels are sorted by magnitude and outliers meet outliers. The permutation is
folded into all weights, biases and gains around the channels, and costs nothing at run time. Where something else
depends on the order of channels (heads of attention, the network's inputs and outputs) they stay.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from qsim.errors import UserError
from qsim.graph.edit import GraphEdit
from qsim.ptq.transforms.channel_space import channel_spaces
from qsim.ptq.transforms.layer_inputs import channel_ranges, layer_inputs
from qsim.ptq.transforms.slots import permute_slot, slot_range

if TYPE_CHECKING:
    from qsim.graph import Graph

Array = NDArray[Any]
SortBy = Literal["activations", "weights", "products"]


@dataclass(frozen=True)
class Rearrangement:
    """by: the largest magnitude of a channel in the inputs of layers on calibration data, in the weights that read
    them (as the paper, no data needed), or the product of both.
    """

    by: SortBy = "activations"

    def __post_init__(self) -> None:
        if self.by not in get_args(SortBy):
            raise UserError(
                f"ptq.before rearrangement: by is '{self.by}', it can be {', '.join(get_args(SortBy))}"
            )

    def __call__(self, graph: Graph, inputs: Mapping[str, Array]) -> Graph:
        entries = layer_inputs(graph, ("*",), "rearrangement")
        ranges = channel_ranges(graph, inputs, {entry.tensor: entry.axis for entry in entries})
        edit = GraphEdit(graph)
        for space in channel_spaces(graph, "permute"):
            readers = [e for e in entries if e.tensor in space.tensors and e.channels == space.channels]
            if not readers:
                continue
            size = np.zeros(space.channels)
            for entry in readers:  # every layer has one voice, whatever its units
                seen = _relative(ranges[entry.tensor].magnitude)
                weight = _relative(slot_range(edit, entry.slot, entry.channels))
                size += {"activations": seen, "weights": weight, "products": seen + weight}[self.by]
            order = np.argsort(-size, kind="stable")
            for slot in space.slots:
                permute_slot(edit, slot, order)
        return edit.finish()


def _relative(magnitudes: Array) -> Array:
    """Logarithm, so that layers of other units add up."""
    largest = magnitudes.max(initial=0.0)
    return (
        np.asarray(np.log2(np.maximum(magnitudes, largest * 2.0**-24) / largest))
        if largest > 0
        else magnitudes
    )
