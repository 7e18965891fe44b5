"""(layer, specs) pairs as arrays: equal pairs are grouped once, everything after works on the different ones.

A network's menu repeats a few layer shapes and a few number systems in 100,000 pairs; grouping is by object identity
first (a spec's own hash walks its whole tree) and by value second.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from hwmodels.datapath import Accumulator, Operand, accumulator, operand
from qsim.errors import UserError
from qsim.graph import Layer
from qsim.spec import Spec

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
T = TypeVar("T")


@dataclass(frozen=True)
class Shape:
    """One layer as a batch of matrix products, for one sample.

    outputs: columns of the weight matrix (output channels). reduction: K, products an output. vectors: output
    positions. channels_in, height_in, width_in: the input map; kernel: height and width, 1 x 1 for matrix products.
    """

    kind: str
    outputs: int
    reduction: int
    vectors: int
    groups: int
    macs: int
    weights: int
    inputs: int
    results: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    channels_in: int
    width_in: int
    height_in: int


def shape_of(layer: Layer) -> Shape:
    """Facts of a layer that costs depend on. Raises UserError for a layer without products."""
    if layer.macs <= 0 or layer.reduction_length <= 0:
        raise UserError(f"layer {layer.name}: it has no multiply-accumulates to price")
    is_parameter = layer.parameters > 0
    spatial = layer.kind in ("conv", "depthwise", "transposed_conv")
    outputs = _outputs(layer)
    vectors = max(1, round(layer.macs / (outputs * layer.reduction_length)))
    channels, height, width = 1, 1, 1
    if spatial and layer.input_shape:
        channels = layer.input_shape[0]
        width = layer.input_shape[-1] if len(layer.input_shape) > 1 else 1
        height = prod(layer.input_shape[1:-1])
    weight_count = prod(layer.weight_shape) if layer.weight_shape else outputs * layer.reduction_length
    kernel = tuple(layer.kernel) if spatial else ()
    stride = tuple(layer.stride) if spatial else ()
    return Shape(
        kind=layer.kind,
        outputs=outputs,
        reduction=layer.reduction_length,
        vectors=vectors,
        groups=max(layer.groups, 1),
        macs=layer.macs,
        weights=weight_count if is_parameter else 0,
        inputs=prod(layer.input_shape) if layer.input_shape else vectors * layer.reduction_length,
        results=prod(layer.output_shape) if layer.output_shape else vectors * outputs,
        kernel=(prod(kernel[:-1]), kernel[-1]) if kernel else (1, 1),
        stride=(prod(stride[:-1]), stride[-1]) if stride else (1, 1),
        channels_in=channels,
        width_in=width,
        height_in=height,
    )


def _outputs(layer: Layer) -> int:
    if layer.kind in ("conv", "depthwise", "transposed_conv") and layer.output_shape:
        return layer.output_shape[0]
    if layer.kind == "recurrent" and layer.weight_shape:
        return max(1, prod(layer.weight_shape) // layer.reduction_length)
    if layer.output_shape:
        return layer.output_shape[-1]
    return max(1, prod(layer.weight_shape) // layer.reduction_length) if layer.weight_shape else 1


@dataclass(frozen=True)
class Pair:
    """One different (layer shape, specs) combination."""

    shape: Shape
    weights: Spec | None
    inputs: Spec | None
    outputs: Spec | None
    w: Operand
    a: Operand
    out: Operand
    acc: Accumulator

    @property
    def block(self) -> int:
        """Values along the reduction that share one scale, 0 for none."""
        blocks = [x.block for x in (self.w, self.a) if x.block]
        return min(blocks) if blocks else 0

    @property
    def weight_bits(self) -> float:
        """Stored bits of weights and their scales."""
        return self.shape.weights * (self.w_storage + self._scale_bits())

    @property
    def w_storage(self) -> int:
        return 32 if self.weights is None else self.weights.bits

    @property
    def a_storage(self) -> int:
        return 32 if self.inputs is None else self.inputs.bits

    @property
    def out_storage(self) -> int:
        return 32 if self.outputs is None else self.outputs.bits

    def _scale_bits(self) -> float:
        """Per weight; a weight is a matrix [outputs, K], a scale a channel runs over rows, blocks along K."""
        if self.weights is None or self.weights.scale is None or not self.shape.weights:
            return 0.0
        matrix = (max(1, self.shape.weights // self.shape.reduction), self.shape.reduction)
        by_channel = self.weights.granularity is not None and self.weights.granularity.kind == "channel"
        return self.weights.scale_bits_per_element(matrix, 0 if by_channel else 1)


@dataclass(frozen=True)
class Workload:
    """Different pairs, and for each row of the request the index of its pair."""

    pairs: tuple[Pair, ...]
    index: Indices

    def column(self, value: Callable[[Pair], float]) -> Floats:
        """[number of different pairs] of a fact."""
        return np.array([value(pair) for pair in self.pairs], dtype=np.float64)


def make_workload(
    layers: Sequence[Layer],
    weights: Sequence[Spec | None],
    inputs: Sequence[Spec | None],
    outputs: Sequence[Spec | None],
    accumulators: Sequence[Spec | None],
) -> Workload:
    """Group equal (layer, specs) rows. Raises UserError if the sequences differ in length."""
    lengths = {len(layers), len(weights), len(inputs), len(outputs), len(accumulators)}
    if len(lengths) > 1:
        raise UserError(
            f"layer_costs needs sequences of one length, got {len(layers)} layers, {len(weights)} weights, "
            f"{len(inputs)} inputs, {len(outputs)} outputs, {len(accumulators)} accumulators"
        )
    shape_ids, shapes = _intern(layers, shape_of)
    spec_ids, specs = zip(
        *(_intern(column, lambda spec: spec) for column in (weights, inputs, outputs, accumulators))
    )
    sizes = [len(specs_of) + 1 for specs_of in specs]
    key = shape_ids
    for ids, size in zip(spec_ids, sizes):
        key = key * size + ids
    _, first, index = np.unique(key, return_index=True, return_inverse=True)
    pairs = tuple(
        _pair(shapes[shape_ids[row]], *(specs_of[ids[row]] for specs_of, ids in zip(specs, spec_ids)))
        for row in first
    )
    return Workload(pairs, index.reshape(-1))


def _intern(items: Sequence[Any], convert: Callable[[Any], T]) -> tuple[Indices, list[T]]:
    """Indices into the list of different converted values."""
    by_identity: dict[int, int] = {}
    by_value: dict[Hashable, int] = {}
    values: list[T] = []
    ids = np.empty(len(items), dtype=np.int64)
    for row, item in enumerate(items):
        number = by_identity.get(id(item))
        if number is None:
            value = convert(item)
            number = by_value.setdefault(value, len(values))
            if number == len(values):
                values.append(value)
            by_identity[id(item)] = number
        ids[row] = number
    return ids, values


def _pair(shape: Shape, w: Spec | None, a: Spec | None, out: Spec | None, acc: Spec | None) -> Pair:
    left, right = operand(w), operand(a)
    return Pair(shape, w, a, out, left, right, operand(out), accumulator(acc, left, right, shape.reduction))
