"""Low-rank compensation: the quantization error of a weight, approximated by a low-rank branch beside the layer.

Yao, Wu, Li, Youn, He, "ZeroQuant-V2: Exploring Post-training Quantization in LLMs from Comprehensive Study to Low Rank
Compensation", 2023, section 5: E = W - Q(W) is replaced by its `rank` largest singular directions U V. The layer keeps
W - U V, so that the function does not change; it lies nearer the grid than W, and its own rounding leaves about the
rest of E. With iterations > 1 error and branch are found in turn (LoftQ, Li et al., ICLR 2024, algorithm 1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from qsim.casting import quantize
from qsim.errors import UserError
from qsim.graph.edit import GraphEdit
from qsim.parse import parse
from qsim.ptq.transforms.layer_inputs import LayerInput, layer_inputs
from qsim.ptq.transforms.low_rank import add_branch, has_room, truncated_svd, weight_rows
from qsim.views import matrix_axis, to_matrix

if TYPE_CHECKING:
    from qsim.graph import Graph
    from qsim.spec import Spec

Array = NDArray[Any]


@dataclass(frozen=True)
class LoRC:
    """spec: the format that the weights will have. rank: of the branch. layers: patterns of layer names; those too
    small for a branch of this rank, and grouped ones, stay as they are.
    """

    spec: str = "int4@channel:float32"
    rank: int = 8
    iterations: int = 1
    layers: tuple[str, ...] = ("*",)

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))
        object.__setattr__(self, "spec", str(parse(self.spec)))
        if self.rank < 1 or self.iterations < 1:
            raise UserError(
                f"ptq.before lorc: rank and iterations must be at least 1, not {self.rank} and {self.iterations}"
            )

    def __call__(self, graph: Graph, inputs: Mapping[str, Array]) -> Graph:
        edit = GraphEdit(graph)
        for entry in layer_inputs(graph, self.layers, "lorc"):
            if has_room(entry, self.rank):
                up, down = self._branch(edit, entry)
                add_branch(edit, entry, entry.tensor, up @ down, up, down)
        return edit.finish()

    def _branch(self, edit: GraphEdit, entry: LayerInput) -> tuple[Array, Array]:
        weight = weight_rows(edit, entry)
        spec, shape = parse(self.spec), (len(weight), entry.channels, *entry.layer.kernel)
        branch = np.zeros_like(weight)
        for _ in range(self.iterations):
            error = weight - _rounded(weight - branch, spec, shape)
            up, down = truncated_svd(error, self.rank)
            branch = up @ down
        return up, down


def _rounded(rows: Array, spec: Spec, shape: tuple[int, ...]) -> Array:
    """Rows [outputs, channels * positions] in their format, whose blocks run with the channels last (qsim.views)."""
    matrix = np.ascontiguousarray(to_matrix(rows.reshape(shape), 0), np.float32)
    cast = quantize(matrix, spec, axis=matrix_axis(spec)).astype(np.float64)
    if len(shape) > 2:
        cast = np.moveaxis(cast.reshape(shape[0], *shape[2:], shape[1]), -1, 1)
    return cast.reshape(rows.shape)
