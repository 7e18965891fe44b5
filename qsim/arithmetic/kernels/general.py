"""The kernel that is exact for any multiply-accumulate unit: one output at a time, every cast written out."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.arithmetic.kernels import l_mul as l_mul_kernel
from qsim.arithmetic.kernels.compile import kernel
from qsim.arithmetic.kernels.l_mul import l_mul
from qsim.arithmetic.kernels.register import add, product, read
from qsim.arithmetic.kernels.rounding import TARGET, Target, cast, random_bits

_FLOOR = 6  # ROUNDINGS.index("floor"): an exact zero of mixed signs is then -0 (IEEE 754-2019, 6.3)


# A Mac for compiled code, with what is known about the operands:
#   chunk: products per chunk, the whole reduction if has_chunks is 0; align_bits: 0 for no alignment;
#   each_step: overflow at every step, not at the end; multiply: form of kernels.l_mul; mantissa, offset: fraction bits
#   of the operands and l(m), for L-Mul; lowest_bit: every product and partial sum is a multiple of 2^lowest_bit;
#   limbs: of a register that holds every sum; to_odd: how a finished exact sum is rounded to float64.
UNIT = np.dtype(
    [
        *((name, TARGET) for name in ("product", "accumulator", "chunk_accumulator")),
        *(
            (name, np.int64)
            for name in ("lanes", "pairwise", "chunk", "has_chunks", "align_bits", "each_step")
        ),
        *(
            (name, np.int64)
            for name in ("multiply", "mantissa", "offset", "lowest_bit", "limbs", "seed", "to_odd")
        ),
    ]
)
Unit = Any  # one UNIT record


def unit_record(**values: Any) -> Unit:
    """A Unit from all its fields by name."""
    return np.rec.array([tuple(values[name] for name in UNIT.names or ())], dtype=UNIT)[0]


@kernel
def to_odd(value: float, error: float) -> float:
    """value + error rounded to odd, where value is that sum rounded to nearest."""
    bits = np.float64(value).view(np.int64)
    if error == 0.0 or bits & 1 == 1:
        return value
    away = (error > 0.0) == (value > 0.0)
    return np.int64(bits + 1 if away else bits - 1).view(np.float64)


@kernel
def _signbit(value: float) -> bool:
    return bool(np.float64(value).view(np.int64) < 0)


@kernel
def _zero(addends_negative: int, addends_positive: int, rounding: int) -> float:
    """The sign of an exact zero."""
    if rounding == _FLOOR:
        return 0.0 if addends_negative == 0 else -0.0
    return -0.0 if addends_positive == 0 else 0.0


@kernel
def _exact_sum(
    start_value: float, high: Any, low: Any, first: int, last: int, register: Any, unit: Unit, target: Target
) -> float:
    """start_value + the products first..last-1, rounded once: to odd if a cast follows, else to nearest even."""
    plain = start_value
    negative = 1 if _signbit(start_value) else 0
    for k in range(first, last):
        plain += high[k]
        negative += 1 if _signbit(high[k]) else 0
    if not math.isfinite(plain):
        return plain
    if last - first == 1 and low[first] == 0.0 and target.is_cast != 0:
        right = plain - start_value
        error = (start_value - (plain - right)) + (high[first] - right)
        total = to_odd(plain, error)
    else:
        register[:] = 0
        add(register, unit.lowest_bit, start_value)
        for k in range(first, last):
            add(register, unit.lowest_bit, high[k])
            if low[k] != 0.0:
                add(register, unit.lowest_bit, low[k])
        total = read(register, unit.lowest_bit, target.is_cast != 0 or unit.to_odd != 0)
    if total == 0.0:
        return _zero(negative, last - first + 1 - negative, target.rounding)
    return total


@kernel
def _truncated(high: float, low: float, quantum: float) -> float:
    """high + low cut toward zero to a multiple of `quantum`, counted in quanta."""
    quanta = float(math.trunc(high / quantum))
    if low != 0.0 and quanta * quantum == high and (low < 0) == (high > 0):
        quanta += 1.0 if low > 0 else -1.0
    return quanta


@kernel
def _aligned_sum(start_value: float, high: Any, low: Any, first: int, last: int, unit: Unit) -> float:
    """The sum of addends each cut to `align_bits` bits below the leading bit of the largest one."""
    largest = abs(start_value)
    plain = start_value
    for k in range(first, last):
        largest = max(largest, abs(high[k]))
        plain += high[k]
    if not math.isfinite(plain):
        return plain
    quantum = math.ldexp(1.0, math.frexp(largest)[1] - unit.align_bits) if largest > 0 else 1.0
    quanta = _truncated(start_value, 0.0, quantum)
    negative = 1 if _is_negative(quanta, start_value) else 0
    for k in range(first, last):
        addend = _truncated(high[k], low[k], quantum)
        negative += 1 if _is_negative(addend, high[k]) else 0
        quanta += addend
    if quanta == 0.0:
        return _zero(negative, last - first + 1 - negative, unit.accumulator.rounding)
    return quanta * quantum


@kernel
def _is_negative(quanta: float, value: float) -> bool:
    """The sign of an addend: what is cut to zero counts as +0, a -0 stays one."""
    return quanta < 0 or (value == 0.0 and _signbit(value))


@kernel
def _accumulate(
    start_value: float,
    high: Any,
    low: Any,
    first: int,
    last: int,
    register: Any,
    unit: Unit,
    output: int,
    counter: int,
) -> float:
    """One step: the accumulator after the addends first..last-1."""
    if unit.align_bits > 0:
        total = _aligned_sum(start_value, high, low, first, last, unit)
    else:
        total = _exact_sum(start_value, high, low, first, last, register, unit, unit.accumulator)
    return cast(
        total,
        unit.accumulator,
        unit.each_step != 0,
        random_bits(unit.accumulator, unit.seed, output, 2 * counter + 1),
    )


@kernel
def _sequential(
    start_value: float,
    high: Any,
    low: Any,
    first: int,
    last: int,
    register: Any,
    unit: Unit,
    output: int,
    counter: int,
) -> float:
    accumulator = start_value
    for k in range(first, last, unit.lanes):
        stop = min(k + unit.lanes, last)
        accumulator = _accumulate(accumulator, high, low, k, stop, register, unit, output, counter + k)
    return accumulator


@kernel
def _pairwise(
    high: Any,
    low: Any,
    first: int,
    last: int,
    nodes: Any,
    no_low: Any,
    register: Any,
    unit: Unit,
    output: int,
    counter: int,
) -> float:
    """A tree over groups of `lanes` products: level by level, the odd one carried uncast to where it is added."""
    neutral = (
        0.0 if unit.accumulator.rounding == _FLOOR else -0.0
    )  # leaves the sign of every zero sum as it is
    counter += first
    count = 0
    rest = last  # products rest..last-1 are a group still waiting for a partner
    for k in range(first, last, 2 * unit.lanes):
        if k + unit.lanes < last:
            stop = min(k + 2 * unit.lanes, last)
            if stop - k == 2 and low[k] == 0.0:
                nodes[count] = _accumulate(high[k], high, low, k + 1, stop, register, unit, output, counter)
            else:
                nodes[count] = _accumulate(neutral, high, low, k, stop, register, unit, output, counter)
            count += 1
            counter += 1
        else:
            rest = k
    while count + (rest < last) > 1:
        merged = 0
        for i in range(0, count - 1, 2):
            nodes[merged] = _accumulate(
                nodes[i], nodes, no_low, i + 1, i + 2, register, unit, output, counter
            )
            merged += 1
            counter += 1
        if count % 2 == 1:
            nodes[merged] = nodes[count - 1]
            if rest < last:
                nodes[merged] = _accumulate(
                    nodes[merged], high, low, rest, last, register, unit, output, counter
                )
                rest = last
                counter += 1
            merged += 1
        count = merged
    if count == 0:
        return _accumulate(neutral, high, low, rest, last, register, unit, output, counter)
    return nodes[0]


@kernel
def _exact_product(a: float, b: float) -> Any:
    if a == 0.0 or b == 0.0 or not math.isfinite(a) or not math.isfinite(b):
        return a * b, 0.0
    return product(a, b)


@kernel
def _products(a: Any, b: Any, high: Any, low: Any, unit: Unit, output: int) -> None:
    for k in range(len(a)):
        low[k] = 0.0
        if unit.multiply != l_mul_kernel.EXACT:
            high[k] = l_mul(a[k], b[k], unit.multiply, unit.mantissa, unit.offset)
        else:
            high[k], low[k] = _exact_product(a[k], b[k])
        if unit.product.is_cast != 0:
            high[k] = cast(
                to_odd(high[k], low[k]),
                unit.product,
                True,
                random_bits(unit.product, unit.seed, output, 2 * k),
            )
            low[k] = 0.0


@kernel
def _dot(
    bias: float,
    has_bias: bool,
    scratch: Any,
    a_scale: Any,
    b_scale: Any,
    register: Any,
    unit: Unit,
    output: int,
) -> float:
    """One output. Rows of scratch: products (high, low), chunk sums (high, low), tree nodes, zeros."""
    high, low, partial, partial_low, nodes, zeros = scratch
    count = len(high)
    if unit.has_chunks == 0:
        if unit.pairwise == 0:
            total = _sequential(bias, high, low, 0, count, register, unit, output, 0)
        else:
            total = _pairwise(high, low, 0, count, nodes, zeros, register, unit, output, 0)
            if has_bias:
                nodes[0] = bias
                total = _accumulate(total, nodes, zeros, 0, 1, register, unit, output, count)
        return cast(total, unit.accumulator, True, np.uint64(0))
    chunks = 0
    for k in range(0, count, unit.chunk):
        stop = min(k + unit.chunk, count)
        if unit.pairwise != 0:
            total = _pairwise(high, low, k, stop, nodes, zeros, register, unit, output, count)
        else:
            total = _sequential(0.0, high, low, k, stop, register, unit, output, count)
        total = cast(total, unit.accumulator, True, np.uint64(0))
        partial[chunks], partial_low[chunks] = _exact_product(total, a_scale[chunks] * b_scale[chunks])
        chunks += 1
    outer = unit.chunk_accumulator
    if outer.is_cast == 0:
        return _exact_sum(bias, partial, partial_low, 0, chunks, register, unit, outer)
    total = bias
    for i in range(chunks):
        total = _exact_sum(total, partial, partial_low, i, i + 1, register, unit, outer)
        total = cast(
            total, outer, unit.each_step != 0, random_bits(outer, unit.seed, output, 2 * i * unit.chunk + 1)
        )
    return cast(total, outer, True, np.uint64(0))


@kernel
def matmul(
    a: Any,
    b: Any,
    a_scale: Any,
    b_scale: Any,
    bias: Any,
    has_bias: bool,
    out: Any,
    first: int,
    last: int,
    first_output: int,
    unit: Unit,
) -> None:
    """out[n, i, j] for the rows first..last-1 of all products laid end to end, all arrays float64.

    a is [products, M, K], b is [products or 1, N, K], bias is [products or 1, M or 1, N or 1]; a_scale [products or 1,
    M or 1, chunks] and b_scale [products or 1, N or 1, chunks] multiply the sums of chunks.
    """
    scratch = np.zeros((6, a.shape[2]))
    rows = (scratch[0], scratch[1], scratch[2], scratch[3], scratch[4], scratch[5])
    register = np.zeros(unit.limbs, dtype=np.int64)
    for row in range(first, last):
        n = row // a.shape[1]
        i = row - n * a.shape[1]
        matrix, start = b[n % len(b)], bias[n % len(bias)]
        row_scale, column_scale = a_scale[n % len(a_scale)], b_scale[n % len(b_scale)]
        for j in range(len(matrix)):
            output = first_output + row * len(matrix) + j
            _products(a[n, i], matrix[j], rows[0], rows[1], unit, output)
            out[n, i, j] = _dot(
                start[i % start.shape[0], j % start.shape[1]],
                has_bias,
                rows,
                row_scale[i % len(row_scale)],
                column_scale[j % len(column_scale)],
                register,
                unit,
                output,
            )


@kernel
def _odd_products(a: Any, b: Any, out: Any) -> None:
    for i in range(len(a)):
        high, low = _exact_product(a[i], b[i])
        out[i] = to_odd(high, low)


def round_product_to_odd(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """a * b rounded to odd, elementwise: a later cast to at most 51 bits then rounds the exact product once."""
    out = np.empty(a.shape)
    _odd_products(a.reshape(-1), b.reshape(-1), out.reshape(-1))
    return out


@kernel
def _two_sum(a: float, b: float) -> Any:
    """a + b as an unevaluated sum, exactly (Knuth)."""
    total = a + b
    right = total - a
    return total, (a - (total - right)) + (b - right)


@kernel
def _sums_of_three(a: Any, b: Any, c: Any, out: Any) -> None:
    for i in range(len(a)):
        first, first_error = _two_sum(b[i], c[i])
        second, second_error = _two_sum(a[i], first)
        error, rest = _two_sum(second_error, first_error)
        out[i] = second + to_odd(error, rest)


def sum_once(a: NDArray[np.float64], b: NDArray[np.float64], c: NDArray[np.float64]) -> NDArray[np.float64]:
    """a + b + c elementwise, rounded once to nearest even (Boldo and Melquiond 2008, algorithm 5)."""
    out = np.empty(a.shape)
    _sums_of_three(a.reshape(-1), b.reshape(-1), c.reshape(-1), out.reshape(-1))
    return out
