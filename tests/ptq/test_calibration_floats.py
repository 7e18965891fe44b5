"""Formats that fit a tensor (LLM-FP4) and scales that a shifter can apply (ZeroQuant-FP)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import qsim
from qsim.errors import UserError
from qsim.formats import Float
from qsim.ptq.calibrate import Calibration, weight_scale
from qsim.ptq.float_search import best_clip, best_split, splits
from qsim.ptq.hardware_scales import nearest_powers, shared_scale_powers
from qsim.ptq.weight_scales import group_errors
from tests.ptq.test_calibration import weights


def test_every_split_of_four_bits() -> None:
    assert [element.name for element in splits(4)] == ["e1m2-inf-nan", "e2m1fn", "e3m0-inf-nan"]
    assert all(element.bits == 6 for element in splits(6))
    with pytest.raises(UserError, match="at least 2"):
        splits(1)


def test_the_split_follows_the_spread_of_the_values() -> None:
    """Evenly spread values want mantissa bits; where most lie far below a few, exponent bits."""
    rng, spec = np.random.default_rng(0), qsim.parse("e2m1fn@channel:float32")
    even, tailed = rng.uniform(-1, 1, (8, 200)), rng.standard_t(1.2, (8, 500))
    chosen = [best_split(values.astype(np.float32), spec).spec.element for values in (even, tailed)]
    assert [element.exponent for element in chosen if isinstance(element, Float)] == [1, 3]


@pytest.mark.parametrize(
    "text", ["e2m1fn@channel:float32", "e3m2fn@tensor:float32", "e4m3fn@block16:e8m0", "e2m1fn", "e4m3"]
)
def test_no_candidate_is_better_than_the_choice(text: str) -> None:
    matrix, spec = weights(), qsim.parse(text)
    choice = best_split(matrix, spec)
    every = [
        best_clip(matrix, type(spec)(element, spec.cast, spec.granularity, spec.scale))
        for element in splits(spec.bits)
    ]
    assert choice.error == min(other.error for other in every)
    assert choice.error <= best_clip(matrix, spec).error or spec.element not in splits(spec.bits)


@given(st.integers(-20, 20))
@settings(max_examples=20, deadline=None)
def test_a_bias_follows_the_scale_of_the_values(power: int) -> None:
    """Values times 2^n: the same codes under a bias that is n lower."""
    matrix = weights()
    one, other = (best_clip(matrix * np.float32(2.0**n), qsim.parse("e4m3-inf-nan")) for n in (0, power))
    assert isinstance(one.spec.element, Float) and isinstance(other.spec.element, Float)
    assert one.spec.element.bias - other.spec.element.bias == power
    assert other.error == pytest.approx(one.error * 4.0**power)


def test_a_bias_of_its_own_beats_the_standard_one() -> None:
    matrix = weights() * np.float32(1e-3)
    spec = qsim.parse("e2m1fn")
    standard = float(np.square(matrix - qsim.quantize(matrix, spec).astype(float)).mean())
    choice = best_clip(matrix, spec)
    assert choice.error < 0.1 * standard
    assert qsim.parse(str(choice.spec)) == choice.spec


def test_zeros_and_nothing_have_a_format() -> None:
    for matrix in (np.zeros((2, 3), np.float32), np.zeros((2, 0), np.float32)):
        for text in ("e2m1fn", "e2m1fn@channel:float32"):
            assert best_split(matrix, qsim.parse(text)).error == 0.0
    with pytest.raises(UserError, match="int4"):
        best_clip(weights(), qsim.parse("int4@channel:float32"))


def test_nearest_powers() -> None:
    found = nearest_powers(np.array([1.0, 1.4, 1.5, 0.3, 96.0], np.float32))
    np.testing.assert_array_equal(found, np.array([1, 1, 2, 0.25, 128], np.float32))
    assert found.dtype == np.float32
    for bad in ([], [0.0], [-1.0], [np.nan], [np.inf]):
        with pytest.raises(UserError, match="finite and above zero"):
            nearest_powers(np.array(bad))


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=20))
def test_shared_scale_powers(scales: list[float]) -> None:
    """M2: the largest is kept, every other within a factor of sqrt 2."""
    given_scales = np.array(scales)
    shared, shift = shared_scale_powers(given_scales)
    held = shared * 2.0**-shift
    assert shared == given_scales.max() and (shift >= 0).all()
    assert (np.abs(np.log2(held / given_scales)) <= 0.5 + 1e-9).all()


@pytest.mark.parametrize(
    ("free", "constrained"),
    [("int4@channel:float32", "int4@channel:e8m0"), ("e2m1fn@channel:float32", "e2m1fn@channel:e8m0")],
)
def test_a_search_among_powers_beats_rounding_to_them(free: str, constrained: str) -> None:
    """M1 by search, M2 by search: each at least as good as its scales rounded afterwards, and M2 as good as M1."""
    matrix = weights(outputs=32)

    def error(text: str, scale: np.ndarray) -> float:
        return float(group_errors(matrix, qsim.parse(text), 0, scale, None).sum())

    real, _ = weight_scale(matrix, qsim.parse(free), Calibration())
    m1, _ = weight_scale(matrix, qsim.parse(constrained), Calibration())
    m2, _ = weight_scale(matrix, qsim.parse(f"{constrained}@tensor:float32"), Calibration())
    shared, shift = shared_scale_powers(real)
    assert error(free, real) <= error(free, m2) <= error(free, m1) <= error(free, nearest_powers(real))
    assert (
        error(free, m2) <= error(free, (shared * 2.0**-shift).astype(np.float32)) * 1.02
    )  # an octave in eighths
