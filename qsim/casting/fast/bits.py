"""Three bit-level primitives on float32 and float64, and the decorator that compiles a kernel.

They are LLVM bitcasts and masks, one instruction each, written for both widths at once: numba would widen int32
arithmetic to int64 and halve the vector width. Everything else in the kernels is ordinary floating-point arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

#                             integer type     exponent field  sign bit
_LAYOUT = {
    types.float32: (ir.IntType(32), 0xFF << 23, 1 << 31),
    types.float64: (ir.IntType(64), 0x7FF << 52, 1 << 63),
}


def kernel(function: Callable[..., Any]) -> Any:
    """Compile `function` without the GIL and keep the machine code on disk.

    numba's cache only watches the file a function stands in; these kernels call across files, so the stamp is
    taken over the whole package: an edited helper never leaves a stale kernel behind.
    """
    dispatcher = njit(nogil=True, cache=True, error_model="numpy")(function)
    files = sorted(Path(__file__).parent.glob("*.py"))
    stamps = [file.stat() for file in files]
    newest = max(stamp.st_mtime for stamp in stamps)
    dispatcher._cache._cache_file._source_stamp = (newest, sum(stamp.st_size for stamp in stamps))
    return dispatcher


@intrinsic
def power_below(typing: Any, value: Any) -> Any:
    """2^floor(log2(value)) of a non-negative normal number; 0 for subnormals, infinity for infinity and NaN."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        integer, exponent, _ = _LAYOUT[signature.args[0]]
        field = builder.and_(builder.bitcast(args[0], integer), ir.Constant(integer, exponent))
        return builder.bitcast(field, args[0].type)

    return value(value), generate


@intrinsic
def with_sign(typing: Any, magnitude: Any, signed: Any) -> Any:
    """`magnitude` (sign bit clear) with the sign bit of `signed`, zeros and NaNs included."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        integer, _, sign = _LAYOUT[signature.args[0]]
        bit = builder.and_(builder.bitcast(args[1], integer), ir.Constant(integer, sign))
        return builder.bitcast(builder.or_(builder.bitcast(args[0], integer), bit), args[0].type)

    return magnitude(magnitude, magnitude), generate


@intrinsic
def is_odd(typing: Any, value: Any) -> Any:
    """Whether the last bit of the significand of `value` is set."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        integer, _, _ = _LAYOUT[signature.args[0]]
        return builder.trunc(builder.bitcast(args[0], integer), ir.IntType(1))

    return types.boolean(value), generate


@intrinsic
def float_like(typing: Any, integer: Any, model: Any) -> Any:
    """A non-negative integer as a float of the type of `model` (numba alone would make it a float64)."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.uitofp(args[0], args[1].type)

    return model(integer, model), generate


@intrinsic
def code_of(typing: Any, value: Any) -> Any:
    """The 32 bits of a float32 as an unsigned integer."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.IntType(32))

    return types.uint32(types.float32), generate


_VECTOR = 16  # elements the functions below take at once: loops this short are not worth vectorising to LLVM


@intrinsic
def peak_of_16(typing: Any, x: Any, start: Any) -> Any:
    """The largest finite magnitude among x[start : start + 16], 0 if none is finite."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        integer = _LAYOUT[signature.args[0].dtype][0]
        magnitudes = _finite_magnitudes(context, builder, signature.args[0], args[0], args[1])
        name = f"llvm.vector.reduce.umax.v{_VECTOR}i{integer.width}"
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(integer, [magnitudes.type]), name
        )
        return builder.bitcast(builder.call(function, [magnitudes]), context.get_value_type(signature.return_type))

    return x.dtype(x, types.intp), generate


@intrinsic
def peaks_of_16_by_16(typing: Any, x: Any, start: Any, peaks: Any, index: Any) -> Any:
    """peaks[index + k] = peak_of_16(x, start + 16 * k) for k in 0..15, in a third of the time.

    Sixteen vectors are folded into one: of two vectors, the maxima of neighbouring lanes are one vector again.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lanes = ir.VectorType(ir.IntType(32), _VECTOR)
        even = ir.Constant(lanes, list(range(0, 2 * _VECTOR, 2)))
        odd = ir.Constant(lanes, list(range(1, 2 * _VECTOR, 2)))
        steps = [builder.add(args[1], ir.Constant(args[1].type, _VECTOR * k)) for k in range(_VECTOR)]
        parts = [_finite_magnitudes(context, builder, signature.args[0], args[0], step) for step in steps]
        while len(parts) > 1:
            pairs = [(a, b) for a, b in zip(parts[::2], parts[1::2], strict=True)]
            sides = [(builder.shuffle_vector(a, b, even), builder.shuffle_vector(a, b, odd)) for a, b in pairs]
            parts = [builder.select(builder.icmp_unsigned(">", a, b), a, b) for a, b in sides]
        array = context.make_array(signature.args[2])(context, builder, args[2])
        target = builder.bitcast(builder.gep(array.data, [args[3]]), parts[0].type.as_pointer())
        builder.store(parts[0], target, align=signature.args[2].dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.none(x, types.intp, peaks, types.intp), generate


def _finite_magnitudes(context: Any, builder: Any, array_type: Any, array_value: Any, start: Any) -> Any:
    """The bits of 16 magnitudes, 0 for infinity and NaN. They order like the magnitudes themselves."""
    array = context.make_array(array_type)(context, builder, array_value)
    integer, infinity, sign = _LAYOUT[array_type.dtype]
    vector = ir.VectorType(integer, _VECTOR)
    source = builder.bitcast(builder.gep(array.data, [start]), vector.as_pointer())
    codes = builder.load(source, align=integer.width // 8)
    magnitudes = builder.and_(codes, ir.Constant(vector, [sign - 1] * _VECTOR))
    is_finite = builder.icmp_unsigned("<", magnitudes, ir.Constant(vector, [infinity] * _VECTOR))
    return builder.select(is_finite, magnitudes, ir.Constant(vector, [0] * _VECTOR))


@intrinsic
def fill_16(typing: Any, x: Any, start: Any, value: Any) -> Any:
    """x[start : start + 16] = value."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, args[0])
        vector = ir.VectorType(args[2].type, _VECTOR)
        target = builder.bitcast(builder.gep(array.data, [args[1]]), vector.as_pointer())
        nothing = ir.Constant(vector, ir.Undefined)
        first = builder.insert_element(nothing, args[2], ir.Constant(ir.IntType(32), 0))
        every = ir.Constant(ir.VectorType(ir.IntType(32), _VECTOR), [0] * _VECTOR)
        builder.store(builder.shuffle_vector(first, nothing, every), target, align=signature.args[0].dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.none(x, types.intp, x.dtype), generate
