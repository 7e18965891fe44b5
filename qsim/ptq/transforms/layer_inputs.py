"""What transforms ask of layers: which a name pattern means, where inputs meet weights, what inputs look like."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from qsim.emulator.execute import run_graph
from qsim.errors import UserError
from qsim.graph.layers import weight_source
from qsim.ptq.transforms.slots import Slot

if TYPE_CHECKING:
    from qsim.graph import Graph, Layer

Array = NDArray[Any]
BATCH = 25


@dataclass(frozen=True, eq=False)
class LayerInput:
    """A layer whose input channels meet one axis of its weight.

    tensor: what the layer reads, channels on `axis`. slot: the weight's axis. weight_axis: of the outputs, in the
    weight as the layer's node reads it.
    """

    layer: Layer
    tensor: str
    axis: int
    slot: Slot
    weight_axis: int
    channels: int


def layer_inputs(graph: Graph, patterns: Sequence[str], transform: str) -> list[LayerInput]:
    """The layers that `patterns` mean and that multiply an activation by a weight, in order of execution.

    Left out are attention products, recurrent and depthwise layers, and weights that the model itself quantizes.
    Raises UserError, naming `transform`, for a pattern that matches no layer.
    """
    for pattern in patterns:
        if not any(fnmatchcase(layer.name, pattern) for layer in graph.layers):
            names = ", ".join(layer.name for layer in graph.layers[:6])
            raise UserError(
                f"ptq.before {transform}: pattern '{pattern}' matches no layer; there are {names}, ..."
            )
    found = []
    for layer in graph.layers:
        if not layer.added and any(fnmatchcase(layer.name, pattern) for pattern in patterns):
            entry = _layer_input(graph, layer)
            found += [entry] if entry is not None else []
    return found


def _layer_input(graph: Graph, layer: Layer) -> LayerInput | None:
    node = next(node for node in graph.nodes if node.name == layer.node)
    operand = node.input(1)
    if layer.kind not in ("conv", "linear") or node.input(0) != layer.input or operand is None:
        return None
    source = weight_source(graph, operand)
    if source is None or not graph.tensors[source[0]].is_float or _is_quantized(graph, operand):
        return None
    rank = len(graph.sample_shapes[operand])
    match node.op:
        case "Conv":
            axes = (1, 0)
        case "Gemm" if not node.get("transA", 0):
            axes = (1, 0) if node.get("transB", 0) else (0, 1)
        case "MatMul" if rank == 2:
            axes = (0, 1)
        case _:
            return None
    shape = graph.sample_shapes[layer.input]
    axis = 1 if node.op == "Conv" else len(shape) - 1
    slot = Slot(node.name, 1, axes[0], reads=True, groups=layer.groups, is_weight=True)
    return LayerInput(layer, layer.input, axis, slot, axes[1], shape[axis])


def _is_quantized(graph: Graph, tensor: str) -> bool:
    """Whether a quantizer of the model stands between a weight and its parameter."""
    while tensor not in graph.parameters:
        node = graph.producers[tensor]
        if node.op != "Transpose":
            return True
        tensor = str(node.inputs[0])
    return False


@dataclass(frozen=True, eq=False)
class ChannelRange:
    """Extremes of every channel of a tensor over all calibration samples: [channels]."""

    minimum: Array
    maximum: Array

    @property
    def magnitude(self) -> Array:
        """The largest magnitude."""
        return np.maximum(np.abs(self.minimum), np.abs(self.maximum))


def channel_ranges(
    graph: Graph, inputs: Mapping[str, Array], places: Mapping[str, int]
) -> dict[str, ChannelRange]:
    """What the float32 network shows in the channels on axis `places[tensor]`, batches streaming through.

    Raises UserError where a tensor is not finite.
    """
    samples = len(next(iter(inputs.values())))
    first = graph.tensors[graph.inputs[0]].shape[0]
    step = first if isinstance(first, int) else BATCH
    found: dict[str, ChannelRange] = {}
    for start in range(0, samples, step):
        batch = {name: torch.from_numpy(array[start : start + step]) for name, array in inputs.items()}
        for name, value in run_graph(graph, batch, keep=_in_graph(graph, places)).items():
            if name in places:
                low, high = _extremes(name, value, places[name])
                seen = found.get(name, ChannelRange(low, high))
                found[name] = ChannelRange(np.minimum(seen.minimum, low), np.maximum(seen.maximum, high))
    return found


def _in_graph(graph: Graph, names: Collection[str]) -> set[str]:
    return {name for name in names if name not in graph.outputs}


def _extremes(name: str, value: torch.Tensor, axis: int) -> tuple[Array, Array]:
    rows = value.movedim(axis, 0).flatten(1).double()
    low, high = rows.amin(1).numpy(), rows.amax(1).numpy()
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise UserError(
            f"tensor '{name}' is not finite on the calibration data: "
            "check the model's input range (data.scale, data.mean, data.std)"
        )
    return low, high
