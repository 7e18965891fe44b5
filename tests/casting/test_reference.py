"""The general casts against the specification in fractions, on the values where casts go wrong."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import qsim
from qsim.casting import reference
from qsim.casting.elements import cast_to_element
from qsim.casting.scales import power_of_two_scale
from qsim.errors import UserError
from qsim.formats import FLOAT32, FLOAT64
from qsim.parse import parse
from qsim.spec import POWER_OF_TWO_RULES, STOCHASTIC_ROUNDINGS, Cast, Rounding
from tests.casting.strategies import casts, elements, hard_numbers, landmarks


def same(a: float, b: float) -> bool:
    return (math.isnan(a) and math.isnan(b)) or (a == b and math.copysign(1, a) == math.copysign(1, b))


@settings(max_examples=120, deadline=None)
@given(st.data(), casts)
def test_casts_are_the_specification(data, pair) -> None:
    element, cast = pair
    numbers = data.draw(st.lists(hard_numbers(element), min_size=1, max_size=12))
    full = 1 << cast.rounding.random_bits
    bits = data.draw(st.lists(st.integers(0, full - 1), min_size=len(numbers), max_size=len(numbers)))
    if cast.overflow.startswith("wrap") and not np.isfinite(numbers).all():
        with pytest.raises(UserError):
            cast_to_element(np.array(numbers), element, cast, np.array(bits))
        return
    ours = cast_to_element(np.array(numbers), element, cast, np.array(bits))
    for x, r, y in zip(numbers, bits, ours, strict=True):
        wanted = reference.quantize_number(x, element, cast, r)
        assert same(y, wanted), f"{element}{cast} of {x!r} (r={r}): {y!r}, not {wanted!r}"


@settings(max_examples=150, deadline=None)
@given(
    st.data(), elements, st.sampled_from(STOCHASTIC_ROUNDINGS), st.integers(1, 32), st.sampled_from([32, 64])
)
def test_stochastic_casts_turn_exactly_where_the_random_bits_say(
    data, element, kind: str, bits: int, width: int
) -> None:
    """Discarded parts on multiples of 2^-(k+1) and one ulp beside, under the random bits that just (do not) carry."""
    dtype = np.dtype(f"float{width}")
    points = [v for v in landmarks(element) if v <= element.largest]
    index = data.draw(st.integers(0, max(len(points) - 2, 0)))
    low, high = points[index], points[min(index + 1, len(points) - 1)]
    part = data.draw(st.integers(0, 2 << bits))
    with np.errstate(all="ignore"):
        exact = dtype.type(low + (high - low) * (part / (2 << bits)))
        x = np.array([exact, np.nextafter(exact, dtype.type(np.inf)), np.nextafter(exact, dtype.type(0))])
    x = np.repeat(np.concatenate([x, -x]), 4)
    draw_near = (1 << bits) - part // 2 + np.arange(-2, 2)
    random_bits = np.tile(np.clip(draw_near, 0, (1 << bits) - 1), 6)
    cast = Cast(Rounding(kind, bits))
    ours = qsim.quantize(x, f"{element}{cast}", random_bits=random_bits)
    for number, r, y in zip(x.tolist(), random_bits.tolist(), ours, strict=True):
        with np.errstate(all="ignore"):
            wanted = float(dtype.type(reference.quantize_number(number, element, cast, r)))
        assert same(float(y), wanted), f"{element}{cast} of {number!r} (r={r}): {y!r}, not {wanted!r}"


def test_a_float64_just_below_a_carry_does_not_carry() -> None:
    x, spec = np.array([-0.04882812499999996]), "int8/stochastic8_centered"
    assert qsim.quantize(x, spec, random_bits=[243]) == 0 and qsim.quantize(x, spec, random_bits=[244]) == -1


@settings(max_examples=80, deadline=None)
@given(casts, st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_float32_and_float64_give_the_same_number(pair, x: float) -> None:
    element, cast = pair
    spec = parse(f"{element}{cast}")
    narrow = qsim.quantize(np.array([x], np.float32), spec, seed=1)
    wide = qsim.quantize(np.array([x], np.float64), spec, seed=1)
    with np.errstate(all="ignore"):
        assert narrow.dtype == np.float32 and same(float(narrow[0]), float(wide.astype(np.float32)[0]))


@settings(max_examples=120, deadline=None)
@given(
    st.floats(0, 1e30, exclude_min=True),
    st.sampled_from(["e4m3fn", "e5m2", "e2m1fn", "e2m3fn", "int8", "fixed8.2", "uint4", "e3m2fn"]),
    st.sampled_from(POWER_OF_TWO_RULES),
)
def test_power_of_two_rules_are_exact(amax: float, name: str, rule: str) -> None:
    element = parse(name).element
    k = reference.power_of_two_exponent(Fraction(amax), element, rule)
    ours = power_of_two_scale(np.array([amax]), element, rule)
    assert ours[0] == (2.0**k if k >= -1074 else 2.0**-1074)


@pytest.mark.parametrize("name", ["e4m3fn", "e5m2", "e2m1fn", "int8"])
def test_exponents_beside_powers_of_two(name: str) -> None:
    """One ulp below 2^k, where five peers take float32 log2 and get the next exponent."""
    powers = 2.0 ** np.arange(-120, 121)
    below = np.nextafter(powers.astype(np.float32), np.float32(0))
    element = parse(name).element
    emax = math.floor(math.log2(element.largest))
    for peaks, shift in ((powers, 0), (below.astype(np.float64), -1)):
        scale = power_of_two_scale(peaks, element, "floor")
        assert (scale == 2.0 ** (np.arange(-120, 121) + shift - emax)).all()


@settings(max_examples=120, deadline=None)
@given(st.floats(width=32, allow_nan=False), st.floats(2.0**-20, 2.0**20, width=32), st.integers(-128, 127))
def test_affine_divide_rounds_the_quotient_then_adds(x: float, scale: float, zero_point: int) -> None:
    """round(x / s) + z, the quotient in float32, as ONNX has it; the result (q - z) * s in float32."""
    q = qsim.encode(np.float32([x]), "int8+zp@tensor:float32", scale=scale, zero_point=zero_point)
    if math.isinf(x):
        wanted = 127 if x > 0 else -128
    else:
        ieee = Cast(overflow="ieee")
        quotient = reference.quantize_number(Fraction(x) / Fraction(scale), FLOAT32, ieee)
        whole = round(Fraction(quotient)) if math.isfinite(quotient) else int(math.copysign(10**9, quotient))
        wanted = max(-128, min(127, whole + zero_point))
    assert q.codes[0] == wanted
    value = reference.quantize_number(Fraction(wanted - zero_point) * Fraction(scale), FLOAT32, Cast())
    assert qsim.decode(q)[0] == np.float32(value)


@pytest.mark.parametrize("element", [FLOAT32, FLOAT64])
def test_wide_formats_are_the_identity_on_their_own_dtype(element) -> None:
    dtype = np.float32 if element is FLOAT32 else np.float64
    info = np.finfo(dtype)
    x = np.array([0.0, -0.0, info.smallest_subnormal, -info.tiny, info.max, 1 + info.eps, 1 / 3], dtype)
    y = qsim.quantize(x, parse(str(element)))
    assert (y == x).all() and (np.signbit(y) == np.signbit(x)).all()


@settings(max_examples=150, deadline=None)
@given(
    st.floats(-1e4, 1e4, width=32),
    st.floats(2.0**-12, 2.0**12, width=32),
    st.integers(-128, 127),
    st.sampled_from(["reciprocal", "reciprocal_fma", "reciprocal_add"]),
)
def test_affine_reciprocals_round_where_torch_rounds(
    x: float, scale: float, zero_point: int, affine: str
) -> None:
    """fma: product and sum rounded once together; add: one after the other; each to float32."""

    def to_float32(value: Fraction) -> Fraction:
        return Fraction(reference.quantize_number(value, FLOAT32, Cast()))

    inverse = to_float32(1 / Fraction(scale))
    if affine == "reciprocal":
        wanted = round(to_float32(Fraction(x) * inverse)) + zero_point
    elif affine == "reciprocal_fma":
        wanted = round(to_float32(Fraction(x) * inverse + zero_point))
    else:
        wanted = round(to_float32(to_float32(Fraction(x) * inverse) + zero_point))
    options = {"scale": scale, "zero_point": zero_point, "affine": affine}
    q = qsim.encode(np.float32([x]), "int8+zp@tensor:float32", **options)
    assert q.codes[0] == max(-128, min(127, wanted))
