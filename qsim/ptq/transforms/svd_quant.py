"""SVDQuant: a low-rank branch in high precision takes up the large part of the weight, the rest is quantized.

Li et al., "SVDQuant: Absorbing Outliers by Low-Rank Components for 4-Bit Diffusion Models", ICLR 2025, section 4.2:
outliers of the activations move into the weight (x / s, s W, as SmoothQuant), whose `rank` largest singular directions
become the branch. The branch reads the layer's input before smoothing, which no spec has touched.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from qsim.errors import UserError
from qsim.graph.edit import GraphEdit
from qsim.ptq.transforms.layer_inputs import LayerInput, channel_ranges, layer_inputs
from qsim.ptq.transforms.low_rank import add_branch, has_room, truncated_svd, weight_rows
from qsim.ptq.transforms.slots import slot_range
from qsim.ptq.transforms.smooth_quant import insert_smoothing, smoothing

if TYPE_CHECKING:
    from qsim.graph import Graph

Array = NDArray[Any]


@dataclass(frozen=True)
class SVDQuant:
    """rank: of the branch (the paper: 32, for layers of thousands of channels). alpha: SmoothQuant's. layers: patterns
    of layer names; those too small for a branch of this rank, and grouped ones, stay as they are.
    """

    rank: int = 8
    alpha: float = 0.5
    layers: tuple[str, ...] = ("*",)

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))
        if self.rank < 1 or not 0.0 <= self.alpha <= 1.0:
            raise UserError(
                "ptq.before svd_quant: rank must be at least 1 and alpha between 0 and 1, "
                f"not {self.rank} and {self.alpha}"
            )

    def __call__(self, graph: Graph, inputs: Mapping[str, Array]) -> Graph:
        entries = layer_inputs(graph, self.layers, "svd_quant")
        entries = [entry for entry in entries if has_room(entry, self.rank)]
        ranges = channel_ranges(graph, inputs, {entry.tensor: entry.axis for entry in entries})
        edit = GraphEdit(graph)
        for tensor in dict.fromkeys(entry.tensor for entry in entries):
            readers = [entry for entry in entries if entry.tensor == tensor]
            weights = np.max([slot_range(edit, entry.slot, entry.channels) for entry in readers], axis=0)
            scales = smoothing(ranges[tensor].magnitude, weights, self.alpha)
            insert_smoothing(edit, readers, scales)
            for entry in readers:
                self._branch(edit, entry, scales)
        return edit.finish()

    def _branch(self, edit: GraphEdit, entry: LayerInput, scales: Array) -> None:
        up, down = truncated_svd(weight_rows(edit, entry), self.rank)
        positions = down.shape[1] // entry.channels
        unsmoothed = down / np.repeat(scales, positions)  # it reads x, the layer x / s
        add_branch(edit, entry, entry.tensor, up @ down, up, unsmoothed)
