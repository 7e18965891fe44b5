"""The specification of a multiply-accumulate unit, in exact rational arithmetic: slow, obvious, and the test oracle.

A number here is a Fraction, or a float where a Fraction cannot say it: -0.0, an infinity, NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.arithmetic.mac import Mac, l_mul_offset_bits
from qsim.formats import Float, TwosComplement
from qsim.parse import parse
from qsim.spec import Spec

Number = Fraction | float
NEGATIVE_ZERO = -0.0


def exact(value: float) -> Number:
    """A float64 as it is."""
    is_special = not math.isfinite(value) or (value == 0 and math.copysign(1.0, value) < 0)
    return float(value) if is_special else Fraction(value)


def is_finite(value: Number) -> bool:
    """Neither infinite nor NaN."""
    return isinstance(value, Fraction) or math.isfinite(value)


def is_negative(value: Number) -> bool:
    """Whether the sign is set, of -0 too."""
    return value < 0 or (isinstance(value, float) and math.copysign(1.0, value) < 0)


def add(addends: Sequence[Number], rounding: str = "nearest_even") -> Number:
    """The exact sum. An exact zero is -0 if all addends are (rounding "floor": if any is), IEEE 754-2019, 6.3."""
    if not all(is_finite(addend) for addend in addends):
        return sum(float(addend) for addend in addends if not is_finite(addend))
    total = sum((Fraction(addend) for addend in addends), Fraction(0))
    if total == 0 and addends:
        decide = any if rounding == "floor" else all
        return NEGATIVE_ZERO if decide(is_negative(addend) for addend in addends) else Fraction(0)
    return total


def multiply(a: Number, b: Number) -> Number:
    """The exact product, with the signs of zero and the infinities of IEEE 754."""
    if not is_finite(a) or not is_finite(b):
        return _float(a) * _float(b)
    result = Fraction(a) * Fraction(b)
    return NEGATIVE_ZERO if result == 0 and is_negative(a) != is_negative(b) else result


def l_mul(a: Number, b: Number, form: str, mantissa: int) -> Number:
    """L-Mul (arXiv 2410.00907) of operands with `mantissa` fraction bits; see qsim.arithmetic.l_mul."""
    if not is_finite(a) or not is_finite(b) or a == 0 or b == 0:
        return multiply(a, b)
    exponents = [floor_log2(abs(Fraction(x))) for x in (a, b)]
    fractions = [abs(Fraction(x)) / Fraction(2) ** e - 1 for x, e in zip((a, b), exponents, strict=True)]
    total = sum(fractions) + Fraction(1, 2 ** l_mul_offset_bits(mantissa))
    carry = math.floor(total) if form == "l_mul_int_add" else 0
    value = (1 + total - carry) * Fraction(2) ** (sum(exponents) + carry)
    return -value if is_negative(a) != is_negative(b) else value


def floor_log2(value: Fraction) -> int:
    """floor(log2(value)) of a positive number."""
    guess = value.numerator.bit_length() - value.denominator.bit_length()
    return guess if Fraction(2) ** guess <= value else guess - 1


def cast(value: Number, spec: Spec, random: int = 0, *, in_range: bool = True) -> Number:
    """`value` as a number of spec's element; with in_range=False only rounded, its overflow left for later.

    random: 64 random bits, of which stochastic<k> rounding takes the first k.
    """
    element = spec.element
    assert isinstance(element, TwosComplement | Float)
    if isinstance(value, float) and math.isnan(value):
        return value
    negative, rounded, steps_below = is_negative(value), value, 0
    if is_finite(value):
        step, odd_base = _grid(abs(Fraction(value)), element)
        count = abs(Fraction(value)) / step
        steps = math.floor(count)
        odd = odd_base if odd_base is not None else steps % 2 == 1
        away = _away(
            spec, count - steps, odd, negative, random >> (64 - spec.cast.rounding.random_bits or 64)
        )
        rounded = (steps + away) * step * (-1 if negative else 1)
        steps_below = math.floor(Fraction(value) / step)
    if in_range:
        rounded = _into_range(rounded, negative, steps_below, spec)
    if rounded == 0:
        return NEGATIVE_ZERO if negative and element.has_negative_zero else Fraction(0)
    return rounded


def _grid(magnitude: Fraction, element: TwosComplement | Float) -> tuple[Fraction, bool | None]:
    """The distance of neighbours at `magnitude`; and the parity of the lower one's code where its digits do not say."""
    if isinstance(element, TwosComplement) or magnitude == 0:
        return Fraction(2) ** element.step_exponent, None
    exponent = floor_log2(magnitude)
    if exponent < element.smallest_exponent:
        lowest = element.step_exponent if element.subnormals else element.smallest_exponent
        return Fraction(2) ** lowest, None
    odd = (exponent + element.bias) % 2 == 1 if element.mantissa == 0 else None
    return Fraction(2) ** (exponent - element.mantissa), odd


def _away(spec: Spec, rest: Fraction, odd: bool, negative: bool, random: int) -> bool:
    """Whether a rest of 0 <= rest < 1 steps rounds away from zero."""
    half = Fraction(1, 2)
    scaled = rest * 2**spec.cast.rounding.random_bits
    certain = 2**spec.cast.rounding.random_bits
    rules: dict[str, Callable[[], bool]] = {
        "nearest_even": lambda: rest > half or (rest == half and odd),
        "nearest_odd": lambda: rest > half or (rest == half and not odd),
        "nearest_away": lambda: rest >= half,
        "nearest_zero": lambda: rest > half,
        "nearest_up": lambda: rest > half or (rest == half and not negative),
        "nearest_down": lambda: rest > half or (rest == half and negative),
        "floor": lambda: rest > 0 and negative,
        "ceil": lambda: rest > 0 and not negative,
        "toward_zero": lambda: False,
        "away_from_zero": lambda: rest > 0,
        "to_odd": lambda: rest > 0 and not odd,
        "stochastic": lambda: math.floor(scaled) + random >= certain,
        "stochastic_even": lambda: round(scaled) + random >= certain,
        "stochastic_odd": lambda: _round_half_odd(scaled) + random >= certain,
        "stochastic_centered": lambda: scaled + half + random >= certain,
    }
    return rest > 0 and rules[spec.cast.rounding.kind]()


def _round_half_odd(value: Fraction) -> int:
    whole = math.floor(value)
    rest = value - whole
    return whole + (rest > Fraction(1, 2) or (rest == Fraction(1, 2) and whole % 2 == 0))


def _into_range(rounded: Number, negative: bool, steps_below: int, spec: Spec) -> Number:
    element, overflow, rounding = spec.element, spec.cast.overflow, spec.cast.rounding.kind
    low, high = Fraction(element.lowest), Fraction(element.largest)
    if overflow == "saturate_symmetric" and element.signed:
        low = -high
    if is_finite(rounded) and low <= rounded <= high:
        return rounded
    if overflow.startswith("wrap"):
        assert isinstance(element, TwosComplement)
        return _wrap(rounded, steps_below, element, overflow) if is_finite(rounded) else math.nan
    if overflow == "ieee":
        stops = {"toward_zero": True, "to_odd": True, "floor": not negative, "ceil": negative}
        if negative and not element.signed:
            return math.nan
        if is_finite(rounded) and stops.get(rounding, False):
            return low if negative else high
        outside = math.inf if element.has_infinity else math.nan
        return -outside if negative else outside
    if overflow == "saturate_zero":
        return Fraction(0)
    if overflow == "saturate_finite" and not is_finite(rounded) and element.has_infinity and element.signed:
        return rounded
    return low if negative else high


def _wrap(rounded: Number, steps_below: int, element: TwosComplement, overflow: str) -> Fraction:
    """The code modulo 2^bits; in sign-magnitude (ap_fixed's WRAP_SM) the first bit above the code, before rounding,
    becomes the sign, and the other bits are inverted where it differs.
    """
    step = Fraction(2) ** element.step_exponent
    code = int(Fraction(rounded) / step)
    wrapped = code % 2**element.bits
    if wrapped > element.largest_code:
        wrapped -= 2**element.bits
    if overflow == "wrap_sign_magnitude" and (steps_below >> element.bits & 1 == 1) != (wrapped < 0):
        wrapped = ~wrapped
    return wrapped * step


def _float(value: Number) -> float:
    return float(value)


def align(addends: Sequence[Number], bits: int) -> list[Number]:
    """Every addend cut toward zero to `bits` bits below the leading bit of the largest one."""
    if not all(is_finite(addend) for addend in addends) or not any(addends):
        return list(addends)
    largest = max(abs(Fraction(addend)) for addend in addends)
    quantum = Fraction(2) ** (floor_log2(largest) - bits + 1)
    return [int(Fraction(addend) / quantum) * quantum for addend in addends]


class _Steps:
    """The casts of one output element, and the random bits they take in turn."""

    def __init__(self, mac: Mac, random: Callable[[int], int]) -> None:
        self._mac, self._random = mac, random

    def product(self, k: int, a: Number, b: Number, mantissa: int) -> Number:
        mac = self._mac
        value = multiply(a, b) if mac.multiply == "exact" else l_mul(a, b, mac.multiply, mantissa)
        return value if mac.product == "exact" else cast(value, parse(mac.product), self._random(2 * k))

    def sum(self, addends: Sequence[Number], counter: int) -> Number:
        """One step of the accumulator."""
        if self._mac.align_bits:
            addends = align(addends, self._mac.align_bits)
        return self.chunk_sum(addends, counter, self._mac.accumulator)

    def chunk_sum(self, addends: Sequence[Number], counter: int, accumulator: str) -> Number:
        """The exact sum, cast once."""
        if accumulator == "exact":
            return add(addends)
        spec = parse(accumulator)
        total = add(addends, spec.cast.rounding.kind)
        return cast(total, spec, self._random(2 * counter + 1), in_range=self._mac.saturate == "step")

    def end(self, value: Number, accumulator: str) -> Number:
        return value if accumulator == "exact" else cast(value, parse(accumulator))


def _groups(count: int, size: int) -> Iterator[range]:
    return (range(start, min(start + size, count)) for start in range(0, count, size))


def _tree(steps: _Steps, products: Sequence[Number], mac: Mac, counter: int) -> tuple[Number, int]:
    """Pairwise: groups of `lanes` products are the leaves, an odd node is carried up as it is."""
    nodes: list[list[Number]] = [[products[k] for k in group] for group in _groups(len(products), mac.lanes)]
    if len(nodes) == 1:
        return steps.sum(nodes[0], counter), counter + 1
    while len(nodes) > 1:
        merged: list[list[Number]] = []
        for i in range(0, len(nodes) - 1, 2):
            merged.append([steps.sum(nodes[i] + nodes[i + 1], counter)])
            counter += 1
        nodes = merged + nodes[len(nodes) - len(nodes) % 2 :]
    return nodes[0][0], counter


def dot(
    a: Sequence[float],
    b: Sequence[float],
    mac: Mac,
    bias: float | None = None,
    *,
    mantissa: int = 0,
    random: Callable[[int], int] = lambda counter: 0,
    chunk_scale: Sequence[float] | None = None,
) -> Number:
    """The dot product of two vectors of numbers as `mac` computes it.

    mantissa: fraction bits of the operands, for L-Mul. random(counter): 64 random bits for each cast.
    chunk_scale: what the partial sum of each chunk is multiplied by, exactly, on its way to the chunk accumulator.
    """
    steps = _Steps(mac, random)
    products = [
        steps.product(k, exact(x), exact(y), mantissa) for k, (x, y) in enumerate(zip(a, b, strict=True))
    ]
    start = exact(0.0 if bias is None else bias)
    if not mac.chunk:
        if mac.order == "pairwise" and products:
            total, counter = _tree(steps, products, mac, 0)
            total = total if bias is None else steps.sum([total, start], len(products))
        else:
            total = start
            for group in _groups(len(products), mac.lanes):
                total = steps.sum([total, *(products[k] for k in group)], group.start)
        return steps.end(total, mac.accumulator)
    outer = mac.chunk_accumulator or mac.accumulator
    total = start
    for i, chunk in enumerate(_groups(len(products), mac.chunk)):
        if mac.order == "pairwise":
            partial, _ = _tree(steps, products[chunk.start : chunk.stop], mac, len(products) + chunk.start)
        else:
            partial = Fraction(0)
            for group in _groups(len(chunk), mac.lanes):
                addends = [products[chunk.start + k] for k in group]
                counter = len(products) + chunk.start + group.start
                partial = steps.sum([partial, *addends], counter)
        partial = steps.end(partial, mac.accumulator)
        if chunk_scale is not None:
            partial = multiply(partial, exact(chunk_scale[i]))
        total = steps.chunk_sum([total, partial], chunk.start, outer)
    return steps.end(total, outer)


def round_to_float64(value: Number) -> float:
    """Nearest even, one rounding."""
    return value if isinstance(value, float) else value.numerator / value.denominator


def matmul(
    a: NDArray[Any], b: NDArray[Any], mac: Mac, bias: NDArray[Any] | None = None
) -> NDArray[np.float64]:
    """[M, K] @ [K, N] by `dot`; an exact accumulator is rounded to float64."""
    out = np.zeros((a.shape[0], b.shape[1]))
    for i, j in np.ndindex(*out.shape):
        first = None if bias is None else float(np.broadcast_to(bias, out.shape)[i, j])
        out[i, j] = round_to_float64(dot([float(x) for x in a[i]], [float(x) for x in b[:, j]], mac, first))
    return out
