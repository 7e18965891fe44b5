"""The kernels give the bits of the general path, which tests/casting compares with rational arithmetic."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import qsim
from qsim.casting import fast
from qsim.casting.quantize import quantize_generally
from qsim.errors import SpecError, UserError
from qsim.parse import parse
from qsim.spec import ROUNDINGS
from tests.casting_fast.inputs import hard_values, same_bits, without_nan

GRIDS = "e4m3fn e5m2 e3m2fn e2m1fn bfloat16 float16 int8 uint8 fixed8.4 fixed16.6 e4m3-subnormals e5m2-sign".split()
GRIDS += ["e4m3fnuz", "binary8p3se", "binary8p3uf", "tf32", "fixed24.8", "e8m5", "e4m3+bias100"]
CODEBOOKS = "e3m0-inf-nan e8m0 pot4 nf4 posit8.1 ternary binary bipolar4 log2_4 power4_0.5 apot2x2".split()
STOCHASTIC = ["stochastic8", "stochastic5_even", "stochastic5_odd", "stochastic9_centered", "stochastic30"]
OVERFLOWS = ["ieee", "saturate_finite", "saturate_zero", "saturate_symmetric"]


@pytest.fixture(autouse=True)
def _numba_is_loaded() -> None:
    import numba  # noqa: F401  (small arrays would take the general path before)


def check(spec_text: str, x: Any, **options: Any) -> None:
    """`fast.quantize` covers the spec and agrees with the general path."""
    spec = parse(spec_text)
    x = x if spec.element.has_nan else without_nan(x)
    result = fast.quantize(x, spec, **options)
    assert result is not None, f"{spec} takes the general path"
    assert result.dtype == x.dtype and result.shape == x.shape
    options.pop("out", None)
    with np.errstate(all="ignore"):
        wanted = quantize_generally(x, spec, **options)
    wrong = np.argwhere(~same_bits(result, wanted))
    examples = [(x[tuple(i)], result[tuple(i)], wanted[tuple(i)]) for i in wrong[:3]]
    assert len(wrong) == 0, f"{spec}: {len(wrong)} differ, (input, fast, general) = {examples}"


@pytest.mark.parametrize("element", GRIDS + CODEBOOKS)
def test_every_element(element: str) -> None:
    check(element, hard_values())


@pytest.mark.parametrize("element", ["e4m3fn", "bfloat16", "float16", "int8", "fixed16.6", "e8m5"])
def test_float64_rounds_once(element: str) -> None:
    check(element, hard_values(np.float64))


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("element", ["e4m3fn", "int8", "bfloat16", "e4m3-subnormals", "ufixed6.2"])
def test_every_rounding(element: str, rounding: str) -> None:
    check(f"{element}/{rounding}", hard_values())


@pytest.mark.parametrize("rounding", STOCHASTIC)
@pytest.mark.parametrize("element", ["e4m3fn", "fixed8.4", "e2m1fn", "bfloat16"])
def test_stochastic_rounding_from_a_seed_and_from_bits(element: str, rounding: str) -> None:
    x, spec = hard_values(), f"{element}/{rounding}"
    check(spec, x, seed=12345)
    bits = np.random.default_rng(1).integers(0, 1 << parse(spec).cast.rounding.random_bits, x.shape)
    check(spec, x, random_bits=bits)


@pytest.mark.parametrize("rounding", [*STOCHASTIC, "stochastic32", "stochastic32_centered"])
@pytest.mark.parametrize("element", ["e4m3fn", "fixed8.4", "bfloat16"])
def test_stochastic_rounding_of_float64(element: str, rounding: str) -> None:
    """Carries that are missed or made by one ulp: discarded parts beside the multiples of 2^-(k+1)."""
    spec = f"{element}/{rounding}"
    bits, step = parse(spec).cast.rounding.random_bits, parse(element).element.step_exponent
    draw = np.random.default_rng(6)
    part, random_bits = draw.integers(0, 2 << bits, 3000), draw.integers(0, 1 << bits, 3000)
    near = draw.permutation(3000) < 2000
    random_bits = np.where(near, np.clip((1 << bits) - part // 2, 0, (1 << bits) - 1), random_bits)
    x = np.ldexp(draw.integers(0, 8, 3000) + part / (2 << bits), step) * draw.choice([-1.0, 1.0], 3000)
    for value in (x, np.nextafter(x, np.inf), np.nextafter(x, -np.inf)):
        check(spec, value, random_bits=random_bits)
    check(spec, hard_values(np.float64), seed=8)


@pytest.mark.parametrize("overflow", OVERFLOWS)
@pytest.mark.parametrize("rounding", ["nearest_even", "floor", "ceil", "to_odd", "stochastic8"])
@pytest.mark.parametrize("element", ["e4m3fn", "e5m2", "int8", "e5m2-sign", "float16"])
def test_every_overflow(element: str, rounding: str, overflow: str) -> None:
    try:
        parse(f"{element}/{rounding}/{overflow}")
    except SpecError:
        pytest.skip("not a cast of this format")
    check(f"{element}/{rounding}/{overflow}", hard_values(), seed=1)


BLOCKS = "mxfp8_e4m3 mxfp8_e5m2 mxfp6_e2m3 mxfp4 mxint8 nvfp4 e2m1fn@block32:e8m0/rceil".split()
BLOCKS += ["e4m3fn@block40:e8m0/even"]
BLOCKS += ["fixed8.2/saturate_symmetric@block32:e8m0/ceil", "int8@block16:e8m0", "e2m1fn@block16:e4m3fn"]
BLOCKS += [
    "int4@block32:float16",
    "int4@block24:float32/amax_half",
    "e4m3fn@block1:e8m0",
    "int8@block300:float32",
]
BLOCKS += ["e4m3fn/ceil@block32:e8m0", "bfloat16@block32:e8m0", "e5m2/saturate_finite@block32:e8m0"]
BLOCKS += ["e5m2@block32:uint8@tensor:float32"]
GROUPS = "tensor channel token".split()


def tensor_with_extremes() -> Any:
    """[5, 6, 96]: zeros, -0, an infinity, subnormal and huge blocks, peaks at and just below powers of two."""
    draw = np.random.default_rng(5)
    x = draw.standard_normal((5, 6, 96), dtype=np.float32)
    x[0, 0, :40], x[0, 1] = 0.0, -0.0
    x[1, 1] *= np.float32(2.0**-120)
    x[1, 2] *= np.float32(2.0**-135)
    x[2, 1] *= np.float32(2.0**120)
    x[3, 3, 5] = np.inf
    x[4, 4] = 2.0 ** np.arange(-48, 48)
    x[4, 5] = np.nextafter(x[4, 4], np.float32(0))
    return x


@pytest.mark.parametrize("axis", [-1, 0])
@pytest.mark.parametrize("spec", BLOCKS)
def test_blocks_with_computed_scales(spec: str, axis: int) -> None:
    check(spec, tensor_with_extremes(), axis=axis)


@pytest.mark.parametrize("spec", ["mxfp4", "nvfp4", "int4@block32:float16"])
def test_blocks_of_float64(spec: str) -> None:
    check(spec, tensor_with_extremes().astype(np.float64) * (1 + 2.0**-45))


@pytest.mark.parametrize("axis", [-1, 0, 1])
@pytest.mark.parametrize("granularity", GROUPS)
@pytest.mark.parametrize("element", ["e4m3fn", "int8", "bfloat16", "uint8+zp"])
def test_other_groups_with_computed_scales(element: str, granularity: str, axis: int) -> None:
    check(f"{element}@{granularity}:float32", tensor_with_extremes(), axis=axis)


@pytest.mark.parametrize("spec", ["e4m3fn@block5x20:float32", "int8@block2x32:e8m0"])
def test_tiles(spec: str) -> None:
    check(spec, tensor_with_extremes())


@pytest.mark.parametrize("axis", [-1, 1])
@pytest.mark.parametrize(
    "spec", ["int8+zp@channel:float32", "uint4+zp@token:float32", "int8+zp@block10:float32"]
)
def test_given_scales_and_zero_points(spec: str, axis: int) -> None:
    x, parsed = tensor_with_extremes(), parse(spec)
    assert parsed.granularity is not None
    shape = parsed.granularity.scale_shape(x.shape, axis)
    draw = np.random.default_rng(2)
    scale = draw.uniform(0.01, 0.1, shape).astype(np.float32)
    zero_point = draw.integers(int(parsed.element.lowest), int(parsed.element.largest) + 1, shape)
    check(spec, x, axis=axis, scale=scale, zero_point=zero_point)


@pytest.mark.parametrize("spec", ["mxfp4", "int8/saturate_symmetric@tensor:e8m0", "e4m3fn@tensor:e8m0"])
def test_a_given_scale_need_not_be_a_power_of_two_where_computed_ones_are(spec: str) -> None:
    """The quotient is float64 then, whatever the data: x / s with s a power of two is exact by this rule."""
    scale = np.float32(0.3)
    ties = (np.arange(-3008, 3008, dtype=np.float32) / 16) * scale
    x = np.concatenate([ties, np.nextafter(ties, np.float32(999)), np.nextafter(ties, np.float32(-999))])
    check(spec, x, scale=scale)
    check(spec, x, scale=np.float32(0.25))


def test_a_zero_point_outside_the_symmetric_range_is_left_to_the_general_path() -> None:
    x, spec = np.array([-3.0, 0.0, 5.0], np.float32), "int8+zp/saturate_symmetric@tensor:float32"
    assert qsim.quantize(x, spec, scale=1.0, zero_point=-128).tolist() == [1, 1, 5]


def test_ties_of_a_quotient_are_those_of_float32_division() -> None:
    scale = np.float32(0.03)
    ties = (np.arange(-140, 140) + np.float32(0.5)) * scale
    x = np.concatenate([ties, np.nextafter(ties, np.float32(9)), np.nextafter(ties, np.float32(-9))])
    check("int8+zp@tensor:float32", x, scale=scale, zero_point=5)
    codes = np.clip(np.rint(x / scale) + np.float32(5), -128, 127)
    result = fast.quantize(x, parse("int8+zp@tensor:float32"), scale=scale, zero_point=5)
    assert np.array_equal(result, (codes - 5) * scale)


@pytest.mark.parametrize("spec", ["e4m3fn", "mxfp4", "int8@channel:float32", "nf4@block32:float32"])
@pytest.mark.parametrize("view", ["strided", "reversed", "transposed", "one element", "ragged"])
def test_any_memory_layout(spec: str, view: str) -> None:
    x = np.random.default_rng(3).standard_normal((64, 40, 24), dtype=np.float32)
    views = {
        "strided": x[::2, 1:, ::3],
        "reversed": x[..., ::-1],
        "transposed": x.T,
        "one element": x[:1, :1, :1],
    }
    given = views.get(view, x[:, :, :17])
    if given.size < 1 << 14 and spec.startswith("nf4"):
        pytest.skip("no table is built for a small array")
    check(spec, given)


@pytest.mark.parametrize("spec", ["e4m3fn", "mxfp4", "int8@channel:float32"])
def test_out_may_be_the_input_or_strided(spec: str) -> None:
    x = np.random.default_rng(4).standard_normal((32, 64), dtype=np.float32)
    wanted = quantize_generally(x, parse(spec))
    strided = np.empty((32, 128), np.float32)[:, ::2]
    for out in (np.empty_like(x), x.copy(), strided):
        source = out if out.flags.c_contiguous and np.array_equal(out, x) else x
        assert fast.quantize(source, parse(spec), out=out) is out
        assert same_bits(out, wanted).all()


@pytest.mark.parametrize("spec", ["int8", "e2m1fn", "mxfp4", "nf4"])
def test_nan_without_a_code_is_left_to_the_general_path(spec: str) -> None:
    x = np.ones(1 << 14, np.float32)
    x[77] = np.nan
    kept = x.copy()
    assert fast.quantize(x, parse(spec), out=x) is None
    assert same_bits(x, kept).all()
    with pytest.raises(UserError, match="NaN"):
        quantize_generally(x, parse(spec))


@pytest.mark.parametrize("spec", ["int8/wrap", "e4m3fn"])
def test_what_is_not_covered_answers_none(spec: str) -> None:
    x = np.zeros(0 if spec == "e4m3fn" else 100, np.float32)
    assert fast.quantize(x, parse(spec)) is None
