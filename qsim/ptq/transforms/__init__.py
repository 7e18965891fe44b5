"""What happens to a network before it is rounded: the same float32 function in a form that loses less."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from numpy.typing import NDArray

from qsim.ptq.entries import make_entries

if TYPE_CHECKING:
    from qsim.graph import Graph

__all__ = ["TRANSFORMS", "Transform", "apply_transforms", "make_transforms"]


class Transform(Protocol):
    """A network and its calibration inputs {input: [samples, ...]} in; one that computes the same in float32 out."""

    def __call__(self, graph: Graph, inputs: Mapping[str, NDArray[Any]]) -> Graph: ...


TRANSFORMS: Mapping[str, type[Any]] = {}


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
