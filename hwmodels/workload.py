"""(layer, specs) pairs as columns: equal pairs are grouped once, everything after works on the different ones.

A network's menu makes 100,000 pairs of a few layer shapes and a few number systems: facts of these are computed once
and gathered by index.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np

from hwmodels.columns import Floats, Indices, group, intern, once
from hwmodels.datapath import Operand, Product, accumulator, guard_bits, operand
from qsim.errors import UserError
from qsim.graph import Layer
from qsim.spec import Spec


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


def scale_bits(spec: Spec | None, shape: Shape) -> float:
    """Bits of scales a weight; weights are a matrix [outputs, K], a scale a channel runs over rows, blocks along K."""
    if spec is None or spec.scale is None or not shape.weights:
        return 0.0
    matrix = (max(1, shape.weights // shape.reduction), shape.reduction)
    by_channel = spec.granularity is not None and spec.granularity.kind == "channel"
    return spec.scale_bits_per_element(matrix, 0 if by_channel else 1)


@dataclass(frozen=True)
class Pairs:
    """Different (layer shape, specs) combinations as columns [pairs].

    shapes, numbers, products: the different ones, into which the columns shape, w, a, out (specs of weights, inputs and
    outputs) and product are indices. weight_bits: stored bits of all weights and their scales.
    """

    shapes: tuple[Shape, ...]
    numbers: tuple[Number, ...]
    products: tuple[Product, ...]
    shape: Indices
    w: Indices
    a: Indices
    out: Indices
    product: Indices
    weight_bits: Floats

    def product_of(self, row: int) -> Product:
        """Operands and accumulator of one pair."""
        return self.products[self.product[row]]

    def out_of(self, row: int) -> Operand:
        """The output's operand of one pair."""
        return self.numbers[self.out[row]].operand

    def of_shape(self, name: str) -> Floats:
        """A number of the shape; exact to 2^53."""
        return np.array([getattr(shape, name) for shape in self.shapes], dtype=np.float64)[self.shape]

    @cached_property
    def outputs(self) -> Floats:
        return self.of_shape("outputs")

    @cached_property
    def reduction(self) -> Floats:
        return self.of_shape("reduction")

    @cached_property
    def macs(self) -> Floats:
        return self.of_shape("macs")

    @cached_property
    def inputs(self) -> Floats:
        return self.of_shape("inputs")

    @cached_property
    def results(self) -> Floats:
        return self.of_shape("results")

    @cached_property
    def w_storage(self) -> Floats:
        return self._storage_bits[self.w]

    @cached_property
    def a_storage(self) -> Floats:
        return self._storage_bits[self.a]

    @cached_property
    def out_storage(self) -> Floats:
        return self._storage_bits[self.out]

    @cached_property
    def _storage_bits(self) -> Floats:
        return np.array([number.storage_bits for number in self.numbers], dtype=np.float64)

    @cached_property
    def accumulator_bits(self) -> Floats:
        return np.array([product.acc.bits for product in self.products], dtype=np.float64)[self.product]

    @cached_property
    def block(self) -> Floats:
        """Values along the reduction that share one scale, 0 for none."""
        return np.array([product.block for product in self.products], dtype=np.float64)[self.product]


@dataclass(frozen=True)
class Workload:
    """Different pairs, and for each row of the request the index of its pair."""

    pairs: Pairs
    index: Indices


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
    shape_ids, shapes = intern(layers, shape_of)
    number_ids, numbers = intern([*weights, *inputs, *outputs, *accumulators], number_of)
    columns = (shape_ids, *number_ids.reshape(4, len(layers)))
    first, index = group(*columns)
    shape, w, a, out, acc = (column[first] for column in columns)

    def product_of(row: int) -> Product:
        left, right, register = (numbers[column[row]] for column in (w, a, acc))
        reduction = shapes[shape[row]].reduction
        return Product(
            *(left.operand, right.operand),
            accumulator(register.spec, left.operand, right.operand, reduction),
        )

    guards = np.array([guard_bits(x.reduction) for x in shapes], dtype=np.int64)[shape]
    rows, place = group(w, a, acc, guards)
    product, products = intern(rows.tolist(), product_of)
    weight_bits = once(lambda row: (stored_bits(shapes[shape[row]], numbers[w[row]]),), shape, w)
    pairs = Pairs(shapes, numbers, products, shape, w, a, out, product[place], weight_bits[0])
    return Workload(pairs, index)


def stored_bits(shape: Shape, number: Number) -> float:
    """Bits of all weights of a layer and their scales."""
    return shape.weights * (number.storage_bits + scale_bits(number.spec, shape))
