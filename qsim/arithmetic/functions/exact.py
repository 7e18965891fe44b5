"""Functions rounded once: the exact real result cast to a format, never a rounded result rounded again.

A result is first computed in float64 with a bound on its error. Where the bound straddles two results of the cast it is
computed again in decimal arithmetic of 60 digits, rounded to odd in float64, which keeps what the cast needs (Ziv's
strategy). So the error is at most 1/2 ulp for a nearest rounding and less than 1 ulp for any other, for every format
of up to 50 bits of precision.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import MAX_EMAX, MIN_EMIN, Decimal, localcontext
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qsim.casting import quantize
from qsim.errors import UserError
from qsim.parse import parse
from qsim.spec import Spec

Reals = NDArray[np.float64]
Index = tuple[int, ...]
DIGITS = 60
RELATIVE_ERROR = 2.0**-40  # far above what float64 evaluation of any function here commits
SMALLEST = 2.0**-1000  # below this float64 evaluation underflows step by step, but a result still has a sign
_LARGEST = 1.0e300


@dataclass(frozen=True)
class Function:
    """A real function: in float64 over arrays, and in decimal for one number."""

    name: str
    approximate: Callable[[Reals], Reals]
    precise: Callable[[Decimal], Decimal]


def apply(name: str, x: ArrayLike, output: Spec | str, **options: Any) -> NDArray[Any]:
    """f(x) for the function of that name, rounded once to `output`; float64 values of the shape of `x`.

    options: as for `qsim.quantize` (scale, axis, zero_point, ...). An `output` whose scale is computed from the
    result, or that rounds stochastically, is cast from float64 without the second look.
    Infinities and the poles of reciprocal and rsqrt give infinity, which overflows as the cast says; rsqrt of a
    negative number is NaN (a UserError in formats without NaN). Raises UserError for an unknown function.
    """
    if name not in FUNCTIONS:
        raise UserError(f"unknown function '{name}': one of {', '.join(FUNCTIONS)}")
    function, reals = FUNCTIONS[name], np.asarray(x, np.float64)
    with np.errstate(all="ignore"):
        approximate = np.asarray(function.approximate(reals), np.float64)
    overflowed = np.isinf(approximate) & np.isfinite(reals) & (reals != 0)
    approximate = np.where(overflowed, np.copysign(np.finfo(np.float64).max, approximate), approximate)
    tolerance = np.where(np.isfinite(reals), np.maximum(np.abs(approximate) * RELATIVE_ERROR, SMALLEST), 0.0)
    return round_once(
        approximate, tolerance, lambda i: function.precise(Decimal(float(reals[i]))), output, **options
    )


def round_once(
    approximate: Reals,
    tolerance: Reals,
    precise: Callable[[Index], Decimal],
    output: Spec | str,
    **options: Any,
) -> NDArray[Any]:
    """Numbers known to lie within `tolerance` of `approximate`, cast to `output` as if they were known exactly.

    precise(index) gives one of them to 60 digits; it is asked only where the tolerance leaves the cast open.
    """
    spec = parse(output) if isinstance(output, str) else output
    is_open = _open_positions(approximate, tolerance, spec, options)
    if is_open.any():
        approximate = approximate.copy()
        with localcontext() as context:
            context.prec, context.Emax, context.Emin = DIGITS, MAX_EMAX, MIN_EMIN
            for row in np.argwhere(is_open):
                index = tuple(int(i) for i in row)
                approximate[index] = to_odd_float(precise(index))
    return np.asarray(quantize(approximate, spec, **options))


def to_odd_float(number: Decimal) -> float:
    """The decimal number in float64, rounded to odd: exact, or the neighbour whose last bit is 1."""
    nearest = float(number)
    if np.isinf(nearest):
        return float(np.copysign(np.finfo(np.float64).max, nearest))
    if Decimal(nearest) == number or np.float64(nearest).view(np.int64) & 1:
        return nearest
    return float(np.nextafter(nearest, np.inf if Decimal(nearest) < number else -np.inf))


def _open_positions(
    approximate: Reals, tolerance: Reals, spec: Spec, options: Mapping[str, Any]
) -> NDArray[np.bool_]:
    """Where the two ends of the tolerance are cast to different values."""
    computes_scale = spec.scale is not None and options.get("scale") is None
    if computes_scale or spec.cast.rounding.is_stochastic or not approximate.size:
        return np.zeros(approximate.shape, np.bool_)
    finite = np.isfinite(approximate) & (np.abs(approximate) < _LARGEST)
    centre, spread = np.where(finite, approximate, 0.0), np.where(finite, tolerance, 0.0)
    low, high = (np.asarray(quantize(end, spec, **options)) for end in (centre - spread, centre + spread))
    return np.asarray(low != high)


def _sigmoid(x: Reals) -> Reals:
    exponential = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, exponential) / (1.0 + exponential)


def _gelu(x: Reals) -> Reals:
    from scipy.special import erfc

    return np.where(x == -np.inf, -0.0, 0.5 * x * erfc(-x / np.sqrt(2.0)))


def _gelu_tanh(x: Reals) -> Reals:
    # 0.5 (1 + tanh(z)) = sigmoid(2 z)
    return np.where(x == -np.inf, -0.0, x * _sigmoid(2.0 * np.sqrt(2.0 / np.pi) * (x + 0.044715 * x**3)))


def _silu(x: Reals) -> Reals:
    return np.where(x == -np.inf, -0.0, x * _sigmoid(x))


# In decimal. No value of a transcendental function at x != 0 is a number with finitely many digits, so a result must
# never be cut to one: arguments are first brought to where 60 digits still show on which side of it the function lies.


def _within(x: Decimal, tiny: str, large: str) -> Decimal:
    return x if x == 0 else min(max(abs(x), Decimal(tiny)), Decimal(large)).copy_sign(x)


def _precise_exp(x: Decimal) -> Decimal:
    return _within(x, "1e-50", "1e6").exp()


def _precise_sigmoid(x: Decimal) -> Decimal:
    return 1 / (1 + (-(_within(x, "1e-50", "1e6") if x < 0 else _within(x, "1e-50", "110"))).exp())


def _precise_tanh(x: Decimal) -> Decimal:
    if abs(x) < Decimal("1e-8"):  # x - x^3 / 3 + ..., where the quotient below would cancel
        square = max(x * x, Decimal("1e-50"))
        return x * (1 - square / 3 + 2 * square * square / 15)
    squared = (2 * min(abs(x), Decimal(55))).exp()
    return ((squared - 1) / (squared + 1)).copy_sign(x)


def _precise_gelu(x: Decimal) -> Decimal:
    return x * (_normal_distribution(_within(x, "1e-50", "1e3")) if x < 0 else 1 - _upper_tail(x))


def _precise_gelu_tanh(x: Decimal) -> Decimal:
    bounded = _within(x, "1e-50", "1e3")
    return x * _precise_sigmoid(2 * (2 / _pi()).sqrt() * (bounded + Decimal("0.044715") * bounded**3))


def _precise_reciprocal(x: Decimal) -> Decimal:
    guess = 1.0 / float(x)  # a power of two has its reciprocal in float64, but rarely in 60 decimal digits
    return Decimal(guess) if Fraction(guess) * Fraction(x) == 1 else 1 / x


def _precise_rsqrt(x: Decimal) -> Decimal:
    guess = 1.0 / math.sqrt(x)
    return Decimal(guess) if Fraction(guess) ** 2 * Fraction(x) == 1 else 1 / x.sqrt()


def _upper_tail(x: Decimal) -> Decimal:
    """1 - Phi(x) for x >= 0."""
    return _normal_distribution(-_within(x, "1e-50", "15"))


def _normal_distribution(x: Decimal) -> Decimal:
    """Phi(x) for x <= 0: a power series about 0, and below -8, where that cancels, its continued fraction."""
    density = (-x * x / 2).exp() / (2 * _pi()).sqrt()
    if x < -8:
        fraction = -x
        for k in range(600, 0, -1):
            fraction = -x + k / fraction
        return density / fraction
    term = total = x
    k = 1
    while abs(term) > abs(total).scaleb(-DIGITS):
        k += 2
        term = term * x * x / k
        total += term
    return Decimal("0.5") + density * total


@cache
def _pi() -> Decimal:
    """Pi by Machin's formula, 16 arctan(1/5) - 4 arctan(1/239)."""

    def arctan_of_inverse(n: int) -> Decimal:
        power, total, k = Decimal(1) / n, Decimal(0), 1
        while power > Decimal(10) ** (-DIGITS - 5):
            total += power / k if k % 4 == 1 else -power / k
            power /= n * n
            k += 2
        return total

    with localcontext() as context:  # the first caller decides nothing: always the same digits
        context.prec = DIGITS + 5
        return 16 * arctan_of_inverse(5) - 4 * arctan_of_inverse(239)


FUNCTIONS: Mapping[str, Function] = {
    function.name: function
    for function in (
        Function("exp", np.exp, _precise_exp),
        Function("sigmoid", _sigmoid, _precise_sigmoid),
        Function("tanh", np.tanh, _precise_tanh),
        Function("gelu", _gelu, _precise_gelu),
        Function("gelu_tanh", _gelu_tanh, _precise_gelu_tanh),
        Function("silu", _silu, lambda x: x * _precise_sigmoid(x)),
        Function("reciprocal", lambda x: 1.0 / x, _precise_reciprocal),
        Function("rsqrt", lambda x: np.copysign(1.0 / np.sqrt(x), 1.0), _precise_rsqrt),
    )
}
