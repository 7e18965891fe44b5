"""quantize on whole tensors: granularities, scale rules, special values, layouts, errors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import qsim
from qsim.casting import compute_scale
from qsim.casting.random_bits import seeded_bits
from qsim.errors import UserError
from tests.casting.strategies import elements, hard_numbers


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(st.data(), elements)
def test_numbers_of_a_format_stay_as_they_are(data, element) -> None:
    x = np.array([data.draw(hard_numbers(element)) for _ in range(5)])
    once = qsim.quantize(x, f"{element}")
    known = once[~np.isnan(once)]  # e8m0 has no number for zero and negatives
    assert np.array_equal(qsim.quantize(known, f"{element}"), known)


@pytest.mark.parametrize("shape", [(64,), (3, 64), (2, 3, 70), (4, 1)])
@pytest.mark.parametrize("axis", [0, -1])
def test_blocks_are_quantized_one_by_one(shape: tuple[int, ...], axis: int) -> None:
    """The last one ragged: the same as each piece alone."""
    x = normal(*shape)
    whole = qsim.quantize(x, "mxfp4", axis=axis)
    pieces = [
        qsim.quantize(piece, "e2m1fn@token:e8m0/floor", axis=axis)
        for piece in np.split(x, range(32, x.shape[axis], 32), axis=axis)
    ]
    assert np.array_equal(whole, np.concatenate(pieces, axis=axis))


def test_tiles_channels_and_tokens_are_tensors_of_their_own() -> None:
    x = normal(6, 10)
    tiles = qsim.quantize(x, "e4m3fn@block4x8:float32")
    for rows in (slice(0, 4), slice(4, 6)):
        for columns in (slice(0, 8), slice(8, 10)):
            assert np.array_equal(
                tiles[rows, columns], qsim.quantize(x[rows, columns], "e4m3fn@tensor:float32")
            )
    channels = qsim.quantize(x, "int8@channel:float32", axis=0)
    tokens = qsim.quantize(x, "int8@token:float32", axis=-1)
    for row in range(6):
        assert np.array_equal(channels[row], qsim.quantize(x[row], "int8@tensor:float32"))
        assert np.array_equal(tokens[row], channels[row])


def test_scale_rules_by_their_definition() -> None:
    x = np.array([0.5, -3.0, 7.5])
    assert compute_scale(x, qsim.parse("int8@tensor:float64"))[0] == 7.5 / 127
    assert compute_scale(x, qsim.parse("int8@tensor:float64/amax_half"))[0] == 7.5 / 127.5
    assert compute_scale(x, qsim.parse("e2m1fn@tensor:e8m0/floor"))[0] == 1.0  # 2^(2 - 2)
    assert compute_scale(x, qsim.parse("e2m1fn@tensor:e8m0/ceil"))[0] == 2.0  # 2^(3 - 2)
    assert compute_scale(x, qsim.parse("e2m1fn@tensor:e8m0/rceil"))[0] == 2.0  # 7.5 / 6 > 1
    assert compute_scale(x, qsim.parse("e2m1fn@tensor:e8m0/even"))[0] == 2.0  # 7.5 rounds to 8
    assert compute_scale(x * 0.8, qsim.parse("e2m1fn@tensor:e8m0/rceil"))[0] == 1.0  # 6 / 6
    scale, zero_point = compute_scale(x, qsim.parse("uint8+zp@tensor:float64"))
    assert scale == 10.5 / 255 and zero_point == round(3.0 / (10.5 / 255))


def test_a_range_is_stretched_to_hold_zero() -> None:
    x = np.array([2.0, 4.0])
    scale, zero_point = compute_scale(x, qsim.parse("uint8+zp@tensor:float64"))
    assert scale == 4 / 255 and zero_point == 0


def test_nvfp4_scales_block_by_block_under_one_global_scale() -> None:
    x = normal(4, 64) * np.float32(100)
    x[0, :16] = 1e-4  # wants a block scale below the normal numbers of E4M3
    free = qsim.encode(x, "nvfp4")
    clamped = qsim.encode(x, "nvfp4_normal")
    assert free.levels[1] == clamped.levels[1] == np.float32(np.abs(x).max() / np.float32(6 * 448))
    assert (
        free.levels[0].max() == 448 and free.levels[0][0, 0] == 2.0**-9 and clamped.levels[0][0, 0] == 2.0**-6
    )
    assert np.array_equal(free.scale, free.levels[0] * free.levels[1])


def test_double_quantization_scales_the_scales() -> None:
    x = normal(2, 512)
    q = qsim.encode(x, "nf4@block64:uint8@block256:float32")
    assert [level.shape for level in q.levels] == [(2, 8), (2, 1)]
    peaks = np.abs(x).reshape(2, 8, 64).max(-1)
    assert np.allclose(q.levels[1][:, 0], peaks.max(-1) / 255) and q.levels[0].max() == 255


@pytest.mark.parametrize("axis", [0, -1])
@pytest.mark.parametrize(
    "name",
    [
        "e2m1fn@block16:e4m3fn@channel:float32",
        "int4@channel:float16@tensor:float32",
        "nf4@block4:uint8@block4:float32",
        "int4@token:uint8@tensor:float32",
        "e4m3fn@block2x4:uint8@block2x2:float32",
    ],
)
def test_the_levels_of_a_scale_can_be_given_back(name: str, axis: int) -> None:
    x = normal(48, 48)
    q = qsim.encode(x, name, axis=axis)
    for scale in (q.levels, q.scale):
        assert np.array_equal(qsim.quantize(x, name, axis=axis, scale=scale), qsim.decode(q))


def test_integers_that_float64_does_not_hold_are_refused() -> None:
    assert qsim.quantize(np.array([2**53, -(2**53)]), "float32").tolist() == [2.0**53, -(2.0**53)]
    with pytest.raises(UserError, match="2\\^53"):
        qsim.quantize(np.array([2**60 + 1]), "float32")


# Special values.


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "name", ["int8", "e4m3fn", "mxfp4", "nvfp4", "int8@channel:float32", "uint8+zp@tensor:float32"]
)
def test_empty_zero_and_one_element_tensors(name: str, dtype: type) -> None:
    for shape in ((0,), (0, 4), (4, 0)):
        y = qsim.quantize(np.zeros(shape, dtype), name)
        assert y.shape == shape and y.dtype == dtype
    assert not qsim.quantize(np.zeros((3, 40), dtype), name).any()
    assert qsim.quantize(np.ones((1, 1), dtype), name) == pytest.approx(1.0, rel=1e-6)
    assert qsim.quantize(dtype(1), name).shape == () if "channel" not in name else True


def test_infinity_goes_where_the_overflow_says() -> None:
    x = np.array([np.inf, -np.inf, 1e9], np.float32)
    assert qsim.quantize(x, "e5m2").tolist() == [57344, -57344, 57344]
    assert qsim.quantize(x, "e5m2/saturate_finite").tolist() == [np.inf, -np.inf, 57344]
    assert qsim.quantize(x, "e5m2/ieee").tolist() == [np.inf, -np.inf, np.inf]
    assert np.isnan(qsim.quantize(x, "e4m3fn/ieee")).all()
    assert qsim.quantize(x, "e4m3fn/saturate_zero").tolist() == [0, 0, 0]
    assert qsim.quantize(x, "int8").tolist() == [127, -128, 127]
    assert qsim.quantize(x, "int8/saturate_symmetric").tolist() == [127, -127, 127]
    with pytest.raises(UserError, match="infinity"):
        qsim.quantize(x, "int8/wrap")


def test_infinity_and_nan_do_not_set_the_scale_of_their_block() -> None:
    x = np.full((1, 32), 3.0, np.float32)
    x[0, 0], x[0, 1] = np.inf, -np.inf
    assert qsim.quantize(x, "mxfp4")[0, :3].tolist() == [6 * 0.5, -6 * 0.5, 3.0]
    x[0, 0] = np.nan
    y = qsim.quantize(x, "mxfp8")
    assert np.isnan(y[0, 0]) and y[0, 2] == 3.0


@pytest.mark.parametrize("name", ["int8", "fixed8.2", "e2m1fn", "nf4", "mxfp4", "int8+zp@tensor:float32"])
def test_nan_into_a_format_without_it_is_an_error(name: str) -> None:
    with pytest.raises(UserError, match="NaN"):
        qsim.quantize(np.array([1.0, np.nan], np.float32), name)
    with pytest.raises(UserError, match="NaN"):
        qsim.encode(np.array([1.0, np.nan], np.float32), name)


@pytest.mark.parametrize(
    "name", ["e4m3fn", "e5m2", "float16", "binary8p3se", "e4m3fnuz", "posit8.2", "float32"]
)
def test_nan_stays_nan_where_the_format_has_it(name: str) -> None:
    y = qsim.quantize(np.array([np.nan, 1.0], np.float32), name)
    assert np.isnan(y[0]) and y[1] == 1
    assert np.isnan(qsim.decode(qsim.encode(np.array([np.nan]), name))[0])


def test_negative_zero_where_the_format_has_it() -> None:
    x = np.array([-0.0, -1e-30], np.float32)
    assert np.signbit(qsim.quantize(x, "e4m3fn")).all() and np.signbit(qsim.quantize(x, "mxfp4")).all()
    for name in ("int8", "fixed8.2", "e4m3fnuz", "binary8p3se", "nf4", "e4m3-sign"):
        assert not np.signbit(qsim.quantize(x, name)).any()


def test_subnormal_float32_inputs_count() -> None:
    x = np.array([1e-45, 1.1e-38, -3e-42], np.float32)
    assert np.array_equal(qsim.quantize(x, "float32"), x)
    y = qsim.quantize(x, "e5m2@tensor:e8m0")
    assert y.any()


def test_unsigned_formats_hold_no_negative_number() -> None:
    x = np.array([-2.0, -0.1, 3.0])
    assert qsim.quantize(x, "uint4").tolist() == [0, 0, 3]
    assert qsim.quantize(x, "e4m3-inf-nan-sign").tolist() == [0, 0, 3]
    assert qsim.quantize(x, "log2_3").tolist() == [0, 0, 1]


def test_float64_rounds_once() -> None:
    """1.0625 + 2^-40 lies above a midpoint of E4M3; through float32 it would become the midpoint."""
    assert qsim.quantize(np.array([1.0625 + 2**-40, 17 + 2**-36]), "e4m3fn").tolist() == [1.125, 18]
    assert qsim.quantize(np.array([1 + 2**-8 + 2**-40]), "bfloat16").tolist() == [1.0078125]
    assert qsim.quantize(16842753, "bfloat16") == 16908288


# Random bits.


def test_seeded_bits_depend_on_seed_and_index_only() -> None:
    bits = seeded_bits(3, (1000,), 8)
    assert np.array_equal(seeded_bits(3, (10, 100), 8).ravel(), bits)
    assert np.array_equal(seeded_bits(3, (500,), 8), bits[:500])
    assert not np.array_equal(seeded_bits(4, (1000,), 8), bits)
    assert np.array_equal(seeded_bits(3, (1000,), 32) >> 24, bits)


def test_seeded_bits_are_uniform_and_uncorrelated() -> None:
    bits = seeded_bits(1, (1 << 18,), 32)
    centred = bits / 2.0**32 - 0.5
    assert abs(centred.mean()) < 4 * np.sqrt(1 / 12 / bits.size)
    for other in (centred[1:], (seeded_bits(2, bits.shape, 32) / 2.0**32 - 0.5)[:-1]):
        assert abs((centred[:-1] * other).mean() * 12) < 4 / np.sqrt(bits.size)
    ones = [(bits >> k & 1).mean() for k in range(32)]
    assert np.abs(np.array(ones) - 0.5).max() < 5 * 0.5 / np.sqrt(bits.size)


def test_stochastic_rounding_has_the_bias_of_its_hardware() -> None:
    """P(up) of a third with 4 bits: floor(16/3)/16, as a plain LFSR adder has it."""
    x = np.full(1 << 16, 1 + 1 / 3)
    up = (qsim.quantize(x, "int8/stochastic4", seed=0) == 2).mean()
    assert abs(up - 5 / 16) < 0.01
    layout = np.linspace(0, 1, 64).reshape(8, 8)
    assert np.array_equal(
        qsim.quantize(np.asfortranarray(layout), "uint1/stochastic8", seed=9),
        qsim.quantize(layout, "uint1/stochastic8", seed=9),
    )


# What a caller can do wrong.


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("int8/stochastic8", {}, "random_bits or a seed"),
        ("int8/stochastic8", {"random_bits": np.full((2, 3), 256)}, "from 0 to"),
        ("int8/stochastic8", {"random_bits": np.zeros((5, 3), int)}, "do not fit"),
        ("int8", {"scale": 1.0}, "has no scale"),
        ("int8@tensor:float32", {"scale": 0.0}, "above zero"),
        ("int8@tensor:float32", {"scale": np.nan}, "above zero"),
        ("int8@channel:float32", {"scale": np.ones(2)}, "expected shape \\(3,\\)"),
        ("int8@tensor:float32", {"scale": 1.0, "zero_point": 3}, "has no zero point"),
        ("int8+zp@tensor:float32", {"scale": 1.0, "zero_point": 300}, "integer from -128 to 127"),
        ("int8+zp@tensor:float32", {"scale": 1.0, "zero_point": 0.5}, "integer from"),
        ("int8@channel:float32", {"axis": 2}, "axis 2 does not exist"),
        ("int8@tensor:float32", {"affine": "fused"}, "unknown affine"),
        ("e4m3fn@tensor:float32", {"affine": "reciprocal_fma"}, "int elements"),
        ("int8", {"out": np.zeros((2, 2), np.float32)}, "out must be"),
        ("int8@tensor:float32", {"scale": (1.0, 2.0)}, "fewer scale levels"),
        ("nvfp4", {"scale": ()}, "at least the innermost level"),
        ("int8@tensor:float32", {"scale": "1"}, "scale must be numbers"),
        ("int8@tensor:float32", {"scale": 1e300}, "above zero"),
        ("int8+zp@tensor:float32", {"scale": 1.0, "zero_point": np.nan}, "integer from"),
        ("mxfp4", {"axis": 1.0}, "axis is an integer"),
        ("mxfp4", {"axis": None}, "axis is an integer"),
        ("int8/stochastic8", {"seed": 1.5}, "a seed is an integer"),
        ("int8", {"out": np.broadcast_to(np.float32(0), (2, 3))}, "out must be a writable"),
    ],
)
def test_mistakes_get_one_clear_line(name: str, options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        qsim.quantize(np.ones((2, 3), np.float32), name, **options)
    assert "\n" not in str(caught.value)


def test_what_is_not_a_number_is_refused() -> None:
    for x in (np.array(["a"]), np.array([1j]), np.array([None])):
        with pytest.raises(UserError, match="real numbers"):
            qsim.quantize(x, "int8")
    with pytest.raises(UserError, match="different lengths"):
        qsim.quantize([[1, 2], [3]], "int8")
