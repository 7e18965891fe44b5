"""What matmul accepts, what it returns, and the one line it says otherwise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import qsim
from qsim.arithmetic import Mac, matmul, reference
from tests.arithmetic.test_matmul import assert_same

RNG = np.random.default_rng(11)
A, B = RNG.standard_normal((4, 32)).astype(np.float32), RNG.standard_normal((32, 3)).astype(np.float32)


@pytest.mark.parametrize(
    ("a", "b", "mac", "bias", "text"),
    [
        (np.ones((2, 3)), np.ones((4, 2)), Mac(), None, "do not fit"),
        (np.ones((2, 3)), np.float64(2), Mac(), None, "at least one axis"),
        (np.ones((2, 2, 3)), np.ones((3, 3, 2)), Mac(), None, "do not broadcast"),
        (np.ones((2, 3)), np.ones((3, 2)), Mac(), np.ones(5), "bias of shape"),
        (np.array([["a"]]), np.ones((1, 1)), Mac(), None, "element type"),
        (np.ones((1, 1), complex), np.ones((1, 1)), Mac(), None, "element type"),
        (np.array([[np.nan]]), np.ones((1, 1)), Mac(accumulator="int8"), None, "NaN"),
        (np.array([[np.nan]]), np.ones((1, 1)), Mac(product="e2m1fn"), None, "NaN"),
        (np.array([[np.inf]]), np.ones((1, 1)), Mac(accumulator="int8/wrap"), None, "wraps"),
        (np.array([[np.inf, np.inf]]), np.array([[1], [-1]]), Mac(accumulator="int8", lanes=2), None, "NaN"),
        (np.ones((1, 1)), np.ones((1, 1)), Mac(accumulator="posit8.0"), None, "accumulator"),
    ],
)
def test_mistakes_are_one_line(a: Any, b: Any, mac: Mac, bias: Any, text: str) -> None:
    with pytest.raises(qsim.UserError, match=text) as error:
        matmul(a, b, mac, bias=bias)
    assert "\n" not in str(error.value)


def test_an_empty_sum_is_the_bias_or_zero() -> None:
    a, b = np.ones((2, 0)), np.ones((0, 3))
    assert np.array_equal(matmul(a, b), np.zeros((2, 3)))
    assert np.array_equal(matmul(a, b, Mac(accumulator="int4"), bias=np.array([1, 9, -9])), [[1, 7, -8]] * 2)
    assert matmul(np.ones((0, 5)), np.ones((5, 3))).shape == (0, 3)
    assert matmul(np.ones((2, 0, 5)), np.ones((5, 3))).shape == (2, 0, 3)


def test_infinity_and_nan_travel_through_float_accumulators() -> None:
    a = np.array([[np.inf, 1.0], [np.nan, 1.0], [np.inf, -np.inf], [1e30, 1.0]])
    b = np.ones((2, 1))
    assert_same(matmul(a, b, Mac(accumulator="float16/ieee"))[:, 0], [np.inf, np.nan, np.nan, np.inf])
    assert_same(matmul(a, b, Mac(accumulator="float16"))[:, 0], [65504, np.nan, -65504, 65504])
    assert_same(matmul(a, b)[:, 0], [np.inf, np.nan, np.nan, 1e30])


def test_shapes_follow_numpy() -> None:
    for a, b in (
        ((3,), (3,)),
        ((2, 3), (3,)),
        ((3,), (3, 4)),
        ((5, 2, 3), (3, 4)),
        ((5, 2, 3), (5, 3, 4)),
        ((6, 1, 2, 3), (5, 3, 4)),
    ):
        x, y = RNG.integers(-9, 9, a), RNG.integers(-9, 9, b)
        for mac in (
            Mac(),
            Mac(accumulator="int32"),
            Mac(accumulator="float32", lanes=2),
            Mac(accumulator="int8/wrap"),
        ):
            ours = matmul(x, y, mac)
            assert ours.shape == np.matmul(x, y).shape
            if "int8" not in mac.accumulator:
                assert np.array_equal(ours, np.matmul(x, y))


def test_element_types_of_results() -> None:
    ints = np.ones((2, 2), np.int8)
    assert matmul(ints, ints, Mac(accumulator="int32")).dtype == np.int32
    assert matmul(ints, ints, Mac(accumulator="int40")).dtype == np.int64
    assert matmul(ints, ints).dtype == np.float64
    floats = np.ones((2, 2), np.float32)
    assert matmul(floats, floats, Mac(accumulator="float16")).dtype == np.float32
    assert matmul(floats, floats.astype(np.float64), Mac(accumulator="float16")).dtype == np.float64


def test_any_layout_gives_the_same_bits() -> None:
    a, b = qsim.quantize(A, "e5m2"), qsim.quantize(B, "e5m2")
    for mac in (Mac(accumulator="float16/ieee"), Mac(accumulator="float16/floor"), Mac()):
        expected = matmul(a, b, mac)
        frozen = a.copy()
        frozen.flags.writeable = False
        spaced = np.zeros((8, 64), np.float32)
        spaced[::2, ::2] = a
        for x in (np.asfortranarray(a), frozen, spaced[::2, ::2], a[::-1][::-1], a.astype(np.float16)):
            assert_same(matmul(x, b, mac), expected)
        assert_same(matmul(a, np.asfortranarray(b), mac), expected)


def test_torch_in_torch_out() -> None:
    torch = pytest.importorskip("torch")
    a, b = torch.from_numpy(A), torch.from_numpy(B)
    ours = matmul(a, b, Mac(accumulator="float16"))
    assert isinstance(ours, torch.Tensor)
    assert np.array_equal(ours.numpy(), matmul(A, B, Mac(accumulator="float16")))
    assert torch.equal(matmul(a.bfloat16(), b.bfloat16()), matmul(a.bfloat16().float(), b.bfloat16().float()))


def test_scales_that_are_constant_in_a_sum_multiply_the_integer_result() -> None:
    a = qsim.encode(A, "uint8+zp@tensor:float32")
    b = qsim.encode(B, "int8@channel:float32", axis=1)
    integers = (a.codes.astype(int) - int(a.zero_point)) @ b.codes.astype(int)
    scale = np.float64(a.scale) * b.scale.astype(np.float64)
    assert np.array_equal(matmul(a, b, Mac(accumulator="int32")), integers * scale)
    # Sums that leave the accumulator saturate as codes, before any scale.
    assert np.array_equal(
        matmul(a, b, Mac(accumulator="int12", saturate="end")), np.clip(integers, -2048, 2047) * scale
    )


def test_blocks_meet_in_the_chunk_accumulator() -> None:
    a, b = qsim.encode(A, "int8@block8:float32"), qsim.encode(B, "int4@block16:float16", axis=0)
    mac = Mac(accumulator="int32", chunk=8, chunk_accumulator="float32")
    ours = matmul(a, b, mac)
    for i, j in np.ndindex(4, 3):
        scale = [float(a.scale[i, c]) * float(b.scale[c // 2, j]) for c in range(4)]
        expected = reference.dot(a.codes[i].tolist(), b.codes[:, j].tolist(), mac, chunk_scale=scale)
        assert reference.round_to_float64(expected) == ours[i, j]


def test_formats_mix_freely() -> None:
    names = (
        "int8@tensor:float32",
        "fixed8.3",
        "e4m3fn",
        "mxfp4",
        "nvfp4",
        "int4@block8:float16",
        "nf4@block8:float32",
    )
    for name in names:
        for other in names:
            a, b = qsim.encode(A, name), qsim.encode(B, other, axis=0)
            exact = np.asarray(qsim.decode(a), np.float64) @ np.asarray(qsim.decode(b), np.float64)
            assert np.allclose(matmul(a, b), exact, rtol=1e-5, atol=1e-5)


def test_the_output_format_rounds_the_exact_sum_once() -> None:
    # 1 + 2^-11 + 2^-60 is above the tie of float16; rounded to float64 first it would be the tie.
    a = np.array([[1.0, 2.0**-11, 2.0**-60]])
    b = np.ones((3, 1))
    assert matmul(a, b, output="float16")[0, 0] == 1 + 2.0**-10


def test_bias_of_encoded_operands_is_in_units_of_the_result() -> None:
    a, b = qsim.encode(A, "int8@tensor:float32"), qsim.encode(B, "int8@tensor:float32")
    scale = float(a.scale) * float(b.scale)
    without = matmul(a, b, Mac(accumulator="int32"))
    assert np.allclose(
        matmul(a, b, Mac(accumulator="int32"), bias=np.array([0.0, 100 * scale, 1.0])) - without,
        [0, 100 * scale, 1.0],
        atol=scale,
    )


def test_the_scale_of_all_nvfp4_scales_is_taken_out_of_the_sum() -> None:
    a, b = qsim.encode(A, "nvfp4"), qsim.encode(B, "nvfp4", axis=0)
    tensor_scale = float(np.asarray(a.levels[-1])) * float(np.asarray(b.levels[-1]))
    values = [np.asarray(q.spec.element.decode(q.codes)) for q in (a, b)]
    blocks = [np.repeat(np.asarray(q.levels[0], np.float64), 16, axis) for q, axis in ((a, 1), (b, 0))]
    inner = (values[0] * blocks[0]) @ (values[1] * blocks[1])
    assert np.array_equal(matmul(a, b), inner * tensor_scale)
    across = Mac(lanes=16, accumulator="float32")
    assert np.array_equal(
        matmul(a, b, across), matmul(values[0] * blocks[0], values[1] * blocks[1], across) * tensor_scale
    )
