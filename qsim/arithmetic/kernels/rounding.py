"""One float64 onto an accumulator's grid: the compiled twin of qsim.casting.elements, for one value at a time.

The caller hands over a sum rounded to odd at 53 bits, which every rounding to at most 51 bits treats as the exact sum
(Boldo and Melquiond, "Emulation of FMA and correctly rounded sums: proved algorithms using rounding to odd", 2008).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from qsim.arithmetic.kernels.compile import kernel
from qsim.errors import UserError
from qsim.formats import Element, Float, TwosComplement
from qsim.spec import OVERFLOWS, ROUNDINGS, STOCHASTIC_ROUNDINGS, Spec

_KINDS = (*ROUNDINGS, *STOCHASTIC_ROUNDINGS)
(_EVEN, _AWAY, _ZERO, _UP, _DOWN, _ODD, _FLOOR, _CEIL, _TOWARD_ZERO, _FROM_ZERO, _TO_ODD) = range(11)
(_STOCHASTIC, _STOCHASTIC_EVEN, _STOCHASTIC_ODD, _STOCHASTIC_CENTERED) = range(11, 15)
(_SATURATE, _SATURATE_FINITE, _SATURATE_SYMMETRIC, _SATURATE_ZERO, _WRAP, _WRAP_SIGN, _IEEE) = range(7)
_NO_GROWTH = 1200  # a fixed-point format is a float whose steps start to grow only beyond any float64
WIDEST_PRECISION = 51


# A number format and a cast as plain numbers, for compiled code. Values are multiples of 2^step_exponent; steps double
# with every power of two from 2^smallest_exponent; lowest_step is log2 of the step below that (step_exponent, or
# larger without subnormals). bits: of a fixed-point format, 0 for a float. is_cast 0: a sum passes as it is ("exact").
TARGET = np.dtype(
    [
        *((name, np.int64) for name in ("rounding", "random_bits", "overflow", "step_exponent")),
        *((name, np.int64) for name in ("smallest_exponent", "mantissa", "lowest_step", "bits")),
        ("lowest", np.float64),
        ("largest", np.float64),
        *((name, np.int64) for name in ("signed", "has_infinity", "has_nan", "has_negative_zero", "is_cast")),
    ]
)
Target = Any  # one TARGET record; numba reads its fields as attributes


def _record(*values: Any) -> Target:
    return np.rec.array([values], dtype=TARGET)[0]


EXACT = _record(0, 0, _IEEE, 0, 0, 0, 0, 0, -math.inf, math.inf, 1, 1, 1, 1, 0)


def target_of(spec: Spec) -> Target:
    """The facts of `spec`'s element and cast. Raises UserError for anything but integer, fixed and float formats."""
    element: Element = spec.element
    rounding, overflow = _KINDS.index(spec.cast.rounding.kind), OVERFLOWS.index(spec.cast.overflow)
    random_bits = spec.cast.rounding.random_bits
    facts = (element.signed, element.has_infinity, element.has_nan, element.has_negative_zero, True)
    limits = (element.lowest, element.largest)
    if isinstance(element, TwosComplement):
        step = element.step_exponent
        grid = (step, step + _NO_GROWTH, _NO_GROWTH, step, element.bits)
        return _record(rounding, random_bits, overflow, *grid, *limits, *facts)
    if isinstance(element, Float) and element.has_zero:
        step, start = element.step_exponent, element.smallest_exponent
        grid = (step, start, element.mantissa, step if element.subnormals else start, 0)
        return _record(rounding, random_bits, overflow, *grid, *limits, *facts)
    raise UserError(
        f"{spec} cannot be an accumulator or a product format: int, fixed and float formats with a zero can"
    )


@kernel
def power_of_two(exponent: int) -> float:
    """2^exponent, for exponents of normal float64 numbers."""
    return np.int64((exponent + 1023) << 52).view(np.float64)


@kernel
def mix(seed: int, output: int, step: int) -> Any:
    """Random bits of one rounding, a function of (seed, output element, step) alone (the finalizer of splitmix64)."""
    x = np.uint64(seed) * np.uint64(0xD1342543DE82EF95) + np.uint64(output) * np.uint64(0x9E3779B97F4A7C15)
    x += np.uint64(step) * np.uint64(0xBF58476D1CE4E5B9) + np.uint64(0x94D049BB133111EB)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@kernel
def random_bits(target: Target, seed: int, output: int, counter: int) -> Any:
    """The random bits of one cast, where it needs any."""
    return mix(seed, output, counter) if target.random_bits > 0 else np.uint64(0)


@kernel
def _round_half_even(value: float) -> float:
    """To the nearest integer, for 0 <= value < 2^52."""
    return (value + 2.0**52) - 2.0**52


@kernel
def _rounds_away(target: Target, fraction: float, odd: bool, negative: bool, random: Any) -> bool:
    """qsim.casting.rounding.rounds_away, for one value."""
    kind = target.rounding
    if fraction == 0.0:
        return False
    if kind <= _ODD:
        if fraction != 0.5:
            return fraction > 0.5
        if kind == _EVEN:
            return odd
        if kind == _ODD:
            return not odd
        return kind == _AWAY or (kind == _UP and not negative) or (kind == _DOWN and negative)
    if kind == _FLOOR:
        return negative
    if kind == _CEIL:
        return not negative
    if kind <= _TO_ODD:
        return kind == _FROM_ZERO or (kind == _TO_ODD and not odd)
    certain = power_of_two(target.random_bits)
    scaled = fraction * certain
    if kind == _STOCHASTIC:
        scaled = math.floor(scaled)
    elif kind == _STOCHASTIC_EVEN:
        scaled = _round_half_even(scaled)
    elif kind == _STOCHASTIC_ODD:
        whole = math.floor(scaled)
        rest = scaled - whole
        scaled = whole + 1.0 if rest > 0.5 or (rest == 0.5 and whole % 2 == 0) else whole
    else:
        scaled += 0.5
    return scaled + float(random >> np.uint64(64 - target.random_bits)) >= certain


@kernel
def _wrap(code: float, floor: float, target: Target) -> float:
    """`code` modulo 2^bits; in sign-magnitude the first bit above it, before rounding, becomes the sign."""
    period = power_of_two(target.bits)
    wrapped = code - math.floor(code / period) * period
    if target.signed != 0 and wrapped >= period / 2:
        wrapped -= period
    if target.overflow == _WRAP_SIGN and wrapped != code:
        above = math.floor(floor / period)
        is_set = above - 2 * math.floor(above / 2) == 1
        if is_set != (wrapped < 0):
            wrapped = -1 - wrapped
    return wrapped


@kernel
def _outside(value: float, target: Target) -> float:
    """What a rounded value beyond lowest..largest, or an infinity, becomes (wrapping apart)."""
    if target.signed == 0 and value < 0:
        return math.nan if target.overflow == _IEEE else 0.0
    bound = target.largest if value > 0 else target.lowest
    kind = target.overflow
    if kind == _SATURATE_ZERO:
        return math.copysign(0.0, value)
    if kind == _SATURATE_SYMMETRIC:
        return math.copysign(target.largest, value)
    if kind == _SATURATE_FINITE and math.isinf(value) and target.has_infinity != 0:
        return value
    if kind != _IEEE:
        return bound
    if not math.isinf(value):
        stops = target.rounding == _TOWARD_ZERO or target.rounding == _TO_ODD
        stops = stops or target.rounding == (_FLOOR if value > 0 else _CEIL)
        if stops:
            return bound
    return math.copysign(math.inf, value) if target.has_infinity != 0 else math.nan


@kernel
def cast(value: float, target: Target, in_range: bool, random: Any) -> float:
    """`value`, rounded to odd at 53 bits, as a number of the target; in_range=False leaves overflow for later."""
    if target.is_cast == 0 or math.isnan(value):
        return value
    rounded = value
    floor = 0.0
    if not math.isinf(value) and value != 0.0:
        exponent = (
            (np.float64(value).view(np.int64) >> 52) & 0x7FF
        ) - 1023  # below any format's range if subnormal
        normal = exponent >= target.smallest_exponent
        step = exponent - target.mantissa if normal else target.lowest_step
        magnitude = abs(value) * power_of_two(-step)
        steps = math.floor(magnitude)
        odd = (exponent - target.smallest_exponent) % 2 == 0 if normal else steps % 2 == 1
        if target.mantissa != 0:
            odd = steps % 2 == 1
        away = _rounds_away(target, magnitude - steps, odd, value < 0, random)
        rounded = math.copysign((steps + (1.0 if away else 0.0)) * power_of_two(step), value)
        floor = -steps - (1.0 if magnitude > steps else 0.0) if value < 0 else steps
    if in_range:
        if target.overflow == _WRAP or target.overflow == _WRAP_SIGN:
            code = rounded * power_of_two(-target.step_exponent)
            rounded = _wrap(code, floor, target) * power_of_two(target.step_exponent)
        elif rounded > target.largest or rounded < target.lowest:
            rounded = _outside(rounded, target)
        elif target.overflow == _SATURATE_SYMMETRIC and target.signed != 0 and rounded < -target.largest:
            rounded = -target.largest
    if rounded == 0.0 and target.has_negative_zero == 0:
        return 0.0
    return rounded
