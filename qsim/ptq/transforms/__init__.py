"""What happens to a network before it is rounded: the same float32 function in a form that loses less."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from numpy.typing import NDArray

from qsim.ptq.entries import make_entries
from qsim.ptq.transforms.cross_layer_equalization import CrossLayerEqualization
from qsim.ptq.transforms.lorc import LoRC
from qsim.ptq.transforms.online_hadamard import OnlineHadamard
from qsim.ptq.transforms.rearrangement import Rearrangement
from qsim.ptq.transforms.reparametrization import Reparametrization
from qsim.ptq.transforms.rotation import Rotation
from qsim.ptq.transforms.smooth_quant import SmoothQuant
from qsim.ptq.transforms.svd_quant import SVDQuant

if TYPE_CHECKING:
    from qsim.graph import Graph

__all__ = ["TRANSFORMS", "Transform", "apply_transforms", "make_transforms"]


class Transform(Protocol):
    """A network and its calibration inputs {input: [samples, ...]} in; one that computes the same in float32 out."""

    def __call__(self, graph: Graph, inputs: Mapping[str, NDArray[Any]]) -> Graph: ...


TRANSFORMS: Mapping[str, type[Any]] = {
    "cross_layer_equalization": CrossLayerEqualization,
    "smooth_quant": SmoothQuant,
    "rotation": Rotation,
    "online_hadamard": OnlineHadamard,
    "reparametrization": Reparametrization,
    "rearrangement": Rearrangement,
    "svd_quant": SVDQuant,
    "lorc": LoRC,
}


def make_transforms(entries: Sequence[Any]) -> tuple[Any, ...]:
    """Transforms from a config list: names, {name: {option: value}}, or transforms."""
    return make_entries(entries, TRANSFORMS, "ptq.before")


def apply_transforms(
    transforms: Sequence[Transform], graph: Graph, inputs: Mapping[str, NDArray[Any]]
) -> Graph:
    """The network after all `transforms`, in order."""
    for transform in transforms:
        graph = transform(graph, inputs)
    return graph
