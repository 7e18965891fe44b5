"""Functions rounded once: against 40-digit arithmetic of another library, exhaustively for formats of 8 and 16 bits."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import qsim
from qsim.arithmetic import functions
from qsim.arithmetic.functions.exact import to_odd_float
from qsim.errors import UserError

REFERENCE = {
    "exp": mpmath.exp,
    "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
    "tanh": mpmath.tanh,
    "gelu": lambda x: x * mpmath.ncdf(x),
    "gelu_tanh": lambda x: (
        x / (1 + mpmath.exp(-2 * mpmath.sqrt(2 / mpmath.pi) * (x + mpmath.mpf("0.044715") * x**3)))
    ),
    "silu": lambda x: x / (1 + mpmath.exp(-x)),
    "reciprocal": lambda x: 1 / x,
    "rsqrt": lambda x: 1 / mpmath.sqrt(x),
}


def domain(name: str, spec: str) -> np.ndarray:
    x = np.asarray(qsim.values(spec))
    return x[x > 0] if name == "rsqrt" else x[x != 0] if name == "reciprocal" else x


def precisely(name: str, x: np.ndarray) -> list[mpmath.mpf]:
    with mpmath.workdps(80):
        return [REFERENCE[name](mpmath.mpf(float(v))) for v in x]


def nearest_of(grid: np.ndarray, reals: list[mpmath.mpf]) -> list[set[float]]:
    """For every real number the grid value nearest to it; both, for a tie; the ends, beyond them."""
    found = []
    with mpmath.workdps(80):
        for real in reals:
            at = int(np.clip(np.searchsorted(grid, float(real)), 1, len(grid) - 1))
            near = grid[max(at - 2, 0) : at + 2]
            distance = [abs(mpmath.mpf(float(v)) - real) for v in near]
            found.append({float(v) for v, d in zip(near, distance, strict=True) if d == min(distance)})
    return found


@pytest.mark.parametrize("name", functions.FUNCTIONS)
@pytest.mark.parametrize(
    ("source", "target"), [("fixed8.4", "fixed8.3"), ("e4m3fn", "e5m2"), ("e5m2", "fixed12.4")]
)
def test_8_bit_results_are_the_nearest_value(name: str, source: str, target: str) -> None:
    x = domain(name, source)
    ours = functions.apply(name, x, target)
    allowed = nearest_of(np.unique(qsim.values(target)), precisely(name, x))
    wrong = [(a, b, c) for a, b, c in zip(x, ours, allowed, strict=True) if float(b) not in c]
    assert not wrong, wrong[:3]


@pytest.mark.parametrize("name", functions.FUNCTIONS)
@pytest.mark.parametrize(
    ("source", "target"), [("float16", "float16"), ("bfloat16", "bfloat16"), ("fixed16.5", "fixed16.4")]
)
def test_16_bit_errors_stay_within_half_an_ulp(name: str, source: str, target: str) -> None:
    """float64 is 2^-40 wrong at most, so 1/2 ulp plus 2^-20 is what it can tell; ties are the 8-bit test's."""
    x = domain(name, source)
    with np.errstate(all="ignore"):
        exact = functions.FUNCTIONS[name].approximate(x)
    error = functions.error_in_ulp(functions.apply(name, x, target), exact, qsim.parse(target).element)
    assert error[np.isfinite(exact)].max() <= 0.5 + 2.0**-20


@pytest.mark.parametrize("name", functions.FUNCTIONS)
def test_float64_evaluation_is_within_its_stated_error(name: str) -> None:
    rng = np.random.default_rng(5)
    x = np.abs(rng.normal(0, 4, 300)) if name == "rsqrt" else rng.normal(0, 4, 300)
    x = np.concatenate([x, x * 1e-6, x * 8])
    with mpmath.workdps(60):
        ours = functions.FUNCTIONS[name].approximate(x)
        for value, real in zip(ours, precisely(name, x), strict=True):
            assert (
                abs(mpmath.mpf(float(value)) - real)
                <= abs(real) * mpmath.mpf(2) ** -41 + mpmath.mpf(2) ** -1000
            )


@pytest.mark.parametrize(("rounding", "side"), [("floor", -1), ("ceil", 1)])
def test_directed_roundings_never_cross_the_exact_result(rounding: str, side: int) -> None:
    for name in functions.FUNCTIONS:
        x = domain(name, "e5m2")
        spec = qsim.parse(f"e4m3fn/{rounding}")
        ours = functions.apply(name, x, spec)
        largest = spec.element.largest
        with mpmath.workdps(80):
            for value, real in zip(ours, precisely(name, x), strict=True):
                if abs(real) <= largest:
                    assert (mpmath.mpf(float(value)) - real) * side >= 0, (name, value, real)


def test_results_beside_a_representable_number_are_seen_to_be_so() -> None:
    """sigmoid(200) is just below 1, tanh(2^-40) just below its argument, gelu(232) just below a tie of e4m3fn."""
    assert functions.apply("sigmoid", 200.0, "bfloat16/floor") == 0.99609375
    assert functions.apply("sigmoid", np.inf, "bfloat16/floor") == 1.0
    assert functions.apply("tanh", 2.0**-40, "bfloat16/floor") < 2.0**-40
    assert functions.apply("exp", 1e-300, "float16/ceil") == 1 + 2.0**-10
    assert functions.apply("gelu", 232.0, "e4m3fn") == 224.0
    assert functions.apply("exp", -1e300, "float16/ceil") == 2.0**-24
    assert functions.apply("exp", 1e300, "float16/saturate_finite") == 65504.0
    assert functions.apply("exp", np.inf, "float16/saturate_finite") == np.inf


def test_exact_reciprocals_stay_exact_in_every_rounding() -> None:
    powers = 2.0 ** np.arange(-120, 121)
    for rounding in ("floor", "ceil", "to_odd"):
        assert np.array_equal(functions.apply("reciprocal", powers, f"bfloat16/{rounding}"), 1 / powers)
        assert np.array_equal(
            functions.apply("rsqrt", powers[::2], f"bfloat16/{rounding}"), powers[::2] ** -0.5
        )


def test_poles_and_undefined_points() -> None:
    assert functions.apply("reciprocal", [0.0, -0.0], "float16/ieee").tolist() == [np.inf, -np.inf]
    assert functions.apply("reciprocal", 0.0, "fixed8.4") == qsim.values("fixed8.4").max()
    assert np.isnan(functions.apply("rsqrt", -1.0, "float16"))
    with pytest.raises(UserError):
        functions.apply("rsqrt", -1.0, "fixed8.4")
    with pytest.raises(UserError, match="unknown function 'sine': one of exp"):
        functions.apply("sine", 1.0, "float16")


@given(st.fractions(min_value=-(10**6), max_value=10**6))
def test_rounding_to_odd_is_exact_or_ends_in_one(number: Fraction) -> None:
    decimal = Decimal(number.numerator) / Decimal(number.denominator)
    ours = to_odd_float(decimal)
    exact = Fraction(decimal)
    assert Fraction(ours) == exact or (
        np.float64(ours).view(np.int64) & 1 and abs(Fraction(ours) - exact) < Fraction(np.spacing(abs(ours)))
    )
