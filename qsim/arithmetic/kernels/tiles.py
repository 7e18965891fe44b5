"""Matrix products a register tile at a time, with any rounding between the additions.

One tile is ROWS x (VECTORS * lanes) accumulators, held in vector registers while the reduction index runs; for every
index a row of b is loaded, a's values are broadcast, and `step` turns (accumulator, a, b) into the next accumulator.
The loop is emitted as LLVM vector code, because numba cannot keep an array in registers; what a step does is decided by
the type of `mode`, at compile time. Additions run in index order for every output.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.extending import intrinsic

from qsim.arithmetic.kernels.compile import kernel

HAS_AVX512 = bool(binding.get_host_cpu_features().get("avx512f"))
HAS_HALF = bool(binding.get_host_cpu_features().get("f16c"))
_VECTOR_BYTES = 64 if HAS_AVX512 else 32
# Rows and vectors of a tile by bytes of an element: with the operands they fill the 32 (16) vector registers.
_TILES = {2: (4, 2), 4: (4, 4), 8: (4, 4)} if HAS_AVX512 else {2: (4, 2), 4: (4, 2), 8: (4, 2)}

_CACHE_BYTES = 1 << 18  # of the second-level cache, for one operand

_I32, _I64 = ir.IntType(32), ir.IntType(64)
_ELEMENTS = {types.float32: ir.FloatType(), types.float64: ir.DoubleType(), types.int16: ir.IntType(16)}


class Exact(NamedTuple):
    """acc + a b: where every sum is a float of the carrier."""

    unused: Any = np.float32(0)


class Saturating(NamedTuple):
    """int16 carrier: acc + a b, clipped to int16."""

    unused: Any = np.int16(0)


class Clipped(NamedTuple):
    """acc + a b, exact in the carrier, clipped to low..high."""

    low: Any
    high: Any


class Floored(NamedTuple):
    """acc + floor(a b + offset), exact in the carrier, clipped to low..high."""

    offset: Any
    low: Any
    high: Any


class Split(NamedTuple):
    """acc + a b rounded to nearest even at fewer digits by Veltkamp's splitting, factor 2^(digits dropped) + 1.

    Only for formats whose subnormal numbers and overflow cannot come up.
    """

    factor: Any


class Half(NamedTuple):
    """acc + a b rounded to IEEE float16 by the processor's conversion, subnormals and overflow to infinity included."""

    unused: Any = np.float32(0)


class Grid(NamedTuple):
    """acc + a b rounded to nearest even onto a minifloat: adding 1.5 2^(digits dropped) times the power of two at or
    below a value makes the adder round there (Dekker 1971). Only where overflow cannot come up.
    """

    smallest_normal: Any
    magic: Any  # 1.5 * 2^(digits the carrier has more)


class SaturatingGrid(NamedTuple):
    """Grid, clipped to +-largest."""

    smallest_normal: Any
    magic: Any
    largest: Any


class OverflowingGrid(NamedTuple):
    """Grid, beyond +-largest to infinity."""

    smallest_normal: Any
    magic: Any
    largest: Any
    cap: Any  # larger magnitudes are cut to it before they are rounded


class _Builder:
    """LLVM vector operations on one carrier."""

    def __init__(self, builder: Any, vector: Any, mode: list[Any]) -> None:
        self.ir, self.vector = builder, vector
        self.mode = [self.splat(value) for value in mode]

    def splat(self, value: Any) -> Any:
        single = self.ir.insert_element(ir.Constant(self.vector, ir.Undefined), value, ir.Constant(_I32, 0))
        mask = ir.Constant(ir.VectorType(_I32, self.vector.count), [0] * self.vector.count)
        return self.ir.shuffle_vector(single, ir.Constant(self.vector, ir.Undefined), mask)

    def call(self, name: str, *arguments: Any) -> Any:
        bits = {"float": "f32", "double": "f64", "i16": "i16"}[str(self.vector.element)]
        full = f"llvm.{name}.v{self.vector.count}{bits}"
        function = self.ir.module.globals.get(full)
        if function is None:
            kind = ir.FunctionType(self.vector, [self.vector] * len(arguments))
            function = ir.Function(self.ir.module, kind, full)
        return self.ir.call(function, arguments)

    def fma(self, accumulator: Any, a: Any, b: Any) -> Any:
        return self.call("fma", a, b, accumulator)

    def larger(self, a: Any, b: Any) -> Any:
        return self.ir.select(self.ir.fcmp_ordered(">", a, b), a, b)

    def smaller(self, a: Any, b: Any) -> Any:
        return self.ir.select(self.ir.fcmp_ordered("<", a, b), a, b)

    def masked(self, value: Any, mask32: int, mask64: int) -> Any:
        """`value` with only the bits of a mask, as an integer vector."""
        is_single = str(self.vector.element) == "float"
        integers = ir.VectorType(_I32 if is_single else _I64, self.vector.count)
        mask = ir.Constant(integers, [mask32 if is_single else mask64] * self.vector.count)
        return self.ir.and_(self.ir.bitcast(value, integers), mask)


Step = Callable[[_Builder, Any, Any, Any], Any]


def _exact(emit: _Builder, accumulator: Any, a: Any, b: Any) -> Any:
    return emit.fma(accumulator, a, b)


def _saturating(emit: _Builder, accumulator: Any, a: Any, b: Any) -> Any:
    return emit.call("sadd.sat", accumulator, emit.ir.mul(a, b))


def _clipped(emit: _Builder, accumulator: Any, a: Any, b: Any) -> Any:
    low, high = emit.mode
    return emit.larger(emit.smaller(emit.fma(accumulator, a, b), high), low)


def _floored(emit: _Builder, accumulator: Any, a: Any, b: Any) -> Any:
    offset, low, high = emit.mode
    total = emit.ir.fadd(accumulator, emit.call("floor", emit.fma(offset, a, b)))
    return emit.larger(emit.smaller(total, high), low)


def _split(emit: _Builder, accumulator: Any, a: Any, b: Any) -> Any:
    total = emit.fma(accumulator, a, b)
    scaled = emit.ir.fmul(total, emit.mode[0])
    return emit.ir.fsub(scaled, emit.ir.fsub(scaled, total))


def _half(emit: _Builder, accumulator: Any, a: Any, b: Any) -> Any:
    narrow = emit.ir.fptrunc(emit.fma(accumulator, a, b), ir.VectorType(ir.HalfType(), emit.vector.count))
    return emit.ir.fpext(narrow, emit.vector)


def _round_on_grid(emit: _Builder, total: Any, smallest_normal: Any, magic: Any) -> Any:
    power = emit.ir.bitcast(emit.masked(total, 0x7F800000, 0x7FF << 52), emit.vector)
    shift = emit.ir.fmul(emit.larger(power, smallest_normal), magic)
    rounded = emit.ir.fsub(emit.ir.fadd(total, shift), shift)
    sign = emit.masked(total, 0x80000000, 1 << 63)  # what rounds to zero keeps its sign
    return emit.ir.bitcast(emit.ir.or_(emit.ir.bitcast(rounded, sign.type), sign), emit.vector)


def _grid(emit: _Builder, accumulator: Any, a: Any, b: Any) -> Any:
    return _round_on_grid(emit, emit.fma(accumulator, a, b), *emit.mode)


def _saturating_grid(emit: _Builder, accumulator: Any, a: Any, b: Any) -> Any:
    *grid, largest = emit.mode
    total = emit.smaller(emit.fma(accumulator, a, b), largest)
    return _round_on_grid(emit, emit.larger(total, emit.ir.fneg(largest)), *grid)


def _overflowing_grid(emit: _Builder, accumulator: Any, a: Any, b: Any) -> Any:
    *grid, largest, cap = emit.mode
    total = emit.larger(emit.smaller(emit.fma(accumulator, a, b), cap), emit.ir.fneg(cap))
    rounded = _round_on_grid(emit, total, *grid)
    infinity = ir.Constant(emit.vector, [float("inf")] * emit.vector.count)
    rounded = emit.ir.select(emit.ir.fcmp_ordered(">", rounded, largest), infinity, rounded)
    is_below = emit.ir.fcmp_ordered("<", rounded, emit.ir.fneg(largest))
    return emit.ir.select(is_below, emit.ir.fneg(infinity), rounded)


_STEPS: dict[type, Step] = {
    Exact: _exact,
    Saturating: _saturating,
    Clipped: _clipped,
    Floored: _floored,
    Split: _split,
    Half: _half,
    Grid: _grid,
    SaturatingGrid: _saturating_grid,
    OverflowingGrid: _overflowing_grid,
}


def tile_shape(dtype: Any) -> tuple[int, int]:
    """Rows and columns of one tile of this carrier."""
    rows, vectors = _TILES[np.dtype(dtype).itemsize]
    return rows, vectors * _VECTOR_BYTES // np.dtype(dtype).itemsize


def _tile_code(typing: Any, a: Any, b: Any, c: Any, mode: Any) -> Any:
    """c [ROWS * columns] += a [K, ROWS] times b [K, columns], flat C arrays, the sums formed by the step of `mode`."""
    element = _ELEMENTS[c.dtype]
    step = _STEPS[mode.instance_class]
    rows, columns = tile_shape(str(c.dtype))

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lanes = _VECTOR_BYTES // np.dtype(str(c.dtype)).itemsize
        vector = ir.VectorType(element, lanes)
        views = [
            context.make_array(kind)(context, builder, value) for kind, value in zip((a, b, c), args[:3])
        ]
        a_data, b_data, c_data = (view.data for view in views)
        length = builder.sdiv(views[0].nitems, ir.Constant(_I64, rows))
        emit = _Builder(builder, vector, [builder.extract_value(args[3], i) for i in range(len(mode))])

        def place(data: Any, index: Any, offset: int) -> Any:
            position = builder.add(index, ir.Constant(_I64, offset))
            return builder.bitcast(builder.gep(data, [position]), vector.as_pointer())

        zero = ir.Constant(_I64, 0)
        starts = [
            builder.load(place(c_data, zero, lanes * i), align=1) for i in range(rows * columns // lanes)
        ]
        before = builder.block
        head, body, after = (builder.append_basic_block(name) for name in ("tile", "tile.step", "tile.end"))
        builder.branch(head)
        builder.position_at_end(head)
        k = builder.phi(_I64)
        k.add_incoming(zero, before)
        accumulators = [builder.phi(vector) for _ in starts]
        for accumulator, start in zip(accumulators, starts, strict=True):
            accumulator.add_incoming(start, before)
        builder.cbranch(builder.icmp_signed("<", k, length), body, after)

        builder.position_at_end(body)
        b_row, a_row = builder.mul(k, ir.Constant(_I64, columns)), builder.mul(k, ir.Constant(_I64, rows))
        b_values = [
            builder.load(place(b_data, b_row, offset), align=1) for offset in range(0, columns, lanes)
        ]
        results = []
        for row in range(rows):
            scalar = builder.load(builder.gep(a_data, [builder.add(a_row, ir.Constant(_I64, row))]))
            a_value = emit.splat(scalar)
            results += [
                step(emit, accumulators[row * len(b_values) + i], a_value, b_value)
                for i, b_value in enumerate(b_values)
            ]
        k.add_incoming(builder.add(k, ir.Constant(_I64, 1)), body)
        for accumulator, result in zip(accumulators, results, strict=True):
            accumulator.add_incoming(result, body)
        builder.branch(head)

        builder.position_at_end(after)
        for i, accumulator in enumerate(accumulators):
            builder.store(accumulator, place(c_data, zero, lanes * i), align=1)
        return context.get_dummy_value()

    return types.void(a, b, c, mode), generate


_tile: Any = intrinsic(_tile_code)


@kernel
def rows_at_a_time(a: Any) -> int:
    """Panels of a that stay in the second-level cache while the panels of b pass by."""
    return max(1, _CACHE_BYTES // (a.shape[1] * a.itemsize))


@kernel
def multiply(a: Any, b: Any, out: Any, first: int, last: int, mode: Any) -> None:
    """out[i, j] += a[i] b[j] for the panels j = first..last-1.

    a is [panels, K * rows], b is [panels, K * columns], out [a panels, b panels, rows * columns]; all of one carrier.
    """
    step = rows_at_a_time(a)
    for start in range(0, len(a), step):
        for j in range(first, last):
            for i in range(start, min(start + step, len(a))):
                _tile(a[i], b[j], out[i, j], mode)


@kernel
def multiply_blocks(
    a: Any, b: Any, out: Any, first: int, last: int, a_block: int, b_block: int, mode: Any
) -> None:
    """As `multiply` in float32, but a block of products is first summed exactly, then added to out.

    a_block, b_block: elements of a panel of a and of b that hold one block of the reduction.
    """
    partial = np.zeros_like(out[0, 0])
    step = rows_at_a_time(a)
    for start in range(0, len(a), step):
        for j in range(first, last):
            for i in range(start, min(start + step, len(a))):
                total = out[i, j]
                for block in range((a.shape[1] + a_block - 1) // a_block):
                    partial[:] = 0
                    a_part = a[i, block * a_block : (block + 1) * a_block]
                    _tile(a_part, b[j, block * b_block : (block + 1) * b_block], partial, mode)
                    for n in range(len(total)):
                        total[n] += partial[n]


@kernel
def multiply_wide_blocks(
    a: Any, b: Any, out: Any, first: int, last: int, a_block: int, b_block: int, mode: Any
) -> None:
    """As `multiply_blocks` in float64, which holds out plus a block exactly: then rounds that to float32."""
    step = rows_at_a_time(a)
    for start in range(0, len(a), step):
        for j in range(first, last):
            for i in range(start, min(start + step, len(a))):
                total = out[i, j]
                for block in range((a.shape[1] + a_block - 1) // a_block):
                    a_part = a[i, block * a_block : (block + 1) * a_block]
                    _tile(a_part, b[j, block * b_block : (block + 1) * b_block], total, mode)
                    for n in range(len(total)):
                        total[n] = np.float32(total[n])


@kernel
def pack(x: Any, panel: Any, width: int, scale: Any) -> None:
    """x [rows, K] times `scale` as panels [rows / width, K * width]: for every k, `width` rows side by side."""
    for row in range(x.shape[0]):
        group = row // width
        lane = row - group * width
        for k in range(x.shape[1]):
            panel[group, k * width + lane] = x[row, k] * scale


@kernel
def pack_transposed(x: Any, panel: Any, width: int, scale: Any) -> None:
    """As `pack` of x transposed, x being [K, rows] in C order."""
    for group in range(len(panel)):
        start = group * width
        columns = x[:, start : start + width]
        for k in range(x.shape[0]):
            row = panel[group, k * width : (k + 1) * width]
            for lane in range(columns.shape[1]):
                row[lane] = columns[k, lane] * scale


@kernel
def convolve(
    weights: Any, x: Any, taps: Any, pixels: Any, image: int, out: Any, first: int, last: int, mode: Any
) -> None:
    """out[i, j] += weights[i] times the pixels of panel j, for the panels first..last-1 of output pixels.

    x: padded images end to end, `image` elements each; taps [K]: where a pixel's k-th input lies relative to its first;
    pixels [outputs of one image]: where that first one lies. Output pixels of all images are numbered on; what lies
    beyond the last is computed from the first and left unused.
    """
    columns = out.shape[2] // (weights.shape[1] // len(taps))
    panel = np.empty(len(taps) * columns, x.dtype)
    starts = np.empty(columns, np.int64)
    count = len(x) // image * len(pixels)
    for j in range(first, last):
        for lane in range(columns):
            place = j * columns + lane
            place = place if place < count else 0
            starts[lane] = place // len(pixels) * image + pixels[place % len(pixels)]
        for k in range(len(taps)):
            row = panel[k * columns : (k + 1) * columns]
            for lane in range(columns):
                row[lane] = x[starts[lane] + taps[k]]
        for i in range(len(weights)):
            _tile(weights[i], panel, out[i, j], mode)
