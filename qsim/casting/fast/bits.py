"""Bit-level primitives on float32 and float64, and the decorator that compiles a kernel.

The primitives are LLVM bitcasts and masks, one instruction each, for both widths at once: numba would widen int32
arithmetic to int64 and halve the vector width. Everything else in the kernels is ordinary floating-point arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from llvmlite import ir
from numba import extending, njit, types

intrinsic: Any = (
    extending.intrinsic
)  # its own annotations do not know that the typing context is left out in calls

#                             integer type     exponent field  sign bit
LAYOUT = {
    types.float32: (ir.IntType(32), 0xFF << 23, 1 << 31),
    types.float64: (ir.IntType(64), 0x7FF << 52, 1 << 63),
}


def kernel(function: Callable[..., Any]) -> Any:
    """Compile `function` without the GIL and keep the machine code on disk.

    numba's cache only watches the file a function stands in; these kernels call across files, so the stamp is
    taken over the whole package: an edited helper never leaves a stale kernel behind.
    """
    try:
        dispatcher: Any = njit(nogil=True, cache=True, error_model="numpy")(function)
    except RuntimeError:  # no folder to write to: compile anew in every process
        return njit(nogil=True, error_model="numpy")(function)
    stamps = [file.stat() for file in Path(__file__).parent.glob("*.py")]
    newest, size = max(stamp.st_mtime for stamp in stamps), sum(stamp.st_size for stamp in stamps)
    dispatcher._cache._cache_file._source_stamp = (newest, size)
    return dispatcher


@intrinsic
def power_below(typing: Any, value: Any) -> Any:
    """2^floor(log2(value)) of a non-negative normal number; 0 for subnormals, infinity for infinity and NaN."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        integer, exponent, _ = LAYOUT[signature.args[0]]
        field = builder.and_(builder.bitcast(args[0], integer), ir.Constant(integer, exponent))
        return builder.bitcast(field, args[0].type)

    return value(value), generate


@intrinsic
def with_sign(typing: Any, magnitude: Any, signed: Any) -> Any:
    """`magnitude` (sign bit clear) with the sign bit of `signed`, zeros and NaNs included."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        integer, _, sign = LAYOUT[signature.args[0]]
        bit = builder.and_(builder.bitcast(args[1], integer), ir.Constant(integer, sign))
        return builder.bitcast(builder.or_(builder.bitcast(args[0], integer), bit), args[0].type)

    return magnitude(magnitude, magnitude), generate


@intrinsic
def is_odd(typing: Any, value: Any) -> Any:
    """Whether the last bit of the significand of `value` is set."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        integer, _, _ = LAYOUT[signature.args[0]]
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
