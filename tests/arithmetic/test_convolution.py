"""Convolutions and linear layers: the same sums as one dot product an output pixel."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import qsim
from qsim.arithmetic import Mac, conv, layer_conv, layer_matmul, linear, matmul
from tests.arithmetic.test_matmul import assert_same

MACS = (
    Mac(),
    Mac(accumulator="float16/ieee"),
    Mac(accumulator="float16", lanes=4),
    Mac(accumulator="float16", order="pairwise"),
    Mac(accumulator="int16"),
    Mac(accumulator="int12/wrap"),
    Mac(accumulator="float32", chunk=4),
)


def direct(x: np.ndarray, w: np.ndarray, mac: Mac, bias: Any, window: dict[str, Any]) -> np.ndarray:
    """One patch at a time, in the order of the flattened weight."""
    stride, dilation, groups = window["stride"], window["dilation"], window["groups"]
    top, left, bottom, right = window["padding"]
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    reach = [d * (k - 1) + 1 for k, d in zip(w.shape[2:], dilation, strict=True)]
    rows, columns = ((n - r) // s + 1 for n, r, s in zip(padded.shape[2:], reach, stride, strict=True))
    out = np.empty((len(x), len(w), rows, columns))
    per_group = len(w) // groups
    for n, o, i, j in np.ndindex(*out.shape):
        first = o // per_group * w.shape[1]
        rows_read = slice(i * stride[0], i * stride[0] + reach[0], dilation[0])
        columns_read = slice(j * stride[1], j * stride[1] + reach[1], dilation[1])
        patch = padded[n, first : first + w.shape[1], rows_read, columns_read].ravel()
        out[n, o, i, j] = matmul(patch, w[o].ravel(), mac, bias=None if bias is None else bias[o])
    return out


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(MACS), st.data())
def test_conv_is_one_dot_product_a_pixel(mac: Mac, data: st.DataObject) -> None:
    groups = data.draw(st.sampled_from((1, 1, 2, 3)))
    kernel = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    window = {
        "stride": data.draw(st.tuples(st.integers(1, 2), st.integers(1, 3))),
        "dilation": data.draw(st.tuples(st.integers(1, 2), st.integers(1, 2))),
        "padding": data.draw(st.tuples(*[st.integers(0, 2)] * 4)),
        "groups": groups,
    }
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    element = "int8" if mac.accumulator.startswith("int") else data.draw(st.sampled_from(("e4m3fn", "e5m2")))
    spread = 40 if element == "int8" else 1
    x = qsim.quantize(rng.standard_normal((2, groups * 2, 5, 6)).astype(np.float32) * spread, element)
    w = qsim.quantize(rng.standard_normal((groups * 3, 2, *kernel)).astype(np.float32) * spread, element)
    bias = np.rint(rng.standard_normal(groups * 3) * 8) if data.draw(st.booleans()) else None
    assert_same(layer_conv(x, w, mac, bias, **window), direct(x, w, mac, bias, window))


def test_conv_agrees_with_torch_where_sums_are_exact() -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    x, w = rng.integers(-8, 8, (3, 6, 17, 12)), rng.integers(-8, 8, (4, 3, 3, 5))
    bias = rng.integers(-99, 99, 4)
    ours = layer_conv(x, w, Mac(accumulator="int32"), bias, stride=(2, 1), padding=(1, 2), groups=2)
    tensors = [torch.from_numpy(v.astype(np.float64)) for v in (x, w, bias)]
    assert np.array_equal(ours, torch.conv2d(*tensors, stride=(2, 1), padding=(1, 2), groups=2).numpy())
    ours = layer_conv(x[:, :, 0], w[:, :, 0], Mac(), bias, padding=(3, 1), dilation=2, groups=2)
    padded = torch.nn.functional.pad(tensors[0][:, :, 0], (3, 1))
    expected = torch.conv1d(padded, tensors[1][:, :, 0], tensors[2], dilation=2, groups=2)
    assert np.array_equal(ours, expected.numpy())


def test_linear_is_a_matmul_with_the_weight_transposed() -> None:
    rng = np.random.default_rng(1)
    x, w = (qsim.quantize(rng.standard_normal(s).astype(np.float32), "e4m3fn") for s in ((2, 3, 20), (7, 20)))
    bias = qsim.quantize(rng.standard_normal(7), "float16")
    mac = Mac(accumulator="float16")
    assert_same(layer_matmul(x, w, mac, bias), matmul(x, w.T, mac, bias=bias))


@pytest.mark.parametrize(
    ("x", "w", "options", "text"),
    [
        ((1, 3, 5, 5), (4, 2, 3, 3), {}, "groups"),
        ((1, 3, 5, 5), (4, 3, 7, 7), {}, "does not fit"),
        ((1, 3, 5), (4, 3, 3, 3), {}, "axes"),
        ((1, 3, 5, 5), (4, 3, 3, 3), {"stride": 0}, "stride"),
        ((1, 3, 5, 5), (4, 3, 3, 3), {"padding": (1, 2, 3)}, "padding"),
        ((1, 3, 5, 5), (4, 3, 3, 3), {"padding": -1}, "padding"),
        ((1, 3, 5, 5), (4, 3, 3, 3), {"bias": np.zeros(3)}, "bias"),
    ],
)
def test_shapes_that_do_not_fit_are_one_line(x: Any, w: Any, options: dict[str, Any], text: str) -> None:
    with pytest.raises(qsim.UserError, match=text):
        layer_conv(np.zeros(x), np.zeros(w), Mac(), **options)


def test_no_images_give_no_outputs() -> None:
    out = layer_conv(np.zeros((0, 3, 5, 5), np.float32), np.ones((4, 3, 3, 3), np.float32), Mac())
    assert out.shape == (0, 4, 3, 3)


def test_encoded_convolution_scales_the_integer_sums() -> None:
    rng = np.random.default_rng(2)
    x = qsim.encode(rng.standard_normal((2, 4, 6, 6)).astype(np.float32), "uint8+zp@tensor:float32")
    w = qsim.encode(rng.standard_normal((3, 4, 3, 3)).astype(np.float32), "int8@channel:float32", axis=0)
    integers = layer_conv(
        x.codes.astype(int) - int(x.zero_point), w.codes, Mac(accumulator="int32"), padding=1
    )
    scale = np.float64(x.scale) * w.scale.astype(np.float64)
    ours = conv(x, w, Mac(accumulator="int32"), padding=1)
    assert np.array_equal(ours, integers * scale[None, :, None, None])
    shifted = conv(x, w, Mac(accumulator="int32"), bias=7 * scale, padding=1)
    assert np.allclose(shifted - ours, (7 * scale)[None, :, None, None])


def test_block_scales_of_a_convolution_are_multiplied_in() -> None:
    rng = np.random.default_rng(3)
    x = qsim.encode(rng.standard_normal((1, 32, 5, 5)).astype(np.float32), "mxfp4", axis=1)
    w = qsim.encode(rng.standard_normal((3, 32, 2, 2)).astype(np.float32), "mxfp8_e4m3", axis=1)
    values = [np.asarray(qsim.decode(q), np.float64) for q in (x, w)]
    assert np.array_equal(conv(x, w), layer_conv(*values, Mac()))


def test_encoded_linear_layer() -> None:
    rng = np.random.default_rng(4)
    x = qsim.encode(rng.standard_normal((5, 64)).astype(np.float32), "mxfp6_e3m2")
    w = qsim.encode(rng.standard_normal((7, 64)).astype(np.float32), "int4@block32:float16")
    expected = np.asarray(qsim.decode(x), np.float64) @ np.asarray(qsim.decode(w), np.float64).T
    assert np.allclose(linear(x, w), expected, rtol=1e-6)
    with pytest.raises(qsim.UserError, match="outputs, inputs"):
        linear(x, np.ones((64, 7)))
