"""The layers that multiply and accumulate, as cost models and searches see them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from qsim.graph.ir import Graph

LayerKind = Literal["conv", "depthwise", "transposed_conv", "linear", "matmul", "recurrent"]


@dataclass(frozen=True)
class Layer:
    """One multiply-accumulate layer of a graph, for one sample.

    `weights` is a parameter, or for an attention product (`kind` "matmul") the second activation. `input_shape`
    and `output_shape` leave the batch out. `output` is the tensor after the layer's fused chain: the bias Add and
    the activation function (Relu, Clip, HardSwish, ...) that nothing else reads, the nodes named in `chain`.
    `weight_axis` is the output-channel axis of `weights`, `reduction_axes` the axes summed over, as `weights` is
    stored; `reduction_length` is K, the products per output.
    """

    name: str
    kind: LayerKind
    input: str
    weights: str
    bias: str | None
    output: str
    macs: int
    node: str = ""
    weight_axis: int | None = None
    reduction_axes: tuple[int, ...] = ()
    reduction_length: int = 0
    input_shape: tuple[int, ...] = ()
    output_shape: tuple[int, ...] = ()
    weight_shape: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    kernel: tuple[int, ...] = ()
    groups: int = 1
    parameters: int = 0
    chain: tuple[str, ...] = ()


def find_layers(graph: Graph) -> tuple[Layer, ...]:
    """The multiply-accumulate layers of `graph`, in order of execution."""
    raise NotImplementedError


def summary_table(graph: Graph) -> str:
    """A plain table of the layers."""
    raise NotImplementedError
