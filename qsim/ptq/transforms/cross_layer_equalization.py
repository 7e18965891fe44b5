"""Cross-layer equalization: channels between two layers scaled until both weights use their range equally.

Nagel, van Baalen, Blankevoort, Welling, "Data-Free Quantization through Weight Equalization and Bias Correction",
ICCV 2019, section 4.1 and eq. 11: with r1 the range of channel i in the weight that writes it and r2 in the one that
reads it, s_i = sqrt(r1 r2) / r2 divides the first and multiplies the second. Pairs are taken in turn until nothing
changes, so chains with depthwise layers are equalized as a whole. What lies between must be positively homogeneous
(ReLU, LeakyReLU, pooling); through ReLU6, sigmoid and the like nothing is done, where the paper replaces ReLU6 and so
changes the network. A factor never takes a channel beyond the largest activation that the tensor had: folded batch
normalisation leaves channels of almost no weight and much bias, which would blow up (the paper absorbs such biases
into the next layer, which again is only almost the same network). For weights with one scale a tensor; scales a
channel gain little.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from qsim.errors import UserError
from qsim.graph.edit import GraphEdit
from qsim.ptq.transforms.channel_space import ChannelSpace, channel_spaces
from qsim.ptq.transforms.layer_inputs import channel_ranges
from qsim.ptq.transforms.slots import scale_slot, slot_range

if TYPE_CHECKING:
    from qsim.graph import Graph

Array = NDArray[Any]
CONVERGED = 1e-4  # of the largest change of a scale in one round
RANGE = 2.0**16  # channels that are weaker by this much carry nothing, and no factor goes beyond it


@dataclass(frozen=True)
class CrossLayerEqualization:
    """iterations: at most so many rounds over all pairs. residual: also channels that residual additions join (the
    paper leaves them alone): all their writers and readers are then equalized together.
    """

    iterations: int = 40
    residual: bool = False

    def __post_init__(self) -> None:
        if self.iterations < 1:
            raise UserError(
                f"ptq.before cross_layer_equalization: iterations is {self.iterations}, it must be at least 1"
            )

    def __call__(self, graph: Graph, inputs: Mapping[str, Array]) -> Graph:
        edit = GraphEdit(graph)
        spaces = [
            space
            for space in channel_spaces(graph, "scale")
            if space.writers and space.readers and (self.residual or not space.joins)
        ]
        read = {layer.input for layer in graph.layers}
        places = [{t: axis for t, axis in space.tensors.items() if t in read} for space in spaces]
        ranges = channel_ranges(graph, inputs, {t: axis for place in places for t, axis in place.items()})
        seen = [
            np.max([ranges[t].magnitude.reshape(space.channels, -1).max(1) for t in place], axis=0)
            for space, place in zip(spaces, places, strict=True)
        ]
        pairs = [_Pair.start(space, now) for space, now in zip(spaces, seen, strict=True)]
        for _ in range(self.iterations):
            change = max((pair.equalize(edit) for pair in pairs), default=0.0)
            if change < CONVERGED:
                break
        return edit.finish()


@dataclass
class _Pair:
    """Channels between layers: factors so far, and the most that each may come to without widening activations."""

    space: ChannelSpace
    highest: Array
    factors: Array

    @classmethod
    def start(cls, space: ChannelSpace, activations: Array) -> _Pair:
        """activations: the largest of every channel on calibration data."""
        limit = float(activations.max())
        if limit <= 0:
            return cls(space, np.ones(space.channels), np.ones(space.channels))
        return cls(space, limit / np.maximum(activations, limit / RANGE), np.ones(space.channels))

    def equalize(self, edit: GraphEdit) -> float:
        """Scale the channels once more; returns the largest |log scale|."""
        space = self.space
        written = np.max([slot_range(edit, slot, space.channels) for slot in space.writers], axis=0)
        read = np.max([slot_range(edit, slot, space.channels) for slot in space.readers], axis=0)
        alive = (written > written.max() / RANGE) & (read > read.max() / RANGE)
        if not alive.any():
            return 0.0
        wanted = np.sqrt(np.maximum(read, 1e-30) / np.maximum(written, 1e-30))
        wanted /= np.median(wanted[alive])  # a factor that all share changes nothing
        total = np.clip(self.factors * wanted, 1 / RANGE, self.highest)
        factors, self.factors = total / self.factors, total
        for slot in space.slots:
            scale_slot(edit, slot, factors)
        return float(np.abs(np.log(factors)).max(initial=0.0))
