"""Integer layers: exact sums against plain loops, and each rule's sums, products and averages against fractions."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qsim.arithmetic import requantize as rq
from qsim.arithmetic.integer import Affine, accumulate, elementwise, layers, pooling, unary
from qsim.arithmetic.integer.softmax import softmax
from qsim.errors import UserError
from qsim.formats import Integer

INT8 = Integer(8)
SEEDS = st.integers(0, 2**32 - 1)
SCALES = st.floats(2.0**-10, 4.0, width=32)


def codes(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.integers(-128, 128, shape).astype(np.int8)


def plain_conv(x: np.ndarray, w: np.ndarray, strides, dilations, pads, groups) -> np.ndarray:
    """The definition, one product after the other."""
    half = x.ndim - 2
    sizes = accumulate.output_shape(x.shape[2:], w.shape[2:], strides, dilations, pads)
    y = np.zeros((len(x), len(w), *sizes), np.int64)
    for n, o in np.ndindex(len(x), len(w)):
        first = o // (len(w) // groups) * w.shape[1]
        for out in np.ndindex(*sizes):
            for c, *k in np.ndindex(*w.shape[1:]):
                at = [
                    i * s + j * d - p
                    for i, s, j, d, p in zip(out, strides, k, dilations, pads[:half], strict=True)
                ]
                if all(0 <= a < length for a, length in zip(at, x.shape[2:], strict=True)):
                    y[(n, o, *out)] += int(x[(n, first + c, *at)]) * int(w[(o, c, *k)])
    return y


@given(SEEDS, st.sampled_from([1, 2]), st.integers(1, 2), st.integers(1, 2))
def test_conv_is_the_sum_of_its_products(seed: int, ndim: int, stride: int, dilation: int) -> None:
    rng = np.random.default_rng(seed)
    groups, outs, ins = (int(v) for v in rng.integers(1, 4, 3))
    x = rng.integers(-255, 256, (2, groups * ins, *rng.integers(3, 6, ndim)))
    w = rng.integers(-128, 128, (groups * outs, ins, *rng.integers(1, 3, ndim)))
    pads = rng.integers(0, 3, 2 * ndim).tolist()
    how = {"strides": [stride] * ndim, "dilations": [dilation] * ndim, "pads": pads, "groups": groups}
    assert np.array_equal(accumulate.conv(x, w, **how), plain_conv(x, w, **how))


@given(SEEDS, st.integers(1, 3), st.integers(1, 2), st.integers(1, 2))
def test_conv_transpose_is_the_adjoint_of_conv(seed: int, stride: int, dilation: int, groups: int) -> None:
    """<conv(x), y> = <x, conv_transpose(y)> for the same kernel and pads."""
    rng = np.random.default_rng(seed)
    w = rng.integers(-9, 10, (groups * 2, 3, 3, 2))
    pads = rng.integers(0, 2, 4).tolist()
    how = {"strides": (stride, stride), "dilations": (dilation, dilation), "pads": pads, "groups": groups}
    x = rng.integers(-9, 10, (1, groups * 3, 9, 8))
    y = rng.integers(-9, 10, accumulate.conv(x, w, **how).shape)
    back = accumulate.conv_transpose(y, w, **how)
    extra = [n - m for n, m in zip(x.shape[2:], back.shape[2:], strict=True)]
    back = accumulate.conv_transpose(y, w, **how, output_padding=extra)
    assert back.shape == x.shape
    assert (accumulate.conv(x, w, **how) * y).sum() == (x * back).sum()


@pytest.mark.parametrize("largest", [2**6, 2**11, 2**20, 2**29])
def test_matmul_is_exact_whatever_type_carries_it(largest: int) -> None:
    """float32, float64 and int64 paths; sums beyond 32 bits wrap as an int32 register does."""
    rng = np.random.default_rng(3)
    a, b = rng.integers(-largest, largest + 1, (5, 40)), rng.integers(-largest, largest + 1, (40, 7))
    exact = [[sum(int(p) * int(q) for p, q in zip(row, col, strict=True)) for col in b.T] for row in a]
    wrapped = [[(v + 2**31) % 2**32 - 2**31 for v in row] for row in exact]
    assert accumulate.matmul(a, b).tolist() == wrapped


def test_depthwise_and_grouped_and_pointwise_agree_with_matmul() -> None:
    rng = np.random.default_rng(4)
    x, w = codes(rng, 2, 6, 4, 4).astype(np.int64), codes(rng, 5, 6, 1, 1).astype(np.int64)
    how = {"strides": (1, 1), "dilations": (1, 1), "pads": (0, 0, 0, 0)}
    flat = accumulate.matmul(x.transpose(0, 2, 3, 1), w[:, :, 0, 0].T).transpose(0, 3, 1, 2)
    assert np.array_equal(accumulate.conv(x, w, **how), flat)


@given(SEEDS, st.sampled_from(rq.RULES))
def test_padding_is_the_zero_point(seed: int, rule: str) -> None:
    """Padding a convolution is convolving codes padded with the zero point."""
    rng = np.random.default_rng(seed)
    x, w, bias = codes(rng, 1, 3, 5, 4), codes(rng, 4, 3, 2, 2), rng.integers(-999, 999, 4).astype(np.int32)
    zero_point = int(rng.integers(-128, 128))
    facts = {
        "input": Affine(INT8, 0.05, zero_point),
        "weight": Affine(INT8, rng.uniform(0.01, 0.1, 4)),
        "output": Affine(INT8, 0.5, 3),
        "rule": rule,
    }
    wide = np.pad(x, [(0, 0), (0, 0), (1, 0), (2, 1)], constant_values=zero_point)
    padded = layers.conv(x, w, bias, layers.Window(pads=(1, 2, 0, 1)), **facts)
    assert np.array_equal(padded, layers.conv(wide, w, bias, layers.Window(), **facts))


@given(SEEDS, st.sampled_from(rq.RULES))
def test_linear_is_a_pointwise_conv_and_a_matmul_with_bias(seed: int, rule: str) -> None:
    rng = np.random.default_rng(seed)
    x, w, bias = codes(rng, 3, 8), codes(rng, 5, 8), rng.integers(-9999, 9999, 5).astype(np.int32)
    source, output, scale = Affine(INT8, 0.05, -7), Affine(INT8, 0.7, 11), rng.uniform(0.01, 0.1, 5)
    facts = {"input": source, "output": output, "rule": rule}
    rows = layers.linear(x, w, bias, weight=Affine(INT8, scale), **facts)
    image = layers.conv(
        x[:, :, None],
        w[:, :, None],
        bias,
        layers.Window((1,), (1,), (0, 0)),
        weight=Affine(INT8, scale),
        **facts,
    )
    assert np.array_equal(rows, image[:, :, 0])
    product_ = layers.matmul(
        x, w.T, left=source, right=Affine(INT8, scale, axis=-1), output=output, rule=rule
    )
    assert np.array_equal(product_, layers.linear(x, w, None, weight=Affine(INT8, scale), **facts))


@given(SEEDS, SCALES, SCALES, SCALES, st.sampled_from(rq.RULES), st.sampled_from([1, -1]))
def test_sums_are_within_one_code_of_the_real_sum(seed, left_scale, right_scale, scale, rule, sign) -> None:
    """ "float" rounds the exact sum; the others round up to three times, each by half a code or far less."""
    rng = np.random.default_rng(seed)
    a, b = codes(rng, 60), codes(rng, 60)
    zero_points = rng.integers(-128, 128, 3)
    left, right, output = (
        Affine(INT8, s, z) for s, z in zip((left_scale, right_scale, scale), zero_points, strict=True)
    )
    compute = elementwise.add if sign == 1 else elementwise.subtract
    ours = compute(a, b, left=left, right=right, output=output, rule=rule).astype(float)
    real = (left.centred(a) * float(left.scale) + sign * right.centred(b) * float(right.scale)) / float(
        output.scale
    )
    real = np.clip(real + zero_points[2], -128, 127)
    bound = {"float": 0.5, "onnx": 0.502}.get(rule, 1.0 if rule.startswith("dyadic") else 0.51)
    assert np.abs(ours - real).max() <= bound + 1e-6


@given(SEEDS, SCALES, SCALES, SCALES, st.sampled_from(rq.RULES))
def test_products_are_within_half_a_code_of_the_real_product(
    seed, left_scale, right_scale, scale, rule
) -> None:
    rng = np.random.default_rng(seed)
    a, b = codes(rng, 60), codes(rng, 60)
    left, right, output = Affine(INT8, left_scale, -3), Affine(INT8, right_scale, 90), Affine(INT8, scale, 5)
    ours = elementwise.multiply(a, b, left=left, right=right, output=output, rule=rule).astype(float)
    factor = float(left.scale) * float(right.scale) / float(output.scale)
    real = np.clip(left.centred(a) * right.centred(b) * factor + 5, -128, 127)
    assert np.abs(ours - real).max() <= (1.0 if rule == "tflite_double" else 0.51)


@given(
    st.floats(-300, 300, width=32), st.floats(2.0**-20, 8, width=32), st.floats(-(2.0**20), 2.0**20, width=32)
)
def test_fused_multiply_add_rounds_once(a: float, b: float, c: float) -> None:
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    ours = Fraction(float(elementwise.fused_multiply_add(a, b, c)))
    guess = np.float32(float(exact))
    distances = {
        abs(Fraction(float(v)) - exact)
        for v in (guess, np.nextafter(guess, np.float32(np.inf)), np.nextafter(guess, np.float32(-np.inf)))
    }
    assert abs(ours - exact) == min(distances)


def test_fused_multiply_add_where_float64_would_round_twice() -> None:
    """1 + 2^-24 + 2^-78 lies above the tie between 1 and its neighbour; float64 drops the last term."""
    a, b, c = np.float32(2.0**-39), np.float32(2.0**-39), np.float32(1.0)
    assert elementwise.fused_multiply_add(a, b, c) == 1.0
    tie = np.float32(1 + 2.0**-12), np.float32(2.0**-24 * (1 - 2.0**-12)), np.float32(1.0)
    assert float(elementwise.fused_multiply_add(*tie)) == 1.0  # 1 + 2^-24 (1 - 2^-24): just below the tie
    tie = np.float32(1 + 2.0**-23), np.float32(2.0**-24), np.float32(1.0)
    assert float(elementwise.fused_multiply_add(*tie)) == 1.0 + 2.0**-23


@given(SEEDS, st.sampled_from(rq.RULES))
def test_average_pool_leaves_padding_out(seed: int, rule: str) -> None:
    rng = np.random.default_rng(seed)
    x, affine = codes(rng, 1, 2, 5, 6), Affine(INT8, 0.25, int(rng.integers(-128, 128)))
    ours = pooling.average_pool(
        x, kernel=(3, 2), strides=(2, 2), pads=(1, 0, 1, 1), input=affine, output=affine, rule=rule
    )
    for c, i, j in np.ndindex(*ours.shape[1:]):
        window = x[0, c, max(2 * i - 1, 0) : 2 * i + 2, 2 * j : 2 * j + 2].astype(int)
        mean = Fraction(int(window.sum()), window.size)
        assert abs(Fraction(int(ours[0, c, i, j])) - mean) <= Fraction(1, 2) + Fraction(1, 10**5)
        if rule.startswith("tflite"):
            assert ours[0, c, i, j] == math.copysign(math.floor(abs(mean) + Fraction(1, 2)), mean)


@given(SEEDS, SCALES, SCALES, st.sampled_from(rq.RULES), st.booleans())
def test_mean_and_sum_are_within_a_code(seed, scale, out_scale, rule, keep_axes) -> None:
    rng = np.random.default_rng(seed)
    x, source, output = codes(rng, 2, 3, 5, 4), Affine(INT8, scale, 9), Affine(INT8, out_scale, -4)
    facts = {"axes": (2, 3), "keep_axes": keep_axes, "input": source, "output": output, "rule": rule}
    total = source.centred(x).sum(axis=(2, 3), keepdims=keep_axes) * (
        float(source.scale) / float(output.scale)
    )
    for ours, real in ((pooling.mean(x, **facts), total / 20), (pooling.total(x, **facts), total)):
        assert ours.shape == real.shape
        assert np.abs(ours - np.clip(real - 4, -128, 127)).max() <= 1.0


def test_max_pool_never_picks_padding() -> None:
    x = np.full((1, 1, 2, 2), -128, np.int8)
    assert (pooling.max_pool(x, kernel=(3, 3), strides=(1, 1), pads=(1, 1, 1, 1)) == -128).all()


@given(SCALES, SCALES, st.integers(-128, 127), st.integers(-128, 127))
def test_tables_hold_the_function_of_every_code(
    scale: float, out_scale: float, zero: int, out_zero: int
) -> None:
    x = np.arange(-128, 128).astype(np.int8)
    source, output = Affine(INT8, scale, zero), Affine(INT8, out_scale, out_zero)
    ours = unary.lookup(x, unary.tanh, input=source, output=output).astype(float)
    real = np.clip(
        np.tanh(source.centred(x) * float(source.scale)) / float(output.scale) + out_zero, -128, 127
    )
    assert np.abs(ours - real).max() <= 0.5 + 1e-4


@given(
    SEEDS,
    st.floats(-1.5, 1.5, width=32),
    st.sampled_from(["dyadic", "float", "tflite_double", "tflite_float"]),
)
def test_slopes(seed: int, alpha: float, rule: str) -> None:
    rng = np.random.default_rng(seed)
    x, source, output = codes(rng, 80), Affine(INT8, 0.1, -20), Affine(INT8, 0.07, 13)
    ours = unary.leaky_relu(x, alpha, input=source, output=output, rule=rule).astype(float)
    centred = source.centred(x)
    real = np.where(centred >= 0, centred, centred * alpha) * (0.1 / 0.07) + 13
    assert np.abs(ours - np.clip(real, -128, 127)).max() <= (1.0 if rule == "tflite_double" else 0.51)


def test_clamps_hold_codes_between_those_of_real_numbers() -> None:
    x = np.arange(-128, 128).astype(np.int8)
    affine = Affine(INT8, 0.05, -10)
    facts = {"input": affine, "output": affine, "rule": "tflite_double"}
    assert np.array_equal(unary.clamp(x, 0.0, None, **facts), np.maximum(x, -10))
    assert np.array_equal(unary.clamp(x, 0.0, 6.0, **facts), np.clip(x, -10, 110))


@pytest.mark.parametrize("scale", [0.004, 0.0625, 0.3])
def test_fixed_point_softmax_of_every_pair_of_codes(scale: float) -> None:
    pairs = np.array(list(product(range(-128, 128), repeat=2)), np.int8)
    ours = softmax(pairs, input=Affine(INT8, scale, 5), output=Affine(INT8, 2.0**-8, -128)).astype(int)
    x = pairs * float(np.float32(scale))
    exact = np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True)
    assert np.abs(ours + 128 - np.minimum(exact * 256, 255)).max() <= 0.501


def test_affine_round_trip_and_special_values() -> None:
    affine = Affine(INT8, 0.5, 3)
    every = np.arange(-128, 128).astype(np.int8)
    assert np.array_equal(affine.quantize(affine.dequantize(every)), every)
    assert affine.quantize(np.array([0.25, -0.25, np.inf, -np.inf, 1e30])).tolist() == [4, 2, 127, -128, 127]
    with pytest.raises(UserError, match="NaN has no int8 code"):
        affine.quantize(np.array([np.nan]))


def linear(x: np.ndarray, w: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
    return layers.linear_accumulator(x, w, bias, input=Affine(INT8), weight=Affine(INT8))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: accumulate.matmul(np.ones((2, 3), np.int64), np.ones((2, 3), np.int64)), "inner lengths differ"),
        (lambda: linear(np.ones((2, 3), np.int8), np.ones(3, np.int8), None), "2 axes"),
        (lambda: linear(np.ones((2, 3), np.int8), np.ones((4, 3), np.int8), np.ones(4)), "a bias is 4 integers"),
        (lambda: accumulate.output_shape((3,), (5,), (1,), (1,), (0, 0)), "does not fit"),
        (lambda: Affine(INT8, 0.0), "positive and finite"),
        (lambda: Affine(INT8, np.ones((2, 2))), "one scale for a tensor"),
        (lambda: softmax(np.zeros(3, np.int8), input=Affine(INT8), output=Affine(INT8, 0.1)), "scale 1/256"),
        (lambda: unary.lookup(np.zeros(3), np.tanh, input=Affine(Integer(24)), output=Affine(INT8)), "table of int24"),
    ],
)  # fmt: skip
def test_user_errors(call, message: str) -> None:
    with pytest.raises(UserError, match=message):
        call()


def test_empty_batches_stay_empty() -> None:
    facts = {
        "input": Affine(INT8, 0.1),
        "weight": Affine(INT8, 0.1),
        "output": Affine(INT8, 0.1),
        "rule": "dyadic",
    }
    assert layers.linear(np.zeros((0, 4), np.int8), np.ones((3, 4), np.int8), None, **facts).shape == (0, 3)
    image = layers.conv(
        np.zeros((0, 2, 4, 4), np.int8), np.ones((3, 2, 3, 3), np.int8), None, layers.Window(), **facts
    )
    assert image.shape == (0, 3, 2, 2)
