"""Rotations of the residual stream, folded into weights: outliers are spread over all channels, at no cost.

Ashkboos et al., "QuaRot: Outlier-Free 4-Bit Inference in Rotated LLMs", NeurIPS 2024, section 4 stage 1 (randomized
Hadamard); Liu et al., "SpinQuant: LLM Quantization with Learned Rotations", 2024 (R1, here random, not learned). The
gains of normalisations are folded into the layers behind them, so that a rotation commutes with RMSNorm; then every
weight that writes the stream becomes W Q and every one that reads it Q' W. A LayerNorm takes the mean as well: there
Q is one that keeps the vector of ones. An embedding tied to the output layer is untied by the folded gain.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from qsim.errors import UserError
from qsim.graph.edit import GraphEdit
from qsim.ptq.transforms.channel_space import ChannelSpace, channel_spaces
from qsim.ptq.transforms.norm_gains import fold_norm_gains
from qsim.ptq.transforms.orthogonal import keeping_ones, random_orthogonal, randomized_hadamard
from qsim.ptq.transforms.slots import rotate_slot

if TYPE_CHECKING:
    from qsim.graph import Graph

Array = NDArray[Any]


@dataclass(frozen=True)
class Rotation:
    """kind: "hadamard" (random signs; blocks of the largest power of two that divides the channels) or "orthogonal".

    seed: of signs or matrix. Channels between two layers with a nonlinear function between them cannot be rotated
    offline and stay: see `OnlineHadamard`.
    """

    kind: Literal["hadamard", "orthogonal"] = "hadamard"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in ("hadamard", "orthogonal"):
            raise UserError(f"ptq.before rotation: kind is '{self.kind}', it can be hadamard or orthogonal")

    def __call__(self, graph: Graph, inputs: Mapping[str, Array]) -> Graph:
        folded = fold_norm_gains(graph)
        edit = GraphEdit(folded)
        rng = np.random.default_rng(self.seed)
        spaces = [space for space in channel_spaces(folded, "rotate") if space.readers and space.channels > 1]
        for space in spaces:
            rotation = self._matrix(space, rng)
            for slot in space.slots:
                rotate_slot(edit, slot, rotation)
        return edit.finish() if spaces else graph

    def _matrix(self, space: ChannelSpace, rng: np.random.Generator) -> Array:
        if space.keeps_ones:
            return keeping_ones(space.channels, rng)
        if self.kind == "orthogonal":
            return random_orthogonal(space.channels, rng)
        return randomized_hadamard(space.channels, None, rng)
