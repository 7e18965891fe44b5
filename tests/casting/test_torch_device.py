"""Casts made of torch operations give the bits of `qsim.quantize`: on CPU tensors, and on CUDA where there is one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import qsim
from qsim.casting.quantize import quantize_generally
from qsim.errors import SpecError
from qsim.parse import parse
from tests.casting.strategies import casts, hard_numbers
from tests.casting.test_fast import CASTS, SCALINGS, assert_same, hard_values, is_known

torch = pytest.importorskip("torch")
from qsim.casting.torch_device import quantize_on_device  # noqa: E402  (needs torch)

ELEMENTS = (
    "int8 uint4 int24 fixed8.4 ufixed8.-2 e4m3fn e5m2 e2m1fn e3m2fn e4m3b11fnuz e4m3fn-subnormals e4m3-sign"
)
ELEMENTS += " float16 bfloat16 tf32 float32 binary8p3se"
MORE_SCALINGS = (
    "@block16:e4m3fn@channel:float32 @channel:float32@tensor:float32 @token:e4m3fn@tensor:float32 "
    "@tensor:float32/amax_half @block8x4:e8m0/rceil"
).split()
DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")),
]


def check(spec_text: str, x: np.ndarray, device: str = "cpu", **options: Any) -> None:
    """The cast stays on the device and gives the bits of the general path."""
    spec = parse(spec_text)
    moved = {
        name: torch.from_numpy(value).to(device) if isinstance(value, np.ndarray) else value
        for name, value in options.items()
    }
    ours = quantize_on_device(torch.from_numpy(x).to(device), spec, **moved)
    assert ours is not None, f"{spec} is not covered"
    assert ours.device.type == device
    assert_same(ours.cpu().numpy(), quantize_generally(x, spec, **options), str(spec))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("element", ELEMENTS.split())
def test_every_cast_of_an_element(element: str, dtype: type, device: str) -> None:
    x = hard_values(element, dtype)
    every = ["", *(c for c in CASTS if is_known(element + c) and "wrap" not in c)]
    for cast in every if device == "cpu" else ["", "/floor", "/stochastic8"]:
        check(element + cast, x, device, seed=5)


@settings(max_examples=150, deadline=None)
@given(st.data(), casts, st.sampled_from([np.float32, np.float64]))
def test_hard_numbers_of_any_cast(data, pair, dtype: type) -> None:
    element, cast = pair
    numbers = data.draw(st.lists(hard_numbers(element), min_size=1, max_size=12))
    bits = data.draw(st.lists(st.integers(0, (1 << cast.rounding.random_bits) - 1), min_size=12, max_size=12))
    with np.errstate(over="ignore"):
        x = np.array(numbers, dtype)
    random_bits = np.array(bits[: len(x)])
    ours = quantize_on_device(
        torch.from_numpy(x), parse(f"{element}{cast}"), random_bits=torch.from_numpy(random_bits)
    )
    if ours is not None:
        wanted = quantize_generally(x, parse(f"{element}{cast}"), random_bits=random_bits)
        assert_same(ours.numpy(), wanted, f"{element}{cast} of {x} with {bits}")


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scaling", [*SCALINGS, *MORE_SCALINGS])
def test_every_scaling(scaling: str, dtype: type, device: str) -> None:
    rng = np.random.default_rng(3)
    x = (rng.standard_normal((3, 12, 75)) * 2.0 ** rng.integers(-20, 20, (3, 12, 1))).astype(dtype)
    x[0, 3], x[0, 4, :40], x[1, 5, 5], x[2, 2, 2] = 0, -0.0, 1e-42, np.inf
    elements = "int8 int4/floor e4m3fn e2m1fn fixed8.2 e2m1fn/stochastic8 uint8+zp bfloat16".split()
    for element in elements if device == "cpu" else ["int8", "e2m1fn/stochastic8"]:
        try:
            parse(element + scaling)
        except SpecError:
            continue
        if element == "uint8+zp" and "e8m0" in scaling:
            continue  # minmax into e8m0: the host does it
        for axis in (-1, 0, 1):
            check(element + scaling, x, device, axis=axis, seed=2)


@pytest.mark.parametrize("axis", [0, 2])
@pytest.mark.parametrize(
    "spec", ["int8+zp@channel:float32", "uint4+zp@token:float32", "int8+zp@block10:float32"]
)
def test_given_scales_and_zero_points(spec: str, axis: int) -> None:
    draw, x = np.random.default_rng(2), np.random.default_rng(1).standard_normal((4, 6, 25), dtype=np.float32)
    element, granularity = parse(spec).element, parse(spec).granularity
    assert granularity is not None
    shape = granularity.scale_shape(x.shape, axis)
    scale = draw.uniform(0.01, 0.1, shape).astype(np.float32)
    zero_point = draw.integers(int(element.lowest), int(element.largest) + 1, shape)
    check(spec, x, axis=axis, scale=scale, zero_point=zero_point)
    check(spec, x, axis=axis, scale=scale)
    check(spec, x, axis=axis, zero_point=zero_point)
    check("mxfp4", x, axis=axis, scale=0.3)


@pytest.mark.parametrize(
    ("spec", "options"),
    [
        ("int8", {"x": [1.0, np.nan]}),
        ("mxfp4", {"x": [1.0, np.nan]}),
        ("int8@tensor:float32", {"scale": 0.0}),
        ("int8@channel:float32", {"scale": np.ones(3)}),
        ("int8@tensor:float32", {"scale": "one"}),
        ("mxfp4", {"axis": None}),
        ("int8+zp@tensor:float32", {"scale": 1.0, "zero_point": 0.5}),
        ("int8+zp@tensor:float32", {"scale": 1.0, "zero_point": 128}),
        ("int8/stochastic8", {}),
        ("int8/stochastic8", {"random_bits": np.array([1, 256])}),
        ("int8", {"scale": 1.0}),
        ("int8/wrap", {}),
        ("nf4", {}),
        ("int8@tensor:float32", {"affine": "reciprocal"}),
        ("e4m3fn@block2x2:float32", {}),
    ],
)
def test_mistakes_and_what_is_not_covered_are_left_to_the_host(spec: str, options: dict[str, Any]) -> None:
    x = torch.tensor(options.pop("x", [1.0, 2.0]))
    assert quantize_on_device(x, parse(spec), **options) is None


@pytest.mark.slow
@pytest.mark.parametrize("spec", ["mxfp4"])  # a minute of compilation each
def test_a_fusing_compiler_changes_nothing(spec: str) -> None:
    """torch.compile for the CPU: the same operations through another compiler; two shapes, so sizes become symbols."""
    for rows in (5, 7):
        x = np.random.default_rng(rows).standard_normal((rows, 96), dtype=np.float32) * np.float32(9)
        ours = quantize_on_device(torch.from_numpy(x), parse(spec), seed=3, compiled=True)
        assert ours is not None
        assert_same(ours.numpy(), quantize_generally(x, parse(spec), seed=3), spec)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize(
    "spec", ["int8", "e4m3fn", "mxfp4", "nvfp4", "e4m3fn/stochastic8", "int8@channel:float32"]
)
def test_a_cuda_tensor_gets_the_bits_of_an_array(spec: str) -> None:
    x = np.random.default_rng(1).standard_normal((64, 1024), dtype=np.float32)
    y = qsim.quantize(torch.from_numpy(x).cuda(), spec, seed=3)
    assert y.device.type == "cuda"
    assert_same(y.cpu().numpy(), qsim.quantize(x, spec, seed=3), spec)
