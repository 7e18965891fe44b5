"""The rational reference casts as qsim.quantize does."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import qsim
from qsim.arithmetic import reference
from tests.arithmetic.strategies import casts

NUMBERS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False, min_value=-1e6, max_value=1e6),
    st.integers(-70000, 70000).map(lambda n: n / 128),
    st.sampled_from(
        [0.0, -0.0, np.inf, -np.inf, 65519.9, 65520.0, -65536.0, 2.0**-24, 2.0**-25, -(2.0**-26)]
    ),
)


@settings(max_examples=500, deadline=None)
@given(NUMBERS, casts(), st.integers(0, 2**64 - 1))
def test_reference_casts_as_quantize_does(x: float, cast: str, random: int) -> None:
    spec = qsim.parse(cast)
    if not np.isfinite(x) and spec.cast.overflow.startswith("wrap"):
        return
    bits = spec.cast.rounding.random_bits
    given_bits = np.array([random >> (64 - bits)]) if bits else None
    expected = float(qsim.quantize(np.array([x]), spec, random_bits=given_bits)[0])
    ours = reference.round_to_float64(reference.cast(reference.exact(x), spec, random))
    assert (ours == expected and np.signbit(ours) == np.signbit(expected)) or (
        np.isnan(ours) and np.isnan(expected)
    )


def test_floor_log2_is_exact_next_to_powers_of_two() -> None:
    for exponent in (-40, -1, 0, 1, 60):
        power = Fraction(2) ** exponent
        assert reference.floor_log2(power) == exponent
        assert reference.floor_log2(power - Fraction(1, 2**200)) == exponent - 1
