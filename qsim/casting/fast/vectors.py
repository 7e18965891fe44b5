"""Sixteen elements at once, for loops over blocks: too short for LLVM to find worth vectorising by itself."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from qsim.casting.fast.bits import LAYOUT, intrinsic

LANES = 16


@intrinsic
def peak_of_16(typing: Any, x: Any, start: Any, side: Any) -> Any:
    """The largest finite magnitude among x[start : start + 16], 0 if none is finite.

    side: 1 counts values above zero only, -1 those below, 0 all.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        integer = LAYOUT[signature.args[0].dtype][0]
        codes = _load(context, builder, signature.args[0], args[0], args[1])
        none = ir.Constant(codes.type, [0] * LANES)
        above = builder.icmp_signed(">=", codes, none)
        nothing, zero = ir.Constant(ir.IntType(1), 0), ir.Constant(args[2].type, 0)
        counts_above = builder.icmp_signed(">=", args[2], zero)
        counts_below = builder.icmp_signed("<=", args[2], zero)
        of_above = builder.select(counts_above, above, ir.Constant(above.type, [nothing] * LANES))
        of_below = builder.select(
            counts_below, builder.not_(above), ir.Constant(above.type, [nothing] * LANES)
        )
        magnitudes = _finite_magnitudes(builder, codes, integer)
        counted = builder.select(builder.or_(of_above, of_below), magnitudes, none)
        name = f"llvm.vector.reduce.umax.v{LANES}i{integer.width}"
        declare: Any = cgutils.get_or_insert_function  # untyped in numba
        function = declare(builder.module, ir.FunctionType(integer, [counted.type]), name)
        return builder.bitcast(
            builder.call(function, [counted]), context.get_value_type(signature.return_type)
        )

    return x.dtype(x, types.intp, types.intp), generate


@intrinsic
def peaks_of_16_by_16(typing: Any, x: Any, start: Any, peaks: Any, index: Any) -> Any:
    """peaks[index + k] = peak_of_16(x, start + 16 * k, 0) for k in 0..15, in a third of the time.

    Sixteen vectors are folded into one: of two vectors, the maxima of neighbouring lanes are one vector again.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lanes = ir.VectorType(ir.IntType(32), LANES)
        even = ir.Constant(lanes, list(range(0, 2 * LANES, 2)))
        odd = ir.Constant(lanes, list(range(1, 2 * LANES, 2)))
        steps = [builder.add(args[1], ir.Constant(args[1].type, LANES * k)) for k in range(LANES)]
        integer = LAYOUT[signature.args[0].dtype][0]
        loads = [_load(context, builder, signature.args[0], args[0], step) for step in steps]
        parts = [_finite_magnitudes(builder, codes, integer) for codes in loads]
        while len(parts) > 1:
            pairs = zip(parts[::2], parts[1::2], strict=True)
            sides = [[builder.shuffle_vector(a, b, side) for side in (even, odd)] for a, b in pairs]
            parts = [builder.select(builder.icmp_unsigned(">", a, b), a, b) for a, b in sides]
        array = context.make_array(signature.args[2])(context, builder, args[2])
        target = builder.bitcast(builder.gep(array.data, [args[3]]), parts[0].type.as_pointer())
        builder.store(parts[0], target, align=signature.args[2].dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.none(x, types.intp, peaks, types.intp), generate


def _load(context: Any, builder: Any, array_type: Any, array_value: Any, start: Any) -> Any:
    """The bits of 16 elements."""
    array = context.make_array(array_type)(context, builder, array_value)
    vector = ir.VectorType(LAYOUT[array_type.dtype][0], LANES)
    source = builder.bitcast(builder.gep(array.data, [start]), vector.as_pointer())
    return builder.load(source, align=array_type.dtype.bitwidth // 8)


def _finite_magnitudes(builder: Any, codes: Any, integer: Any) -> Any:
    """The bits of the magnitudes, 0 for infinity and NaN. They order like the magnitudes themselves."""
    _, infinity, sign = next(layout for layout in LAYOUT.values() if layout[0] == integer)
    magnitudes = builder.and_(codes, ir.Constant(codes.type, [sign - 1] * LANES))
    is_finite = builder.icmp_unsigned("<", magnitudes, ir.Constant(codes.type, [infinity] * LANES))
    return builder.select(is_finite, magnitudes, ir.Constant(codes.type, [0] * LANES))


@intrinsic
def fill_16(typing: Any, x: Any, start: Any, value: Any) -> Any:
    """x[start : start + 16] = value."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, args[0])
        vector = ir.VectorType(args[2].type, LANES)
        target = builder.bitcast(builder.gep(array.data, [args[1]]), vector.as_pointer())
        nothing = ir.Constant(vector, ir.Undefined)
        first = builder.insert_element(nothing, args[2], ir.Constant(ir.IntType(32), 0))
        every = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        copies = builder.shuffle_vector(first, nothing, every)
        builder.store(copies, target, align=signature.args[0].dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.none(x, types.intp, x.dtype), generate
