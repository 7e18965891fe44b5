"""Cross-layer equalization: channels between two layers scaled until both weights use their range equally.

Nagel, van Baalen, Blankevoort, Welling, "Data-Free Quantization through Weight Equalization and Bias Correction",
ICCV 2019, section 4.1 and eq. 11: with r1 the range of channel i in the weight that writes it and r2 in the one that
reads it, s_i = sqrt(r1 r2) / r2 divides the first and multiplies the second. Pairs are taken in turn until nothing
changes, so chains with depthwise layers are equalized as a whole. What lies between must be positively homogeneous
(ReLU, LeakyReLU, pooling); through ReLU6, sigmoid and the like nothing is done, where the paper replaces ReLU6 and so
changes the network. For weights with one scale a tensor; scales a channel gain little.
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
from qsim.ptq.transforms.slots import scale_slot, slot_range

if TYPE_CHECKING:
    from qsim.graph import Graph

Array = NDArray[Any]
CONVERGED = 1e-4  # of the largest change of a scale in one round


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
        for _ in range(self.iterations):
            change = max((_equalize(edit, space) for space in spaces), default=0.0)
            if change < CONVERGED:
                break
        return edit.finish()


def _equalize(edit: GraphEdit, space: ChannelSpace) -> float:
    """Equalize one space; returns the largest |log scale|. A channel that one side has only zeros for stays."""
    written = np.max([slot_range(edit, slot, space.channels) for slot in space.writers], axis=0)
    read = np.max([slot_range(edit, slot, space.channels) for slot in space.readers], axis=0)
    alive = (written > 0) & (read > 0)
    factors = np.ones(space.channels)
    factors[alive] = np.sqrt(read[alive] / written[alive])
    for slot in space.slots:
        scale_slot(edit, slot, factors)
    return float(np.abs(np.log(factors)).max(initial=0.0))
