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
class Number:
    """One spec as costs see it: its operand and the bits of one stored value; None is float32."""

    spec: Spec | None
    operand: Operand
    storage_bits: int


def number_of(spec: Spec | None) -> Number:
    """Facts of a spec, computed once however many layers take it."""
    return Number(spec, operand(spec), 32 if spec is None else spec.bits)


@dataclass(frozen=True, slots=True)
class Pair:
    """One different (layer shape, specs) combination.

    w, a, out: operands of weights, inputs and outputs; w_storage, a_storage, out_storage: bits of one stored value.
    weight_bits: stored bits of all weights and their scales. block: values along the reduction that share one scale,
    0 for none.
    """

    shape: Shape
    w: Operand
    a: Operand
    out: Operand
    acc: Accumulator
    w_storage: int
    a_storage: int
    out_storage: int
    weight_bits: float
    block: int


def scale_bits(spec: Spec | None, shape: Shape) -> float:
    """Bits of scales a weight; weights are a matrix [outputs, K], a scale a channel runs over rows, blocks along K."""
    if spec is None or spec.scale is None or not shape.weights:
        return 0.0
    matrix = (max(1, shape.weights // shape.reduction), shape.reduction)
    by_channel = spec.granularity is not None and spec.granularity.kind == "channel"
    return spec.scale_bits_per_element(matrix, 0 if by_channel else 1)


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
    number_ids, numbers = zip(
        *(_intern(column, number_of) for column in (weights, inputs, outputs, accumulators))
    )
    key = shape_ids
    for ids, numbers_of in zip(number_ids, numbers):
        key = key * (len(numbers_of) + 1) + ids
    _, first, index = np.unique(key, return_index=True, return_inverse=True)
    make = _pair_maker()
    pairs = tuple(
        make(shapes[shape_ids[row]], *(numbers_of[ids[row]] for numbers_of, ids in zip(numbers, number_ids)))
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


def _pair_maker() -> Callable[[Shape, Number, Number, Number, Number], Pair]:
    """A function that makes pairs and remembers what depends on a part of their facts only."""
    weight_bits: dict[tuple[int, int], float] = {}
    registers: dict[tuple[int, int, int, int], Accumulator] = {}

    def make(shape: Shape, w: Number, a: Number, out: Number, acc: Number) -> Pair:
        stored = weight_bits.get((id(shape), id(w)))
        if stored is None:
            stored = shape.weights * (w.storage_bits + scale_bits(w.spec, shape))
            weight_bits[id(shape), id(w)] = stored
        key = (shape.reduction, id(w), id(a), id(acc))
        register = registers.get(key)
        if register is None:
            register = registers[key] = accumulator(acc.spec, w.operand, a.operand, shape.reduction)
        blocks = [x for x in (w.operand.block, a.operand.block) if x]
        return Pair(
            *(shape, w.operand, a.operand, out.operand, register),
            *(w.storage_bits, a.storage_bits, out.storage_bits),
            *(stored, min(blocks, default=0)),
        )

    return make
