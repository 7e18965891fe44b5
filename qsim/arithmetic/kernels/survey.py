"""What an array holds, found in one pass: how large, how fine, how many digits. Proofs of exactness start here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from llvmlite import ir
from numba.extending import intrinsic
from numpy.typing import NDArray

from qsim.arithmetic.kernels.compile import kernel


@dataclass(frozen=True)
class Facts:
    """Every finite value is an integer times 2^lowest_bit, of magnitude at most `largest`, with at most `digits`
    significant bits. Zeros do not count; an array of zeros has largest 0.
    """

    is_finite: bool
    largest: float
    lowest_bit: int
    digits: int


def _count_trailing_zeros(typing: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 0))

    return value(value), generate


_trailing_zeros: Any = intrinsic(_count_trailing_zeros)


@kernel
def _survey32(bits: Any) -> Any:
    lowest, digits, top, infinite = np.int32(1 << 20), np.int32(0), np.int32(0), np.int32(0)
    for i in range(len(bits)):
        magnitude = np.int32(bits[i] & np.int32(0x7FFFFFFF))
        infinite = max(infinite, magnitude)
        magnitude = magnitude if magnitude < np.int32(0x7F800000) else np.int32(0)
        exponent = np.int32(max(np.int32(magnitude >> np.int32(23)), np.int32(1)))
        hidden = np.int32(0x800000) if magnitude >= np.int32(0x800000) else np.int32(0)
        fraction = np.int32((magnitude & np.int32(0x7FFFFF)) | hidden)
        zeros = _trailing_zeros(np.int32(fraction | np.int32(0x1000000)))
        bit = np.int32(exponent + zeros) if magnitude != 0 else np.int32(1 << 20)
        lowest = min(lowest, bit)
        digits = max(digits, np.int32(24) - zeros)
        top = max(top, magnitude)
    return top, lowest, digits, infinite < np.int32(0x7F800000)


@kernel
def _survey64(bits: Any) -> Any:
    lowest, digits, top, infinite = np.int64(1 << 20), np.int64(0), np.int64(0), np.int64(0)
    for i in range(len(bits)):
        magnitude = bits[i] & np.int64(0x7FFFFFFFFFFFFFFF)
        infinite = max(infinite, magnitude)
        magnitude = magnitude if magnitude < np.int64(0x7FF << 52) else np.int64(0)
        exponent = max(magnitude >> np.int64(52), np.int64(1))
        hidden = np.int64(1 << 52) if magnitude >= np.int64(1 << 52) else np.int64(0)
        fraction = (magnitude & np.int64((1 << 52) - 1)) | hidden
        zeros = _trailing_zeros(fraction | np.int64(1 << 53))
        bit = exponent + zeros if magnitude != 0 else np.int64(1 << 20)
        lowest = min(lowest, bit)
        digits = max(digits, np.int64(53) - zeros)
        top = max(top, magnitude)
    return top, lowest, digits, infinite < np.int64(0x7FF << 52)


def survey(x: NDArray[Any]) -> Facts:
    """The facts of an array of floats or integers."""
    if x.size == 0:
        return Facts(True, 0.0, 0, 1)
    if x.dtype.kind in "iub":
        top_code = max(abs(int(x.min())), abs(int(x.max())))
        return Facts(True, float(top_code), 0, max(top_code.bit_length(), 1))
    # In the order it lies in memory, and in one layout, so that each kernel is compiled once.
    x = np.require(x.ravel(order="K"), requirements=["C", "W"])
    if x.dtype == np.float32:
        top, lowest, digits, is_finite = _survey32(x.view(np.int32))
        largest, lowest_bit = float(np.int32(top).view(np.float32)), int(lowest) - 150
    else:
        top, lowest, digits, is_finite = _survey64(x.view(np.int64))
        largest, lowest_bit = float(np.int64(top).view(np.float64)), int(lowest) - 1075
    is_zero = largest == 0.0
    return Facts(bool(is_finite), largest, 0 if is_zero else lowest_bit, max(int(digits), 1))


@kernel
def _widest_block32(bits: Any, block: int) -> Any:
    """Over blocks of a row: the largest count of digits from the lowest set bit to the leading bit of any value."""
    widest = np.int32(1)
    for row in range(bits.shape[0]):
        for start in range(0, bits.shape[1], block):
            values = bits[row, start : start + block]
            lowest, top = np.int32(1 << 20), np.int32(0)
            for i in range(len(values)):
                magnitude = np.int32(values[i] & np.int32(0x7FFFFFFF))
                exponent = np.int32(max(np.int32(magnitude >> np.int32(23)), np.int32(1)))
                hidden = np.int32(0x800000) if magnitude >= np.int32(0x800000) else np.int32(0)
                fraction = np.int32((magnitude & np.int32(0x7FFFFF)) | hidden)
                zeros = _trailing_zeros(np.int32(fraction | np.int32(0x1000000)))
                lowest = min(lowest, np.int32(exponent + zeros) if magnitude != 0 else np.int32(1 << 20))
                top = max(top, exponent if magnitude != 0 else np.int32(0))
            widest = max(widest, np.int32(top + np.int32(24) - lowest))
    return widest


def widest_block(x: NDArray[np.float32], block: int) -> int:
    """x [rows, K], finite: the digits that hold every value of a block of `block` along K, as integers in units of
    some bit; the largest such count of any block.
    """
    return int(_widest_block32(np.require(x, requirements=["C", "W"]).view(np.int32), block))
