"""A Kulisch register: a fixed-point number wide enough that a sum of products never rounds.

Kulisch, "Computer Arithmetic and Validity" (2013), chapter 8. The register is an array of signed 64-bit limbs of 32
bits each, the lowest first; limbs take up to 2^30 additions before their carries are passed on.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from qsim.arithmetic.kernels.compile import kernel

LIMB = 32
_MASK = (1 << LIMB) - 1
_SPLIT = 2.0**27 + 1.0


@kernel
def product(a: float, b: float) -> Any:
    """a * b as an unevaluated sum high + low, exactly (Dekker 1971), where nothing over- or underflows."""
    high = a * b
    c = a * _SPLIT
    a_high = c - (c - a)
    a_low = a - a_high
    c = b * _SPLIT
    b_high = c - (c - b)
    b_low = b - b_high
    return high, ((a_high * b_high - high) + a_high * b_low + a_low * b_high) + a_low * b_low


@kernel
def add(register: Any, lowest_bit: int, value: float) -> None:
    """Add a finite float64 whose last bit weighs at least 2^lowest_bit."""
    if value == 0.0:
        return
    mantissa, exponent = math.frexp(value)
    digits = np.int64(math.ldexp(mantissa, 53))
    position = exponent - 53 - lowest_bit
    if position < 0:  # the trailing digits are zeros, or lowest_bit would be wrong
        digits >>= np.int64(-position)
        position = 0
    limb = position // LIMB
    shift = position - limb * LIMB
    sign = np.int64(1) if digits >= 0 else np.int64(-1)
    magnitude = abs(digits)
    low = (magnitude & _MASK) << np.int64(shift)
    high = (magnitude >> np.int64(LIMB)) << np.int64(shift)
    middle = (low >> np.int64(LIMB)) + (high & _MASK)
    register[limb] += sign * (low & _MASK)
    register[limb + 1] += sign * middle
    register[limb + 2] += sign * (high >> np.int64(LIMB))


@kernel
def carry(register: Any) -> None:
    """Pass the carries on: all limbs but the last in 0..2^32-1."""
    for limb in range(len(register) - 1):
        over = register[limb] >> np.int64(LIMB)
        register[limb] -= over << np.int64(LIMB)
        register[limb + 1] += over


@kernel
def read(register: Any, lowest_bit: int, to_odd: bool) -> float:
    """The sum as a float64: rounded to odd, or to nearest even. Leaves the register unusable (its sign is dropped)."""
    carry(register)
    negative = register[len(register) - 1] < 0
    if negative:
        for limb in range(len(register)):
            register[limb] = -register[limb]
        carry(register)
    top = len(register) - 1
    while top >= 0 and register[top] == 0:
        top -= 1
    if top < 0:
        return 0.0
    width = 0
    while register[top] >> np.int64(width) != 0:
        width += 1
    # The leading 62 bits; a bit lost below them is kept as an odd last bit.
    digits = np.int64(0)
    missing = 62
    sticky = False
    for limb in range(top, -1, -1):
        size = width if limb == top else LIMB
        taken = min(size, missing)
        digits = (digits << np.int64(taken)) | (register[limb] >> np.int64(size - taken))
        sticky |= (register[limb] & ((np.int64(1) << np.int64(size - taken)) - np.int64(1))) != 0
        missing -= taken
    exponent = top * LIMB + width - 62 + lowest_bit
    digits <<= np.int64(missing)
    if to_odd:
        sticky |= (digits & np.int64(0x1FF)) != 0
        digits >>= np.int64(9)
        exponent += 9
    if sticky:
        digits |= np.int64(1)
    value = math.ldexp(float(digits), exponent)
    return -value if negative else value
