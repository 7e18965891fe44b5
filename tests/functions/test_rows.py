"""Softmax and norms rounded once: against 60-digit arithmetic, and what is true of them whatever the format."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import qsim
from qsim.arithmetic import functions
from qsim.arithmetic.functions import log2_softmax
from qsim.errors import UserError

ROWS = arrays(
    np.float64,
    st.tuples(st.integers(1, 3), st.integers(1, 9)),
    elements=st.integers(-64, 64).map(lambda v: v / 8),
)


def reference_softmax(row: np.ndarray) -> list[mpmath.mpf]:
    terms = [mpmath.exp(mpmath.mpf(float(v))) for v in row]
    return [term / mpmath.fsum(terms) for term in terms]


def reference_norm(row: np.ndarray, centre: bool, epsilon: float) -> list[mpmath.mpf]:
    values = [mpmath.mpf(float(v)) for v in row]
    mean = mpmath.fsum(values) / len(values) if centre else mpmath.mpf(0)
    variance = mpmath.fsum((v - mean) ** 2 for v in values) / len(values)
    return [(v - mean) / mpmath.sqrt(variance + mpmath.mpf(epsilon)) for v in values]


def within_half_an_ulp(ours: np.ndarray, exact: list[mpmath.mpf], spec: str) -> bool:
    element = qsim.parse(spec).element
    steps = functions.ulp([float(v) for v in exact], element)
    limits = [mpmath.mpf(element.lowest), mpmath.mpf(element.largest)]
    return all(
        abs(mpmath.mpf(float(a)) - min(max(b, limits[0]), limits[1])) <= mpmath.mpf(float(step)) / 2
        for a, b, step in zip(ours, exact, steps, strict=True)
    )


@given(ROWS, st.sampled_from(["float16", "fixed8.1", "e4m3fn", "ufixed8.0"]))
def test_softmax_is_within_half_an_ulp(x: np.ndarray, spec: str) -> None:
    with mpmath.workdps(60):
        for row, ours in zip(x, functions.softmax(x, spec), strict=True):
            assert within_half_an_ulp(ours, reference_softmax(row), spec)


@given(ROWS, st.sampled_from(["float16", "fixed8.3", "e4m3fn"]))
def test_norms_are_within_half_an_ulp(x: np.ndarray, spec: str) -> None:
    with mpmath.workdps(60):
        for centre, norm in ((True, functions.layer_norm), (False, functions.rms_norm)):
            for row, ours in zip(x, norm(x, spec, epsilon=1e-5), strict=True):
                assert within_half_an_ulp(ours, reference_norm(row, centre, 1e-5), spec)


def test_a_row_of_nearly_equal_large_numbers_is_normalised_right() -> None:
    row = 1e6 + np.array([[0.0, 2.0**-10, 2.0**-9, 3 * 2.0**-11]])
    with mpmath.workdps(60):
        assert within_half_an_ulp(
            functions.layer_norm(row, "float16")[0], reference_norm(row[0], True, 1e-5), "float16"
        )


def test_softmax_special_rows() -> None:
    assert functions.softmax([[0.0, -np.inf, 0.0]], "float16").tolist() == [[0.5, 0.0, 0.5]]
    assert functions.softmax([[3.5]], "e4m3fn").tolist() == [[1.0]]
    assert np.isnan(functions.softmax([[-np.inf, -np.inf]], "float16")).all()
    with pytest.raises(UserError, match="at least one element"):
        functions.softmax(np.zeros((3, 0)), "float16")
    with pytest.raises(UserError, match="epsilon must be above 0"):
        functions.layer_norm([1.0], "float16", epsilon=0.0)


@given(ROWS, st.integers(1, 8), st.sampled_from(["2", "sqrt2"]))
def test_log2_codes_are_within_half_a_code(x: np.ndarray, bits: int, base: log2_softmax.Base) -> None:
    codes = log2_softmax.encode(x, bits, base)
    steps = 1 if base == "2" else 2
    with mpmath.workdps(40):
        for row, ours in zip(x, codes, strict=True):
            for code, probability in zip(ours.tolist(), reference_softmax(row), strict=True):
                logarithm = -mpmath.log(probability, 2) * steps
                assert abs(logarithm - code) <= 0.5 or (code == 2**bits - 1 and logarithm > code)


def test_log2_codes_decode_to_shifts() -> None:
    assert log2_softmax.decode([0, 1, 5]).tolist() == [1.0, 0.5, 2.0**-5]
    assert log2_softmax.encode([[0.0, 0.0]], 4).tolist() == [[1, 1]]
    with pytest.raises(UserError, match="base"):
        log2_softmax.encode([[0.0]], 4, "e")  # type: ignore[arg-type]
