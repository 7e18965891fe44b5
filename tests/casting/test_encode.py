"""Codes, packed bytes and torch tensors: the same values in other clothes."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import qsim
from qsim.casting.pack import pack_codes, unpack_codes
from qsim.errors import UserError
from qsim.parse import parse
from tests.casting.strategies import elements, hard_numbers

SYSTEMS = (
    "int8@tensor:float32 uint8+zp@tensor:float32 int4@channel:float32 int8@token:float32 int4@block32:float16 "
    "fixed16.6 e4m3fn@tensor:float32 e4m3fn@block2x16:float32 mxfp8 mxfp6_e2m3 mxfp4 mxint8 nvfp4 nvfp4_normal "
    "nf4@block64:uint8@block256:float32 int8@block16:e8m0 e2m1fn/stochastic8@block32:e8m0/rceil bfloat16 float64 "
    "binary8p3se pot3 apot2x2@tensor:float32 power8_0.5@channel:float32 posit8.2 bipolar3 ternary binary uint3"
).split()


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    known = ~np.isnan(a)
    return bool(
        a.dtype == b.dtype
        and np.array_equal(a, b, equal_nan=True)
        and (np.signbit(a) == np.signbit(b))[known].all()
    )


@settings(max_examples=120, deadline=None)
@given(st.data(), elements)
def test_codes_of_every_element_decode_to_the_quantized_value(data, element) -> None:
    x = np.array(data.draw(st.lists(hard_numbers(element), min_size=1, max_size=8)))
    q = qsim.encode(x, str(element))
    assert same_bits(qsim.decode(q), qsim.quantize(x, str(element)))
    assert q.codes.dtype == element.code_dtype


@settings(max_examples=100, deadline=None)
@given(elements)
def test_every_code_that_holds_a_number_comes_back(element) -> None:
    """But for the second code of a number: there is one code that is written for each number."""
    count = min(1 << element.bits, 1 << 12)
    codes = np.arange(count, dtype=np.int64)
    values = element.decode(codes)
    again = qsim.encode(values[np.isfinite(values)], str(element)).codes
    assert same_bits(element.decode(again), values[np.isfinite(values)])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", SYSTEMS)
def test_encode_decode_pack_unpack_give_the_quantized_tensor(name: str, dtype: type) -> None:
    x = (np.random.default_rng(0).standard_normal((5, 70)) * 10).astype(dtype)
    y = qsim.quantize(x, name, seed=3)
    q = qsim.encode(x, name, seed=3)
    assert same_bits(qsim.decode(q), y)
    again = qsim.unpack(qsim.pack(q))
    assert np.array_equal(again.codes, q.codes) and again.codes.dtype == q.codes.dtype
    assert same_bits(qsim.decode(again), y) and again.spec == q.spec and again.axis == q.axis


@pytest.mark.parametrize(
    "name", ["int5", "fixed12.4", "e4m3fn", "posit6.1", "float64", "int8@channel:float32", "nvfp4"]
)
def test_any_view_of_an_array_goes_there_and_back(name: str) -> None:
    x = np.random.default_rng(2).standard_normal((6, 40)).astype(np.float32)
    x[0, :4] = 0.0, -0.0, np.inf, 1e-42
    views = (x.T, x[::2, ::-3], x[:0], x[:, :0], x[:1, 4:5], np.broadcast_to(x[0], (3, 40)), x.astype(">f4"))
    for view in views:
        y = qsim.quantize(view, name)
        assert same_bits(y, qsim.quantize(np.array(view, np.float32), name))
        q = qsim.encode(view, name)
        assert same_bits(qsim.decode(q), y) and same_bits(qsim.decode(qsim.unpack(qsim.pack(q))), y)


def test_a_given_scale_that_its_format_cannot_hold_is_packed_all_the_same() -> None:
    x = np.ones((2, 32), np.float32)
    q = qsim.encode(x, "mxfp4", scale=np.full((2, 1), 0.3))
    assert same_bits(qsim.decode(qsim.unpack(qsim.pack(q))), qsim.decode(q))
    q = qsim.encode(x, "nvfp4", scale=0.3, axis=np.int64(1))  # one number in the place of both levels
    assert same_bits(qsim.decode(qsim.unpack(qsim.pack(q))), qsim.decode(q))


def test_what_is_no_quantized_tensor_is_refused() -> None:
    for call in (qsim.decode, qsim.pack, qsim.unpack):
        for other in (None, "abc", 3, [1]):
            with pytest.raises(UserError, match="takes"):
                call(other)


def test_raw_codes_are_what_each_standard_says() -> None:
    x = np.array([1.0, -1.0, 0.0, 6.0])
    assert qsim.encode(x, "e2m1fn").codes.tolist() == [2, 10, 0, 7]
    assert qsim.encode(x, "int8").codes.tolist() == [1, -1, 0, 6]
    assert qsim.encode(x, "fixed8.4").codes.tolist() == [16, -16, 0, 96]
    assert qsim.encode(x, "bfloat16").codes.tolist() == [0x3F80, 0xBF80, 0, 0x40C0]
    assert qsim.encode(x, "posit8.2").codes.tolist() == [0x40, 0xC0, 0, 0x54]
    assert qsim.encode(x[:2], "binary").codes.tolist() == [1, 0]
    assert qsim.encode(np.array([np.nan]), "e4m3fn").codes.tolist() == [0x7F]
    assert qsim.encode(np.array([np.nan]), "e4m3fnuz").codes.tolist() == [0x80]
    assert qsim.encode(np.array([np.inf]), "float16/ieee").codes.tolist() == [0x7C00]


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 32), st.booleans(), st.integers(0, 70), st.randoms(use_true_random=False))
def test_packing_is_dense_and_reversible_for_every_width(bits: int, signed: bool, count: int, random) -> None:
    low = -(1 << bits - 1) if signed else 0
    codes = np.array([random.randrange(low, low + (1 << bits)) for _ in range(count)], dtype=np.int64)
    data = pack_codes(codes, bits)
    assert len(data) == -(-count * bits // 8)
    assert np.array_equal(unpack_codes(data, bits, count, signed), codes)
    stream = int.from_bytes(data.tobytes(), "little")
    assert all(
        stream >> i * bits & ((1 << bits) - 1) == int(c) & ((1 << bits) - 1) for i, c in enumerate(codes)
    )


def test_damaged_bytes_are_refused() -> None:
    data = qsim.pack(qsim.encode(np.ones(9, np.float32), "int4@tensor:float32"))
    for bad in (b"", b"QSIM", b"NOPE" + data[4:], data[:-1], data[:20], data.replace(b'"shape"', b'"shap"')):
        with pytest.raises(UserError):
            qsim.unpack(bad)


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [-4, 40]},
        {"shape": [4.0, 40]},
        {"shape": [True, 40]},
        {"shape": "ab"},
        {"shape": [2, 40]},
        {"shape": [10**12, 10**12]},
        {"axis": 7},
        {"dtype": "object"},
        {"dtype": "int8"},
        {"levels": []},
        {"levels": [{"shape": [3], "format": "float32"}, {"shape": [], "format": "float32"}]},
        {"zero_point": [2]},
        {"spec": "mxfp4"},
        {"spec": "int8"},
        {"spec": "no such"},
        {"spec": None},
    ],
)
def test_a_header_that_does_not_fit_is_refused(change: dict) -> None:
    data = qsim.pack(qsim.encode(np.ones((4, 40), np.float32), "nvfp4"))
    end = 8 + int.from_bytes(data[4:8], "little")
    text = json.dumps(json.loads(data[8:end]) | change).encode()
    with pytest.raises(UserError):
        qsim.unpack(data[:4] + len(text).to_bytes(4, "little") + text + data[end:])
    for bad in (data + b"more", data[:8] + b"[" * 100_000):
        with pytest.raises(UserError):
            qsim.unpack(bad)


# torch.


torch = pytest.importorskip("torch")
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", SYSTEMS)
def test_tensors_get_the_bits_of_arrays(name: str, device: str) -> None:
    x = np.random.default_rng(1).standard_normal((6, 40)).astype(np.float32)
    tensor = torch.from_numpy(x).to(device)
    y = qsim.quantize(tensor.T, name, seed=3)
    assert y.device == tensor.device and y.dtype == torch.float32
    assert same_bits(y.cpu().numpy(), qsim.quantize(x.T, name, seed=3))
    q = qsim.encode(tensor.T, name, seed=3)
    assert q.codes.device == tensor.device and torch.equal(qsim.decode(q), y)
    assert np.array_equal(qsim.unpack(qsim.pack(qsim.encode(x.T, name, seed=3))).codes, q.codes.cpu().numpy())


def test_the_gradient_goes_straight_through() -> None:
    x = torch.linspace(-300, 300, 7, requires_grad=True)
    (qsim.quantize(x, "int8@tensor:float32", scale=torch.tensor(1.0)) * torch.arange(7.0)).sum().backward()
    assert x.grad is not None and x.grad.tolist() == list(range(7))


def test_out_and_other_dtypes_of_torch() -> None:
    x = torch.randn(4, 8)
    out = torch.empty_like(x)
    assert qsim.quantize(x, "e4m3fn", out=out) is out and torch.equal(out, qsim.quantize(x, "e4m3fn"))
    half = qsim.quantize(x.bfloat16(), "e4m3fn")
    assert half.dtype == torch.bfloat16 and torch.equal(
        half.float(), qsim.quantize(x.bfloat16().float(), "e4m3fn")
    )
    assert qsim.quantize(torch.zeros(0, 3), "mxfp4").shape == (0, 3)
    assert qsim.quantize(torch.tensor(2.6), "int8").item() == 3
    for bad in (torch.ones(3, dtype=torch.int32), torch.ones(3, dtype=torch.complex64)):
        with pytest.raises(UserError, match="floating-point"):
            qsim.quantize(bad, "int8")


def test_spec_objects_and_strings_are_alike() -> None:
    x = np.ones((2, 2), np.float32)
    assert np.array_equal(qsim.quantize(x, parse("mxfp4")), qsim.quantize(x, "mxfp4"))
