"""Every fast way of forming sums gives the bits of the general kernel, and rounding tricks are exact everywhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import qsim
from qsim.arithmetic import Mac, matmul
from qsim.arithmetic.accumulate import Problem, accumulate, find_path, run_generally
from qsim.arithmetic.exactness import Blas, Blocks, Tiles
from qsim.arithmetic.kernels import tiles
from qsim.arithmetic.kernels.survey import survey
from tests.arithmetic.test_matmul import assert_same

UNITS = {
    "half overflowing": ("e5m2", Mac(accumulator="float16/ieee"), 40.0, tiles.Half),
    "half saturating": ("e5m2", Mac(accumulator="float16"), 300.0, tiles.SaturatingGrid),
    "half of e4m3": ("e4m3fn", Mac(accumulator="float16/ieee"), 1.0, tiles.Split),
    "half of tiny numbers": ("e5m2", Mac(accumulator="float16/ieee"), 2.0**-11, tiles.Half),
    "half with rounded products": ("e4m3fn", Mac(product="float16", accumulator="float16"), 1.0, tiles.Split),
    "bfloat16": ("e4m3fn", Mac(accumulator="bfloat16/ieee"), 1.0, tiles.Split),
    "bfloat16 of tiny numbers": ("bfloat16", Mac(accumulator="bfloat16/ieee"), 2.0**-66, tiles.Grid),
    "minifloat overflowing": ("e4m3fn", Mac(accumulator="e6m7/ieee"), 3e2, tiles.Split),
    "minifloat to infinity": ("e4m3fn", Mac(accumulator="e4m7/ieee"), 3.0, tiles.OverflowingGrid),
    "minifloat saturating": ("e4m3fn", Mac(accumulator="e4m7"), 3.0, tiles.SaturatingGrid),
    "float32 of halves": ("float16", Mac(accumulator="float32"), 1.0, tiles.Split),
    "int16 saturating": ("int8", Mac(accumulator="int16"), 60.0, tiles.Saturating),
    "int12 saturating": ("int6", Mac(accumulator="int12"), 20.0, tiles.Clipped),
    "int16 symmetric": ("int8", Mac(accumulator="int16/saturate_symmetric"), 60.0, tiles.Clipped),
    "fixed, floor, wrap": ("fixed8.3", Mac(accumulator="fixed12.6/floor/wrap"), 2.0, tiles.Floored),
    "fixed, floor": ("fixed8.3", Mac(accumulator="fixed12.6/floor"), 2.0, tiles.Floored),
    "fixed, half up": ("fixed8.3", Mac(accumulator="fixed12.6/nearest_up"), 2.0, tiles.Floored),
    "int8 into int32": ("int8", Mac(accumulator="int32"), 60.0, Blas),
    "int8 wrapping": ("int8", Mac(accumulator="int16/wrap"), 60.0, Blas),
    "int16 wrapping": ("int16", Mac(accumulator="int24/wrap"), 2e4, Blas),
    "int8 saturating at the end": ("int8", Mac(accumulator="int14", saturate="end"), 60.0, Blas),
    "e4m3 exact": ("e4m3fn", Mac(), 1.0, Blas),
    "e4m3 blocks": ("e4m3fn", Mac(accumulator="float32", lanes=8), 1.0, Blocks),
    "e2m1 blocks": ("e2m1fn", Mac(chunk=8, chunk_accumulator="float32"), 1.0, Blas),
    "half blocks": ("float16", Mac(chunk=16, chunk_accumulator="float32"), 1.0, Blocks),
}


def problem(element: str, mac: Mac, spread: float, seed: int, bias: bool = False) -> Problem:
    """Shapes that fill no tile, some zeros of both signs; `spread` sets what overflows and what is subnormal."""
    rng = np.random.default_rng(seed)
    a, b = (rng.standard_normal((1, rows, 45)) * spread for rows in (13, 70))
    a, b = (
        qsim.quantize(np.where(rng.random(x.shape) < 0.1, np.copysign(0.0, x), x), element) for x in (a, b)
    )
    start = None
    if bias:
        step = 1.0 if element.startswith("int") else 2.0**-6
        start = qsim.quantize(
            np.rint(rng.standard_normal((1, 1, 70)) * 9) * step * spread**2, mac.accumulator
        )
    return Problem(a.astype(np.float32), b.astype(np.float32), mac, start)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("name", UNITS)
def test_the_fast_way_gives_the_same_bits(name: str, bias: bool) -> None:
    element, mac, spread, kind = UNITS[name]
    if bias and "exact" in mac.accumulator:
        return
    for seed in range(3):
        given = problem(element, mac, spread, seed, bias)
        facts = tuple(
            survey(x) for x in (given.a, given.b, np.zeros(1) if given.bias is None else given.bias)
        )
        path = find_path(given, facts)
        if not bias:
            assert isinstance(path.mode if isinstance(path, Tiles) else path, kind), path
        assert_same(accumulate(given), run_generally(given, facts))


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(sorted(UNITS)),
    st.sampled_from(["e4m3fn", "e5m2", "int4", "int8", "fixed8.4", "e3m2fn", "float16"]),
    st.integers(-12, 8),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_any_operands_through_the_way_found(
    unit: str, element: str, spread: int, bias: bool, seed: int
) -> None:
    mac = UNITS[unit][1]
    given = problem(element, mac, 2.0**spread, seed, bias and "exact" not in mac.accumulator)
    facts = tuple(survey(x) for x in (given.a, given.b, np.zeros(1) if given.bias is None else given.bias))
    assert_same(accumulate(given), run_generally(given, facts))


@pytest.mark.parametrize("precision", [1, 3, 8, 11, 12, 20])
def test_splitting_rounds_every_float32_to_nearest_even(precision: int) -> None:
    """Veltkamp's splitting as the Split step uses it; a binade stands for all of them."""
    numbers = np.arange(2**23, 2**24, 1 if precision == 11 else 7, dtype=np.int64)
    dropped = 24 - precision
    values = numbers.astype(np.float32)
    scaled = values * np.float32(2.0**dropped + 1.0)
    expected = np.rint(numbers / 2.0**dropped) * 2.0**dropped
    assert np.array_equal(scaled - (scaled - values), expected.astype(np.float32))


def test_threads_do_not_change_a_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    a, b = (qsim.quantize(rng.standard_normal((300, 300)).astype(np.float32), "e4m3fn") for _ in range(2))
    mac = Mac(accumulator="float16/ieee")
    results = []
    for threads in ("1", "2", "5"):
        monkeypatch.setenv("QSIM_THREADS", threads)
        results.append(matmul(a, b, mac))
    assert all(np.array_equal(result, results[0]) for result in results)


def test_survey_finds_size_step_and_digits() -> None:
    cases: list[tuple[Any, tuple[float, int, int]]] = [
        ([0.0, -0.0], (0.0, 0, 1)),
        ([3.0, -20.0], (20.0, 0, 3)),
        ([0.75, 2.0**-30], (0.75, -30, 2)),
        ([np.inf, 6.0], (6.0, 1, 2)),
    ]
    for values, expected in cases:
        for dtype in (np.float32, np.float64):
            facts = survey(np.array(values, dtype))
            assert (facts.largest, facts.lowest_bit, facts.digits) == expected
            assert facts.is_finite == np.isfinite(values).all()
    assert survey(np.array([-128, 127], np.int8)).largest == 128
    assert survey(np.array([2.0**-149], np.float32)).lowest_bit == -149
