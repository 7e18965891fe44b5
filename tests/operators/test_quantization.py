"""QuantizeLinear and its relatives equal onnxruntime; the QONNX quantizers equal their definition."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch
from onnx import helper

from qsim.emulator.operators import apply
from qsim.graph import Node
from tests.operators.reference import check, make_model

RNG = np.random.default_rng(5)
X = (RNG.normal(size=(4, 6)) * 3).astype(np.float32)


def quantize_pair(folder: Path, scale: np.ndarray, zero: np.ndarray, opset: int, **attributes: int) -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], **attributes),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], **attributes),
    ]
    check(make_model(nodes, {"x": X}, ["y"], {"s": scale, "z": zero}, opset), {"x": X}, folder, 1e-7)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16"])
def test_per_tensor(dtype: str, tmp_path: Path) -> None:
    quantize_pair(tmp_path, np.array(0.037, np.float32), np.array(3, dtype), 21)


def test_per_axis(tmp_path: Path) -> None:
    scale = RNG.uniform(0.01, 0.2, 6).astype(np.float32)
    quantize_pair(tmp_path, scale, RNG.integers(0, 255, 6).astype(np.uint8), 13, axis=1)
    quantize_pair(tmp_path, scale[:4], np.zeros(4, np.int8), 13, axis=0)


@pytest.mark.parametrize("dtype", ["int8", "int4", "uint4"])
def test_blocks(dtype: str, tmp_path: Path) -> None:
    scale = RNG.uniform(0.1, 0.5, (4, 2)).astype(np.float32)
    quantize_pair(tmp_path, scale, np.full((4, 2), 2).astype(dtype), 21, axis=1, block_size=3)


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float8_e5m2"])
def test_float8(dtype: str, tmp_path: Path) -> None:
    quantize_pair(tmp_path, np.array(0.01, np.float32), np.array(0, getattr(ml_dtypes, dtype)), 19)


def test_four_bit_weights_are_kept_as_a_parameter_behind_their_dequantizer(tmp_path: Path) -> None:
    codes = RNG.integers(-8, 8, (6, 5)).astype(ml_dtypes.int4)
    nodes = [
        helper.make_node("DequantizeLinear", ["codes", "s"], ["w"], axis=1),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
    ]
    scale = RNG.uniform(0.1, 0.5, 5).astype(np.float32)
    graph = check(make_model(nodes, {"x": X}, ["y"], {"codes": codes, "s": scale}, 21), {"x": X}, tmp_path)
    assert graph.layers[0].weights == "codes"
    assert graph.tensors["codes"].dtype == "int4"


def test_dynamic(tmp_path: Path) -> None:
    node = helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"])
    check(make_model([node], {"x": X}, ["q", "s", "z"]), {"x": X}, tmp_path, 1e-7)


# Weights of 7 bits: on x86 processors without VNNI onnxruntime adds pairs of uint8 x int8 products in saturating
# 16 bits, which 8-bit weights overflow (its documentation advises reduce_range there).
def weights_of_7_bits(*shape: int) -> np.ndarray:
    return RNG.integers(-64, 64, shape).astype(np.int8)


def test_integer_products(tmp_path: Path) -> None:
    a = RNG.integers(0, 255, (3, 8)).astype(np.uint8)
    b = weights_of_7_bits(8, 4)
    zero = {"az": np.array(7, np.uint8), "bz": np.array(-3, np.int8)}
    node = helper.make_node("MatMulInteger", ["a", "b", "az", "bz"], ["y"])
    check(make_model([node], {"a": a}, ["y"], {"b": b, **zero}), {"a": a}, tmp_path)
    scales = {"as": np.float32(0.02), "bs": np.float32(0.01), "ys": np.float32(0.3), "yz": np.uint8(100)}
    scales = {name: np.array(value) for name, value in scales.items()}
    node = helper.make_node("QLinearMatMul", ["a", "as", "az", "b", "bs", "bz", "ys", "yz"], ["y"])
    check(make_model([node], {"a": a}, ["y"], {"b": b, **zero, **scales}), {"a": a}, tmp_path)


def test_integer_products_of_the_full_range_are_exact() -> None:
    a = np.concatenate([RNG.integers(0, 256, (3, 8)), np.full((1, 8), 255)]).astype(np.uint8)
    b = np.concatenate([RNG.integers(-128, 128, (8, 4)), np.full((8, 1), -128)], 1).astype(np.int8)
    node = Node("m", "MatMulInteger", ("a", "b", "az", "bz"), ("y",), {})
    points = torch.tensor(7, dtype=torch.uint8), torch.tensor(-3, dtype=torch.int8)
    (y,) = apply(node, [torch.from_numpy(a), torch.from_numpy(b), *points])
    np.testing.assert_array_equal(y.numpy(), (a.astype(np.int64) - 7) @ (b.astype(np.int64) + 3))


def test_integer_convolutions(tmp_path: Path) -> None:
    x = RNG.integers(0, 255, (2, 3, 6, 6)).astype(np.uint8)
    w = weights_of_7_bits(4, 3, 3, 3)
    parameters = {
        "w": w, "xs": np.array(0.02, np.float32), "xz": np.array(9, np.uint8), "wz": np.zeros(4, np.int8),
        "ws": RNG.uniform(0.01, 0.05, 4).astype(np.float32), "ys": np.array(0.4, np.float32),
        "yz": np.array(120, np.uint8), "b": RNG.integers(-500, 500, 4).astype(np.int32),
    }  # fmt: skip
    names = ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz", "b"]
    node = helper.make_node("QLinearConv", names, ["y"], pads=[1, 1, 1, 1], strides=[2, 2])
    check(make_model([node], {"x": x}, ["y"], parameters), {"x": x}, tmp_path)
    node = helper.make_node("ConvInteger", ["x", "w", "xz"], ["y"])
    check(make_model([node], {"x": x}, ["y"], {"w": w, "xz": parameters["xz"]}), {"x": x}, tmp_path)


def quant(
    x: list[float], bits: float, rounding: str = "ROUND", scale: float = 0.5, **attributes: int
) -> list[float]:
    node = Node("q", "Quant", ("x", "s", "z", "b"), ("y",), {"rounding_mode": rounding, **attributes})
    values = [torch.tensor(v, dtype=torch.float32) for v in (x, scale, 0.0, bits)]
    return apply(node, values)[0].tolist()


def test_qonnx_quant_range() -> None:
    wide = [-100.0, 100.0]
    assert quant(wide, 3, signed=1, narrow=0) == [-2.0, 1.5]
    assert quant(wide, 3, signed=1, narrow=1) == [-1.5, 1.5]
    assert quant(wide, 3, signed=0, narrow=0) == [0.0, 3.5]
    assert quant(wide, 3, signed=0, narrow=1) == [0.0, 3.0]


@pytest.mark.parametrize(
    ("rounding", "expected"),
    [
        ("ROUND", [-2, 0, 0, 2, 2]),
        ("CEIL", [-1, 0, 1, 2, 3]),
        ("FLOOR", [-2, -1, 0, 1, 2]),
        ("UP", [-2, -1, 1, 2, 3]),
        ("DOWN", [-1, 0, 0, 1, 2]),
        ("HALF_UP", [-2, -1, 1, 2, 3]),
        ("HALF_DOWN", [-1, 0, 0, 1, 2]),
    ],
)
def test_qonnx_rounding_of_ties(rounding: str, expected: list[int]) -> None:
    assert quant([-1.5, -0.5, 0.5, 1.5, 2.5], 8, rounding, scale=1.0) == expected


def test_qonnx_bipolar_has_no_zero() -> None:
    node = Node("q", "BipolarQuant", ("x", "s"), ("y",))
    values = (torch.tensor([-0.1, 0.0, 3.0]), torch.tensor(0.25))
    assert apply(node, values)[0].tolist() == [-0.25, 0.25, 0.25]


@pytest.mark.parametrize(
    ("dtype", "exponent", "mantissa", "bias"),
    [
        ("float8_e4m3fn", 4, 3, 7),
        ("float8_e5m2", 5, 2, 15),
        ("float4_e2m1fn", 2, 1, 1),
        ("float6_e3m2fn", 3, 2, 3),
    ],
)
def test_qonnx_float_quant_equals_ml_dtypes(dtype: str, exponent: int, mantissa: int, bias: int) -> None:
    largest = float(ml_dtypes.finfo(getattr(ml_dtypes, dtype)).max)
    x = np.concatenate([RNG.normal(size=500) * 10.0**k for k in range(-4, 3)]).astype(np.float32)
    x = np.clip(x, -largest, largest)
    node = Node("q", "FloatQuant", tuple("xsemb") + ("l",), ("y",))
    scalars = [torch.tensor(float(v)) for v in (1, exponent, mantissa, bias, largest)]
    y = apply(node, [torch.from_numpy(x), *scalars])[0].numpy()
    np.testing.assert_array_equal(y, x.astype(getattr(ml_dtypes, dtype)).astype(np.float32))
