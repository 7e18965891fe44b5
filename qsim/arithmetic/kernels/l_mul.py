"""L-Mul of two numbers (Luo and Sun, "Addition is All You Need", arXiv 2410.00907, equations 1 to 3)."""

from __future__ import annotations

import math

from qsim.arithmetic.kernels.compile import kernel

EXACT, REAL, INT_ADD = range(3)


@kernel
def l_mul(x: float, y: float, form: int, mantissa: int, offset: int) -> float:
    """x and y have `mantissa` fraction bits; `offset` is l(mantissa). Exponents are unlimited, nothing is rounded.

    REAL: (1 + fx + fy + 2^-l) 2^(ex + ey). INT_ADD: the fields exponent|fraction added as integers plus 2^(m - l), so
    that a carry out of the fraction goes into the exponent. Zero, infinity and NaN as in the product.
    """
    if x == 0.0 or y == 0.0 or math.isinf(x) or math.isinf(y) or math.isnan(x) or math.isnan(y):
        return x * y
    x_half, x_exponent = math.frexp(abs(x))
    y_half, y_exponent = math.frexp(abs(y))
    exponent = x_exponent + y_exponent - 2
    fraction = (2.0 * x_half - 1.0) + (2.0 * y_half - 1.0) + math.ldexp(1.0, -offset)
    if form == INT_ADD:
        carry = math.floor(fraction)
        fraction -= carry
        exponent += int(carry)
    value = math.ldexp(1.0 + fraction, exponent)
    return -value if (x < 0) != (y < 0) else value
