"""Requantization rules against exact rational arithmetic: rounding, ties, saturation, and what each rule is."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from qsim.arithmetic import requantize as rq
from qsim.errors import UserError
from qsim.formats import Integer

INT32 = st.integers(-(2**31), 2**31 - 1)
MULTIPLIERS = st.one_of(
    st.floats(2.0**-40, 2.0**4, allow_subnormal=False),
    st.integers(-40, 4).map(lambda e: 2.0**e),
    st.tuples(st.integers(1, 255), st.integers(0, 30)).map(lambda m: m[0] / 2.0 ** m[1]),
)
HALF = Fraction(1, 2)


def nearest(value: Fraction, ties: str) -> int:
    """To nearest, with ties "up", "even" or "away" from zero."""
    low = math.floor(value)
    if value - low != HALF:
        return math.floor(value + HALF)
    match ties:
        case "up":
            return low + 1
        case "even":
            return low + low % 2
        case _:
            return low + 1 if value > 0 else low


def mantissa_and_shift(multiplier: float, bits: int = 31) -> tuple[int, int]:
    fraction, exponent = math.frexp(multiplier)
    mantissa = nearest(Fraction(fraction) * 2**bits, "up")
    if mantissa == 2**bits:
        mantissa, exponent = mantissa // 2, exponent + 1
    return mantissa, bits - exponent


@given(st.floats(2.0**-60, 2.0**30, allow_subnormal=False), st.integers(2, 31))
def test_fixed_point_is_the_nearest_mantissa(multiplier: float, bits: int) -> None:
    mantissa, shift = (int(part) for part in rq.fixed_point(multiplier, bits))
    expected = mantissa_and_shift(multiplier, bits)
    assert (mantissa, shift) == (expected if expected[1] <= bits + 31 else (0, bits))
    if mantissa:
        assert 2 ** (bits - 1) <= mantissa < 2**bits
        assert abs(Fraction(mantissa) / Fraction(2) ** shift / Fraction(multiplier) - 1) <= Fraction(
            1, 2**bits
        )


def test_a_vanished_multiplier_rounds_every_accumulator_to_zero() -> None:
    extremes = np.array([-(2**31), 2**31 - 1])
    for bits in (1, 8, 31):
        for exponent in range(-70, -30):
            mantissa, shift = mantissa_and_shift(2.0**exponent, bits)
            exact = [math.floor(Fraction(int(a)) * mantissa / 2**shift + HALF) for a in extremes]
            assert rq.dyadic(extremes, *rq.fixed_point(2.0**exponent, bits)).tolist() == exact


@given(st.lists(INT32, min_size=1, max_size=8), MULTIPLIERS)
def test_dyadic_rules_round_once(acc: list[int], multiplier: float) -> None:
    mantissa, shift = mantissa_and_shift(multiplier)
    exact = [Fraction(a) * mantissa / Fraction(2) ** shift for a in acc]
    assert rq.rescale(acc, multiplier, "dyadic").tolist() == [nearest(v, "up") for v in exact]
    assert rq.rescale(acc, multiplier, "tflite_single").tolist() == [nearest(v, "up") for v in exact]
    assert rq.rescale(acc, multiplier, "dyadic_even").tolist() == [nearest(v, "even") for v in exact]


@given(st.lists(INT32, min_size=1, max_size=8), MULTIPLIERS)
def test_tflite_double_rounds_twice(acc: list[int], multiplier: float) -> None:
    mantissa, shift = mantissa_and_shift(multiplier)
    left, right = max(31 - shift, 0), max(shift - 31, 0)
    assume(all(-(2**31) <= a << left < 2**31 for a in acc))
    high = [nearest(Fraction((a << left) * mantissa, 2**31), "up") for a in acc]
    assert rq.rescale(acc, multiplier, "tflite_double").tolist() == [
        nearest(Fraction(h, 2**right), "away") for h in high
    ]


@given(st.lists(INT32, min_size=1, max_size=8), MULTIPLIERS)
def test_float_rules_round_the_float64_product(acc: list[int], multiplier: float) -> None:
    products = [Fraction(float(a) * multiplier) for a in acc]
    assert rq.rescale(acc, multiplier, "float").tolist() == [nearest(v, "even") for v in products]
    assert rq.rescale(acc, multiplier, "tflite_float").tolist() == [nearest(v, "away") for v in products]


@given(st.lists(st.integers(-(2**24), 2**24), min_size=1, max_size=8), st.floats(2.0**-20, 1.0, width=32))
def test_onnx_rounds_the_float32_product_to_even(acc: list[int], multiplier: float) -> None:
    # A float32 product of float32 numbers is their float64 product, which is exact, rounded once.
    products = [Fraction(float(np.float32(a * multiplier))) for a in acc]
    assert rq.rescale(acc, multiplier, "onnx").tolist() == [nearest(v, "even") for v in products]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("dyadic", [-2, -1, 0, 1, 2, 3]),
        ("tflite_single", [-2, -1, 0, 1, 2, 3]),
        ("dyadic_even", [-2, -2, 0, 0, 2, 2]),
        ("onnx", [-2, -2, 0, 0, 2, 2]),
        ("float", [-2, -2, 0, 0, 2, 2]),
        ("tflite_double", [-3, -2, -1, 1, 2, 3]),
        ("tflite_float", [-3, -2, -1, 1, 2, 3]),
    ],
)
def test_ties(rule: str, expected: list[int]) -> None:
    """acc / 4 at -2.5, -1.5, ..., 2.5; gemmlowp's first rounding is exact here, only its second meets a tie."""
    assert rq.rescale([-10, -6, -2, 2, 6, 10], 0.25, rule).tolist() == expected


def test_tflite_double_rounds_a_near_tie_where_one_rounding_would_not() -> None:
    """M = 2^-3 (1 - 2^-20): the first rounding of 8 * 2^28 + ... lands on the tie that the second then resolves."""
    multiplier = 0.125 * (1 - 2.0**-20)
    acc = np.arange(-4000, 4000)
    exact = [Fraction(int(a)) * Fraction(multiplier) for a in acc]
    once = [nearest(v, "away") for v in exact]
    assert (rq.rescale(acc, multiplier, "tflite_double") != once).any()
    assert (rq.rescale(acc, multiplier, "tflite_float") == once).all()


@given(
    st.lists(INT32, min_size=1, max_size=8), MULTIPLIERS, st.sampled_from(rq.RULES), st.integers(-128, 127)
)
def test_requantize_offsets_and_saturates(
    acc: list[int], multiplier: float, rule: str, zero_point: int
) -> None:
    element = Integer(8)
    codes = rq.requantize(acc, multiplier, rule, element, zero_point)
    assert codes.dtype == np.int8
    assert codes.tolist() == np.clip(rq.rescale(acc, multiplier, rule) + zero_point, -128, 127).tolist()


@given(
    st.sampled_from([r for r in rq.RULES if r != "tflite_double"]),
    MULTIPLIERS,
    st.lists(INT32, min_size=2, max_size=8),
)
def test_every_rule_is_monotonic(rule: str, multiplier: float, acc: list[int]) -> None:
    assert (np.diff(rq.rescale(sorted(acc), multiplier, rule)) >= 0).all()


def test_multipliers_broadcast_over_channels() -> None:
    acc = np.arange(-12, 12).reshape(2, 3, 4)
    multipliers = np.array([0.1, 0.25, 3.0])
    ours = rq.requantize(acc, multipliers[:, None], "dyadic", Integer(8), np.array([1, 2, 3])[:, None])
    for channel in range(3):
        alone = rq.requantize(acc[:, channel], multipliers[channel], "dyadic", Integer(8), channel + 1)
        assert np.array_equal(ours[:, channel], alone)


def test_real_multipliers_are_float64_and_onnx_ones_float32() -> None:
    scales = np.float32([0.1, 0.3, 0.7])
    exact = Fraction(float(scales[0])) * Fraction(float(scales[2])) / Fraction(float(scales[1]))
    assert abs(Fraction(float(rq.real_multiplier(scales[0], scales[1], scales[2]))) / exact - 1) < Fraction(
        1, 2**51
    )
    assert (
        rq.float32_multiplier(scales[0], scales[1], scales[2])
        == np.float32(scales[0] * scales[2]) / scales[1]
    )


def test_empty_and_scalar_accumulators() -> None:
    for rule in rq.RULES:
        assert rq.requantize(np.zeros((0, 3), np.int32), 0.5, rule, Integer(8)).shape == (0, 3)
        assert rq.requantize(np.int32(6), 0.5, rule, Integer(8)) == 3


@pytest.mark.parametrize(
    ("acc", "multiplier", "rule", "message"),
    [
        ([1], 0.5, "round", "unknown requantization rule 'round': one of dyadic"),
        ([1], -0.5, "dyadic", r"must be in \[0, 2\^31\)"),
        ([1], math.nan, "tflite_double", r"must be in \[0, 2\^31\)"),
        ([2**31], 0.5, "dyadic", "more than 32 bits"),
        ([0.5], 0.5, "tflite_double", "accumulators are integers"),
    ],
)
def test_user_errors(acc: list[float], multiplier: float, rule: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        rq.requantize(acc, multiplier, rule, Integer(8))
