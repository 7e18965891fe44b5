"""Other multipliers: L-Mul, bit planes, shift-and-add; and single operations rounded once."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import qsim
from qsim.arithmetic import (
    Mac,
    add,
    bit_plane_matmul,
    bit_planes,
    l_mul,
    matmul,
    multiply,
    multiply_add,
    reference,
    shift_add_matmul,
)
from qsim.formats import Integer


@settings(deadline=None)
@given(st.integers(1, 8), st.booleans(), st.integers(1, 8), st.booleans(), st.integers(0, 2**32 - 1))
def test_bit_planes_give_the_integer_product(
    a_bits: int, a_signed: bool, b_bits: int, b_signed: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    a_element, b_element = Integer(a_bits, a_signed), Integer(b_bits, b_signed)
    a, b = (
        rng.integers(e.lowest_code, e.largest_code + 1, shape)
        for e, shape in ((a_element, (3, 21)), (b_element, (21, 4)))
    )
    assert np.array_equal(bit_plane_matmul(a, b, a_element, b_element), a @ b)
    assert np.array_equal(matmul(a, b, Mac(accumulator="int32")), a @ b)


def test_bit_planes_sum_to_the_codes() -> None:
    codes = np.arange(-8, 8)
    planes, weights = bit_planes(codes, Integer(4))
    assert np.array_equal(np.tensordot(weights, planes, 1), codes)
    assert weights.tolist() == [1, 2, 4, -8]
    with pytest.raises(qsim.UserError, match="do not fit in int4"):
        bit_planes(np.array([8]), Integer(4))


def test_shift_and_add_is_the_product_with_powers_of_two() -> None:
    rng = np.random.default_rng(0)
    q = qsim.encode(rng.standard_normal((19, 5)), "pot3")
    weights = np.asarray(qsim.decode(q))
    x = rng.integers(-128, 128, (4, 19))
    largest_shift = 7
    shifts = np.where(weights == 0, 0, largest_shift + np.log2(np.maximum(np.abs(weights), 1e-9))).astype(int)
    by_shifts = shift_add_matmul(x, np.maximum(shifts, 0), np.sign(weights).astype(int))
    assert np.array_equal(by_shifts * 2.0**-largest_shift, matmul(x, weights))
    assert np.array_equal(by_shifts * 2.0**-largest_shift, matmul(x, q))
    with pytest.raises(qsim.UserError, match="shifts"):
        shift_add_matmul(x, shifts - 9, np.sign(weights).astype(int))


@pytest.mark.parametrize("form", ["l_mul_real", "l_mul_int_add"])
@pytest.mark.parametrize("mantissa", [1, 3, 4, 7])
def test_l_mul_is_its_definition(form: str, mantissa: int) -> None:
    rng = np.random.default_rng(mantissa)
    x, y = (
        np.ldexp(1 + rng.integers(0, 2**mantissa, 200) / 2**mantissa, rng.integers(-9, 9, 200)) for _ in "xy"
    )
    x *= rng.choice([-1, 1], 200)
    x[:3] = 0.0
    ours = l_mul(x, y, mantissa, form)  # type: ignore[arg-type]
    expected = [reference.l_mul(reference.exact(a), reference.exact(b), form, mantissa) for a, b in zip(x, y)]
    assert [Fraction(v) for v in ours.tolist()] == [Fraction(v) for v in expected]


def test_integer_adding_l_mul_adds_the_bit_patterns() -> None:
    """The published circuit: exponent|fraction fields of float16 numbers, added as integers, less the bias."""
    rng = np.random.default_rng(5)
    x, y = (rng.uniform(0.1, 30, 500).astype(np.float16) for _ in "xy")
    patterns = x.view(np.uint16).astype(np.int32) + y.view(np.uint16) - (15 << 10) + (1 << (10 - 4))
    expected = patterns.astype(np.uint16).view(np.float16)
    assert np.array_equal(l_mul(x, y, 10, "l_mul_int_add"), expected.astype(np.float64))


def test_l_mul_inside_a_dot_product() -> None:
    rng = np.random.default_rng(6)
    a, b = (qsim.encode(rng.standard_normal(s), "e4m3fn") for s in ((3, 9), (9, 2)))
    mac = Mac(multiply="l_mul_real", accumulator="float16")
    left, right = (np.asarray(qsim.decode(q)) for q in (a, b))
    out = matmul(a, b, mac)
    for i, j in np.ndindex(3, 2):
        value = reference.dot(left[i].tolist(), right[:, j].tolist(), mac, mantissa=3)
        assert reference.round_to_float64(value) == out[i, j]
    with pytest.raises(qsim.UserError, match="float format"):
        matmul(left, right, mac)
    assert np.array_equal(matmul(left, right, mac, mantissa=3), out)


@settings(deadline=None)
@given(st.lists(st.floats(width=16), min_size=3, max_size=3))
def test_single_operations_round_once(values: list[float]) -> None:
    a, b, c = (np.float64(value) for value in values)
    with np.errstate(all="ignore"):
        cases = {add: np.float16(a + b), multiply: np.float16(a * b)}
    for operation, expected in cases.items():
        ours = np.float16(operation(a, b, "float16/ieee"))
        assert ours.view(np.uint16) == expected.view(np.uint16) or (np.isnan(ours) and np.isnan(expected))
    if np.isfinite([a, b, c]).all():
        total = reference.add(
            [reference.multiply(reference.exact(a), reference.exact(b)), reference.exact(c)]
        )
        expected = reference.cast(total, qsim.parse("float16/ieee"))
        assert float(multiply_add(a, b, c, "float16/ieee")) == reference.round_to_float64(expected)
