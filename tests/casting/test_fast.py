"""The compiled kernels, where they cover a case, give the bits of the general path."""

from __future__ import annotations

import numpy as np
import pytest

import qsim
from qsim.casting.quantize import quantize_generally
from qsim.parse import parse
from tests.casting.strategies import landmarks

pytest.importorskip("numba")  # imported here, so that small arrays go to the kernels too

ELEMENTS = (
    "int8 uint8 int4 uint1 int16 int24 fixed8.4 fixed16.6 ufixed8.-2 fixed8.12 fixed1.1 "
    "e4m3fn e5m2 e4m3 e3m4 e2m1fn e2m3fn e3m2fn e4m3-inf-nan e3m2-inf e4m3b11fnuz e5m2fnuz e4m3fn-subnormals "
    "e4m3-sign e5m2+bias3 e3m0-inf-nan e5m0-inf-nan-sign float16 bfloat16 tf32 float32 float64 e8m0 "
    "binary8p3se binary8p1se binary6p4uf binary8p4sf posit8.2 posit8.0 nf4 pot3 apot2x2 log2_4 power8_0.5 ternary "
    "binary bipolar3"
).split()
CASTS = (
    "/nearest_away /nearest_zero /nearest_up /nearest_down /nearest_odd /floor /ceil /toward_zero /away_from_zero "
    "/to_odd /stochastic1 /stochastic8 /stochastic24 /stochastic4_even /stochastic4_odd /stochastic4_centered "
    "/saturate_finite /saturate_symmetric /saturate_zero /wrap /wrap_sign_magnitude /floor/wrap /ieee /floor/ieee "
    "/to_odd/ieee /stochastic8/ieee"
).split()
SCALINGS = (
    "@tensor:float32 @channel:float32 @channel:e8m0 @token:float32 @token:bfloat16/amax @block32:e8m0 @block7:e8m0 "
    "@block32:e8m0/rceil @block32:e8m0/even @block32:e8m0/ceil @block16:e4m3fn@tensor:float32 @block16:float16 "
    "@block16:e4m3fn-subnormals@tensor:float32 @block4x8:float32 @block16:uint8@block4:float32 @tensor:float32/floor"
).split()


def is_known(text: str) -> bool:
    try:
        parse(text)
    except qsim.SpecError:
        return False
    return True


def hard_values(name: str, dtype: type) -> np.ndarray:
    """Numbers and midpoints of a format with their neighbours, thresholds, specials and noise; no NaN."""
    points = np.array(landmarks(parse(name).element))
    middles = (points[1:] + points[:-1]) / 2
    rng = np.random.default_rng(7)
    noise = rng.standard_normal(600) * 10.0 ** rng.integers(-6, 6, 600)
    specials = [0.0, np.inf, 1e-45, 1e-40, 2.0**-126, 3e38, 1e30]
    with np.errstate(over="ignore"):
        x = np.concatenate([points, middles, noise, specials]).astype(dtype)
        x = np.concatenate([x, np.nextafter(x, dtype(np.inf)), np.nextafter(x, dtype(0))])
    return np.concatenate([x, -x])


def assert_same(ours: np.ndarray, wanted: np.ndarray, what: str) -> None:
    differs = ~(
        ((ours == wanted) & (np.signbit(ours) == np.signbit(wanted))) | (np.isnan(ours) & np.isnan(wanted))
    )
    assert ours.dtype == wanted.dtype and not differs.any(), (
        f"{what}: {ours[differs][:3]} not {wanted[differs][:3]}"
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ELEMENTS)
def test_every_cast_of_an_element(name: str) -> None:
    for dtype in (np.float32, np.float64):
        x = hard_values(name, dtype)
        for cast in ("", *(c for c in CASTS if is_known(name + c))):
            given = x[np.isfinite(x)] if "wrap" in cast else x
            wanted = quantize_generally(given, parse(name + cast), seed=5)
            assert_same(qsim.quantize(given, name + cast, seed=5), wanted, f"{name}{cast} {dtype.__name__}")


@pytest.mark.slow
@pytest.mark.parametrize("scaling", SCALINGS)
def test_every_scaling_of_some_elements(scaling: str) -> None:
    rng = np.random.default_rng(3)
    for dtype in (np.float32, np.float64):
        x = (rng.standard_normal((12, 75)) * 2.0 ** rng.integers(-20, 20, (12, 1))).astype(dtype)
        x[3], x[4, :40], x[5, 5] = 0, -0.0, 1e-42
        for element in (
            "int8",
            "int4/floor",
            "e4m3fn",
            "e5m2/ieee",
            "e2m1fn",
            "fixed8.2",
            "e2m1fn/stochastic8",
            "nf4",
        ):
            spec = parse(element + scaling)
            for axis in (-1, 0):
                wanted = quantize_generally(x, spec, axis=axis, seed=2)
                assert_same(qsim.quantize(x, spec, axis=axis, seed=2), wanted, f"{spec} axis {axis}")


@pytest.mark.parametrize("affine", ["divide", "reciprocal", "reciprocal_fma", "reciprocal_add"])
@pytest.mark.parametrize("granularity", ["tensor", "channel", "token", "block32"])
def test_affine_rules_with_zero_points(affine: str, granularity: str) -> None:
    rng = np.random.default_rng(11)
    x = (
        rng.integers(-300, 300, (6, 70)) * np.float32(0.03) * rng.choice([0.5, 1, 1 + 2e-7], (6, 70))
    ).astype(np.float32)
    for element in ("int8+zp", "uint4+zp", "int8+zp/floor", "uint8+zp/wrap"):
        spec = parse(f"{element}@{granularity}:float32")
        wanted = quantize_generally(x, spec, affine=affine)
        assert_same(qsim.quantize(x, spec, affine=affine), wanted, f"{spec} {affine}")


def test_layout_and_out_do_not_matter() -> None:
    x = np.random.default_rng(0).standard_normal((40, 64)).astype(np.float32)
    for name in ("int8", "e4m3fn/stochastic8", "mxfp4", "int8@channel:float32", "nf4"):
        wanted = quantize_generally(x.T, parse(name), seed=1)
        assert_same(qsim.quantize(x.T, name, seed=1), wanted, name)
        assert_same(qsim.quantize(np.ascontiguousarray(x.T), name, seed=1), wanted, name)
        out = np.empty_like(x)
        assert qsim.quantize(x.T, name, seed=1, out=out.T) is not None
        assert_same(out.T, wanted, name)
