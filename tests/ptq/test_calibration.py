"""Scales of tensors: what each method promises, on any element, granularity and scale format."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import qsim
from qsim.casting.scales import compute_scale
from qsim.errors import UserError
from qsim.ptq.calibrate import Calibration, activation_scale, weight_scale
from qsim.ptq.kl import BINS, divergence, kl_scale
from qsim.ptq.observe import Range
from qsim.ptq.range_search import factors_of, scale_of_range, squared_error
from qsim.ptq.weight_scales import group_errors
from qsim.views import matrix_axis
from tests.ptq.problems import FORMATS

STATIC = (
    "int8@tensor:float32",
    "uint4+zp@tensor:float32",
    "int4@tensor:e8m0",
    "e2m1fn@tensor:float32",
    "e4m3fn@tensor:e8m0",
    "e3m2fn@tensor:bfloat16",
    "posit6.1@tensor:float32",
    "nf4@tensor:float16",
    "fixed8.2@tensor:e4m3fn",
)
WEIGHTS = (*(text for text in FORMATS if "@" in str(qsim.parse(text))), "int4@channel:e8m0@tensor:float32")
METHODS = ("minmax", "percentile", "kl", "mse")


def seen(values: np.ndarray) -> Range:
    values = values.astype(np.float32)
    return Range(float(values.min(initial=np.inf)), float(values.max(initial=-np.inf)), values, values[:4])


def long_tail(seed: int = 0, size: int = 4000) -> np.ndarray:
    values = np.random.default_rng(seed).laplace(size=size)
    values[:3] *= 20
    return np.maximum(values, -1).astype(np.float32)


def weights(seed: int = 0, outputs: int = 8, length: int = 48) -> np.ndarray:
    rng = np.random.default_rng(seed)
    matrix = rng.standard_t(3, (outputs, length)) * np.geomspace(0.01, 3, outputs)[:, None]
    return matrix.astype(np.float32)


@pytest.mark.parametrize("text", STATIC)
def test_least_squares_never_errs_more_than_the_whole_range(text: str) -> None:
    spec, data = qsim.parse(text), seen(long_tail())
    ours, whole = (
        activation_scale(data, spec, Calibration(activations=method)) for method in ("mse", "minmax")
    )
    assert squared_error(data.sample, spec, ours) <= squared_error(data.sample, spec, whole)


@given(st.integers(0, 10**6), st.sampled_from(WEIGHTS))
@settings(max_examples=40, deadline=None)
def test_no_group_of_weights_errs_more_than_under_the_rule(seed: int, text: str) -> None:
    spec, matrix = qsim.parse(text), weights(seed, length=20)
    axis = matrix_axis(spec)
    ours, rule = (
        group_errors(matrix, spec, axis, *weight_scale(matrix, spec, Calibration(weights=method)))
        for method in ("mse", "minmax")
    )
    if spec.scale is not None and spec.scale.scale is not None and spec.scale.is_power_of_two:
        ours, rule = ours.sum(), rule.sum()  # the shared real scale moves for all together
    assert (ours <= rule * (1 + 1e-12)).all()


@pytest.mark.parametrize("element", ["int8", "int4", "e2m1fn", "e4m3fn", "fixed8.2"])
@pytest.mark.parametrize("granularity", ["tensor", "channel", "block16"])
def test_the_best_power_of_two_is_found(element: str, granularity: str) -> None:
    """Against every exponent from 2^-20 to 2^10, for each group."""
    spec, matrix = qsim.parse(f"{element}@{granularity}:e8m0"), weights()
    axis = matrix_axis(spec)
    scale, _ = weight_scale(matrix, spec, Calibration())
    assert scale is not None and (np.frexp(scale)[0] == 0.5).all()
    every = [
        group_errors(matrix, spec, axis, np.full(scale.shape, 2.0**k, np.float32), None)
        for k in range(-20, 11)
    ]
    np.testing.assert_allclose(group_errors(matrix, spec, axis, scale, None), np.min(every, 0), rtol=1e-12)


@pytest.mark.parametrize("text", ["int8@tensor:e8m0", "int4@tensor:e8m0", "e2m1fn@tensor:e8m0"])
def test_an_activation_gets_the_best_power_of_two(text: str) -> None:
    spec, data = qsim.parse(text), seen(long_tail())
    found = activation_scale(data, spec, Calibration())
    every = [squared_error(data.sample, spec, (np.float32(2.0**k), None)) for k in range(-12, 6)]
    assert squared_error(data.sample, spec, found) == pytest.approx(min(every))


def test_blocks_of_nvfp4_hold_the_best_e4m3_scale() -> None:
    """Against every e4m3 value under the same scale of the tensor."""
    spec, matrix = qsim.parse("nvfp4"), weights()
    scale, _ = weight_scale(matrix, spec, Calibration())
    outer = np.float32(np.abs(matrix).max() / (6 * 448))
    stored = np.asarray(qsim.values("e4m3fn"), np.float32)
    every = [
        group_errors(matrix, spec, -1, np.full(scale.shape, value * outer), None)
        for value in stored[stored > 0]
    ]
    np.testing.assert_allclose(group_errors(matrix, spec, -1, scale, None), np.min(every, 0), rtol=1e-6)


@pytest.mark.parametrize("text", STATIC)
def test_the_divergence_of_the_choice_is_the_least_of_the_candidates(text: str) -> None:
    spec, values = qsim.parse(text), np.abs(long_tail())
    ends = (0.0, float(values.max()))
    counts, edges = np.histogram(values[values != 0].astype(np.float64), BINS)
    centres = (edges[:-1] + edges[1:]) / 2
    every = [
        divergence(counts, centres, spec, scale_of_range((0.0, ends[1] * factor), spec))
        for factor in factors_of(spec)
    ]
    assert divergence(counts, centres, spec, kl_scale(values, ends, spec)) == min(every)


def test_divergence_clips_a_few_outliers_of_many_values() -> None:
    """What it was made for: a bulk of values and three at twenty times its width."""
    values = np.concatenate([np.random.default_rng(0).normal(size=100_000), [60.0, -60.0, 55.0]]).astype(
        np.float32
    )
    scale, _ = kl_scale(values, (-60.0, 60.0), qsim.parse("int8@tensor:float32"))
    assert 3.0 < float(scale) * 127 < 20.0


def test_divergence_is_zero_where_every_bin_is_a_level() -> None:
    centres, spec = np.arange(1.0, 101.0), qsim.parse("int8@tensor:float32")
    counts = np.random.default_rng(1).integers(1, 50, 100)
    assert divergence(counts, centres, spec, (np.float32(1.0), None)) == pytest.approx(0)
    assert divergence(counts, centres, spec, (np.float32(0.5), None)) > 0.1  # a third lies beyond the clip
    assert divergence(counts, centres, spec, (np.float32(4.0), None)) > 0.1  # four bins a level
    assert divergence(counts, centres, spec, (np.float32(1e-6), None)) == np.inf


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("text", STATIC)
@pytest.mark.parametrize("values", [[], [0.0], [3.5], [-2.0] * 7, [0.0, 1e-30], [1e30, -1e30, 1.0]])
def test_empty_constant_tiny_and_huge_tensors_have_a_scale(
    method: str, text: str, values: list[float]
) -> None:
    spec, data = qsim.parse(text), seen(np.array(values))
    scale, zero_point = activation_scale(data, spec, Calibration(activations=method))  # type: ignore[arg-type]
    assert scale is not None and np.isfinite(scale).all() and (scale > 0).all()
    assert np.isfinite(qsim.quantize(data.sample, spec, scale=scale, zero_point=zero_point)).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("text", WEIGHTS)
def test_weights_of_any_shape_have_scales(method: str, text: str) -> None:
    spec = qsim.parse(text)
    for matrix in (
        np.zeros((4, 16)),
        np.ones((1, 1)),
        np.zeros((3, 0)),
        weights(outputs=2),
        weights(outputs=2)[:, ::2],
        weights(outputs=2) * 1e20,
    ):
        matrix = matrix.astype(np.float32)
        axis = matrix_axis(spec)
        scale, zero_point = weight_scale(matrix, spec, Calibration(weights=method))  # type: ignore[arg-type]
        wanted, _ = compute_scale(matrix, spec, axis)
        assert scale is not None and scale.shape == wanted.shape and scale.dtype == np.float32
        assert np.isfinite(scale).all() and (scale > 0).all()
        assert np.isfinite(qsim.quantize(matrix, spec, axis=axis, scale=scale, zero_point=zero_point)).all()


def test_weights_that_are_not_numbers_are_refused() -> None:
    with pytest.raises(UserError, match="NaN"):
        weight_scale(np.full((2, 4), np.nan, np.float32), qsim.parse("int4@channel:float32"), Calibration())


def test_run_time_scales_are_not_calibrated() -> None:
    for text in ("int8@token:float32", "mxfp4", "float16", "e4m3fn"):
        assert activation_scale(seen(long_tail()), qsim.parse(text), Calibration()) == (None, None)


def test_a_percentile_keeps_what_it_says() -> None:
    data, spec = seen(np.linspace(0, 100, 10001)), qsim.parse("uint8+zp@tensor:float32")
    tops = []
    for percentile in (90.0, 99.0, 100.0):
        scale, _ = activation_scale(data, spec, Calibration(activations="percentile", percentile=percentile))
        tops.append(float(scale) * 255)
    np.testing.assert_allclose(tops, [90, 99, 100], rtol=1e-5)
    matrix = weights(length=1001)
    scales = [
        weight_scale(
            matrix, qsim.parse("int8@channel:float32"), Calibration(weights="percentile", percentile=p)
        )[0]
        for p in (90.0, 99.0, 100.0)
    ]
    assert all((a <= b).all() for a, b in pairwise(scales))


def test_methods_that_weights_do_not_have() -> None:
    with pytest.raises(UserError, match="seq_mse"):
        Calibration(weights="output")
    with pytest.raises(UserError, match="minmax, percentile, kl, mse, output"):
        Calibration(activations="entropy")  # type: ignore[arg-type]
