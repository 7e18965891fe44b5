"""Sixteen elements at once, for loops over blocks: too short for LLVM to find worth vectorising by itself."""

from __future__ import annotations

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils

from qsim.casting.fast.bits import LAYOUT, intrinsic

LANES = 16


@intrinsic
def peak_of_16(typing: Any, x: Any, start: Any) -> Any:
    """The largest finite magnitude among x[start : start + 16], 0 if none is finite."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        integer = LAYOUT[signature.args[0].dtype][0]
        magnitudes = _finite_magnitudes(context, builder, signature.args[0], args[0], args[1])
        name = f"llvm.vector.reduce.umax.v{LANES}i{integer.width}"
        declare: Any = cgutils.get_or_insert_function  # untyped in numba
        function = declare(builder.module, ir.FunctionType(integer, [magnitudes.type]), name)
        peak = builder.call(function, [magnitudes])
        return builder.bitcast(peak, context.get_value_type(signature.return_type))

    return x.dtype(x, types.intp), generate


@intrinsic
def peaks_of_16_by_16(typing: Any, x: Any, start: Any, peaks: Any, index: Any) -> Any:
    """peaks[index + k] = peak_of_16(x, start + 16 * k) for k in 0..15, in a third of the time.

    Sixteen vectors are folded into one: of two vectors, the maxima of neighbouring lanes are one vector again.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lanes = ir.VectorType(ir.IntType(32), LANES)
        even = ir.Constant(lanes, list(range(0, 2 * LANES, 2)))
        odd = ir.Constant(lanes, list(range(1, 2 * LANES, 2)))
        steps = [builder.add(args[1], ir.Constant(args[1].type, LANES * k)) for k in range(LANES)]
        parts = [_finite_magnitudes(context, builder, signature.args[0], args[0], step) for step in steps]
        while len(parts) > 1:
            pairs = zip(parts[::2], parts[1::2], strict=True)
            sides = [[builder.shuffle_vector(a, b, side) for side in (even, odd)] for a, b in pairs]
            parts = [builder.select(builder.icmp_unsigned(">", a, b), a, b) for a, b in sides]
        array = context.make_array(signature.args[2])(context, builder, args[2])
        target = builder.bitcast(builder.gep(array.data, [args[3]]), parts[0].type.as_pointer())
        builder.store(parts[0], target, align=signature.args[2].dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.none(x, types.intp, peaks, types.intp), generate


def _finite_magnitudes(context: Any, builder: Any, array_type: Any, array_value: Any, start: Any) -> Any:
    """The bits of 16 magnitudes, 0 for infinity and NaN. They order like the magnitudes themselves."""
    array = context.make_array(array_type)(context, builder, array_value)
    integer, infinity, sign = LAYOUT[array_type.dtype]
    vector = ir.VectorType(integer, LANES)
    source = builder.bitcast(builder.gep(array.data, [start]), vector.as_pointer())
    codes = builder.load(source, align=integer.width // 8)
    magnitudes = builder.and_(codes, ir.Constant(vector, [sign - 1] * LANES))
    is_finite = builder.icmp_unsigned("<", magnitudes, ir.Constant(vector, [infinity] * LANES))
    return builder.select(is_finite, magnitudes, ir.Constant(vector, [0] * LANES))


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
