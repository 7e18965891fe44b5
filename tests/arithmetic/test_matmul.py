"""qsim.matmul against exact rational arithmetic, for any unit."""

from __future__ import annotations

import numpy as np
from hypothesis import example, given, settings

import qsim
from qsim.arithmetic import Mac, matmul, reference
from qsim.arithmetic.accumulate import random_of
from tests.arithmetic.strategies import macs, operands


def by_reference(a: np.ndarray, b: np.ndarray, mac: Mac, bias: np.ndarray | None, seed: int) -> np.ndarray:
    out = np.empty((a.shape[0], b.shape[1]))
    for i, j in np.ndindex(*out.shape):
        value = reference.dot(
            a[i].tolist(),
            b[:, j].tolist(),
            mac,
            None if bias is None else float(bias[j]),
            random=random_of(seed, i * out.shape[1] + j),
        )
        out[i, j] = reference.round_to_float64(value)
    return out


def assert_same(ours: np.ndarray, expected: np.ndarray) -> None:
    ours, expected = np.asarray(ours, np.float64), np.asarray(expected, np.float64)
    same = (ours == expected) & (np.signbit(ours) == np.signbit(expected)) | (
        np.isnan(ours) & np.isnan(expected)
    )
    assert same.all(), (ours, expected)


def random_bias(mac: Mac, a: np.ndarray, columns: int) -> np.ndarray | None:
    """None, or numbers of the accumulator that depend on the operands."""
    if round(abs(float(a[0, 0])) * 64) % 3 == 0:
        return None
    values = np.linspace(-1.5, 2.0, columns) * abs(float(a[0, 0]))
    start = mac.chunk_accumulator or mac.accumulator if mac.chunk else mac.accumulator
    return values if start == "exact" else np.asarray(qsim.quantize(values, start.split("/")[0]))


@settings(max_examples=300, deadline=None)
@example(
    Mac(accumulator="int8/stochastic4/saturate_symmetric", saturate="end"),
    (np.array([[-448.0], [448.0]]), np.array([[0.0, 448.0]])),
)
@given(macs(), operands())
def test_every_unit_computes_what_rational_arithmetic_says(
    mac: Mac, pair: tuple[np.ndarray, np.ndarray]
) -> None:
    a, b = pair
    bias = random_bias(mac, a, b.shape[1])
    expected = by_reference(a, b, mac, bias, 7)
    try:
        ours = matmul(a, b, mac, bias=bias, seed=7)
    except qsim.UserError as error:  # an overflow to NaN met a format without it
        assert "NaN" in str(error) and np.isnan(expected).any()
    else:
        assert_same(ours, expected)
