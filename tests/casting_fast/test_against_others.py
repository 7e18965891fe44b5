"""The kernels against implementations that share no code with them: ml_dtypes, float64 formulas, rational numbers."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qsim.casting import fast
from qsim.parse import parse
from qsim.spec import ROUNDINGS
from tests.casting_fast.inputs import hard_values, same_bits, without_nan

ML_DTYPES = {
    "e4m3fn": (ml_dtypes.float8_e4m3fn, 448),
    "e5m2": (ml_dtypes.float8_e5m2, 57344),
    "e3m2fn": (ml_dtypes.float6_e3m2fn, 28),
    "e2m3fn": (ml_dtypes.float6_e2m3fn, 7.5),
    "e2m1fn": (ml_dtypes.float4_e2m1fn, 6),
    "e3m4": (ml_dtypes.float8_e3m4, 15.5),
    "e4m3b11fnuz": (ml_dtypes.float8_e4m3b11fnuz, 30),
    "bfloat16": (ml_dtypes.bfloat16, float(ml_dtypes.finfo(ml_dtypes.bfloat16).max)),
}


def kernel(x: Any, spec: str, **options: Any) -> Any:
    """`fast.quantize`, which must cover the spec."""
    import numba  # noqa: F401  (small arrays would take the general path before)

    result = fast.quantize(x, parse(spec), **options)
    assert result is not None
    return result


@pytest.mark.parametrize("name", ML_DTYPES)
def test_float32_as_ml_dtypes(name: str) -> None:
    dtype, top = ML_DTYPES[name]
    x = without_nan(hard_values())
    clipped = np.clip(x, -np.float32(top), np.float32(top))  # ml_dtypes does not saturate
    wanted = clipped.astype(dtype).astype(np.float32)
    assert same_bits(kernel(x, name), wanted).all()


@pytest.mark.parametrize("name", ["e4m3fn", "e2m1fn"])
def test_every_16_bit_pattern(name: str) -> None:
    dtype, top = ML_DTYPES[name]
    x = without_nan(np.arange(1 << 16, dtype=np.uint32).__lshift__(16).view(np.float32))
    clipped = np.clip(x, -np.float32(top), np.float32(top))
    assert same_bits(kernel(x, name), clipped.astype(dtype).astype(np.float32)).all()


def rounded(steps: Fraction, kind: str) -> int:
    """`steps` as an integer, by the definition of the mode."""
    low = steps.numerator // steps.denominator
    rest = steps - low
    negative, exact = steps < 0, rest == 0
    if exact:
        return low
    toward_zero = low + 1 if negative else low
    away = low if negative else low + 1
    nearest = low if rest < Fraction(1, 2) else low + 1
    tie = {
        "nearest_even": low + low % 2,
        "nearest_odd": low + 1 - low % 2,
        "nearest_away": away,
        "nearest_zero": toward_zero,
        "nearest_up": low + 1,
        "nearest_down": low,
    }
    if kind in tie:
        return tie[kind] if rest == Fraction(1, 2) else nearest
    return {
        "floor": low,
        "ceil": low + 1,
        "toward_zero": toward_zero,
        "away_from_zero": away,
        "to_odd": low + 1 - low % 2,
    }[kind]


def exact_cast(x: float, mantissa: int, smallest_exponent: int, largest: float, kind: str) -> float:
    """A saturating cast to a minifloat in rational arithmetic; the sign of zero is that of x."""
    value = Fraction(x)
    exponent = smallest_exponent
    while abs(value) >= Fraction(2) ** (exponent + 1):
        exponent += 1
    step = Fraction(2) ** (exponent - mantissa)
    result = rounded(value / step, kind) * step
    return float(np.copysign(float(min(abs(result), Fraction(largest))), x))


near_a_tie = st.builds(
    lambda n, e, ulps: float(np.float32(n * 2.0**e).view(np.int32).__add__(ulps).view(np.float32)),
    st.integers(1, 63),
    st.integers(-16, 10),
    st.integers(-1, 1),
)
numbers = st.one_of(near_a_tie, st.floats(-1000, 1000, width=32), st.floats(0, 2.0**-8, width=32))


@settings(max_examples=150, deadline=None)
@given(st.lists(numbers, min_size=1, max_size=40), st.sampled_from(ROUNDINGS), st.booleans())
def test_every_rounding_in_rational_arithmetic(values: list[float], kind: str, flips: bool) -> None:
    x = np.array(values, np.float32) * np.float32(-1 if flips else 1)
    wanted = np.array([exact_cast(float(v), 3, -6, 448.0, kind) for v in x], np.float32)
    result = kernel(x, f"e4m3fn/{kind}")
    assert same_bits(result, wanted).all(), (x, result, wanted)


@settings(max_examples=60, deadline=None)
@given(st.lists(numbers, min_size=1, max_size=70), st.integers(1, 40), st.integers(-100, 100))
def test_mx_blocks_in_float64(values: list[float], block: int, exponent: int) -> None:
    x = np.array(values, np.float32) * np.float32(2.0**exponent)
    result = kernel(x, f"e2m1fn@block{block}:e8m0/floor")
    for start in range(0, len(x), block):
        part = x[start : start + block].astype(np.float64)
        peak = np.abs(part).max()
        scale = np.exp2(np.clip(np.frexp(peak)[1] - 1 - 2, -127, 127)) if peak else 2.0**-127
        wanted = [exact_cast(v, 1, 0, 6.0, "nearest_even") * scale for v in part / scale]
        assert same_bits(result[start : start + block], np.array(wanted, np.float32)).all()
