"""ONNX's own quantization operators: QuantizeLinear, DequantizeLinear and the integer products."""

from __future__ import annotations

import torch

from qsim.emulator.operators.convolution import conv
from qsim.emulator.operators.registry import DTYPES, operator
from qsim.graph.ir import Node

_RANGES = {"int2": (-2, 1), "uint2": (0, 3), "int4": (-8, 7), "uint4": (0, 15)}


def _range(dtype: str) -> tuple[float, float]:
    if dtype in _RANGES:
        return _RANGES[dtype]
    info = torch.finfo(DTYPES[dtype]) if DTYPES[dtype].is_floating_point else torch.iinfo(DTYPES[dtype])
    return info.min, info.max


def _aligned(node: Node, values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Scale or zero point made to broadcast against x: per tensor, per axis, or per block of an axis."""
    if values.numel() == 1 and values.dim() <= 1:
        return values.reshape(())
    axis = node.get("axis", 1)
    axis = axis + like.dim() if axis < 0 else axis
    block = node.get("block_size", 0)
    if block:
        return values.repeat_interleave(block, axis).narrow(axis, 0, like.shape[axis])
    return values.reshape([-1 if a == axis else 1 for a in range(like.dim())])


@operator("QuantizeLinear")
def quantize_linear(
    node: Node, x: torch.Tensor, scale: torch.Tensor, zero_point: torch.Tensor | None = None
) -> torch.Tensor:
    """saturate(round to even(x / scale) + zero point); the importer states `output_dtype`."""
    dtype = node.get("output_dtype", "uint8")
    low, high = _range(dtype)
    y = x / _aligned(node, scale, x)
    if DTYPES[dtype].is_floating_point:
        return y.clamp(low, high).to(DTYPES[dtype]) if node.get("saturate", 1) else y.to(DTYPES[dtype])
    y = torch.round(y)
    if zero_point is not None:
        y = y + _aligned(node, zero_point.to(y.dtype), x)
    return y.clamp(low, high).to(DTYPES[dtype])


@operator("DequantizeLinear")
def dequantize_linear(
    node: Node, x: torch.Tensor, scale: torch.Tensor, zero_point: torch.Tensor | None = None
) -> torch.Tensor:
    """(x - zero point) * scale, of the scale's type."""
    codes = x.to(torch.int64) if not x.dtype.is_floating_point else x.to(scale.dtype)
    if zero_point is not None:
        codes = codes - _aligned(node, zero_point.to(codes.dtype), x)
    return codes.to(scale.dtype) * _aligned(node, scale, x)


@operator("DynamicQuantizeLinear")
def dynamic_quantize_linear(node: Node, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """uint8 with the range of x widened to hold 0 -> codes, scale, zero point."""
    low, high = x.min().clamp(max=0), x.max().clamp(min=0)
    scale = (high - low) / 255
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    zero_point = torch.round((0 - low / scale).clamp(0, 255))
    codes = (torch.round(x / scale) + zero_point).clamp(0, 255)
    return codes.to(torch.uint8), scale, zero_point.to(torch.uint8)


def _centred(x: torch.Tensor, zero_point: torch.Tensor | None, axis: int | None = None) -> torch.Tensor:
    """X - zero point in float64, which holds every sum of 8-bit products exactly."""
    wide = x.to(torch.float64)
    if zero_point is None:
        return wide
    zero = zero_point.to(torch.float64)
    if axis is not None and zero.numel() > 1 and zero.dim() == 1:
        zero = zero.reshape([-1 if a == axis % x.dim() else 1 for a in range(x.dim())])
    return wide - zero


def _requantized(
    total: torch.Tensor, factor: torch.Tensor, zero_point: torch.Tensor, axis: int
) -> torch.Tensor:
    """Onnxruntime's requantization: int32 to float32, one multiplication, round to even, saturate."""
    if factor.numel() > 1:
        factor = factor.reshape([-1 if a == axis % total.dim() else 1 for a in range(total.dim())])
    info = torch.iinfo(zero_point.dtype)
    y = torch.round(total.to(torch.float32) * factor) + zero_point.to(torch.float32)
    return y.clamp(info.min, info.max).to(zero_point.dtype)


@operator("MatMulInteger")
def matmul_integer(
    node: Node,
    a: torch.Tensor,
    b: torch.Tensor,
    a_zero: torch.Tensor | None = None,
    b_zero: torch.Tensor | None = None,
) -> torch.Tensor:
    return torch.matmul(_centred(a, a_zero, -2), _centred(b, b_zero, -1)).to(torch.int32)


@operator("ConvInteger")
def conv_integer(
    node: Node,
    x: torch.Tensor,
    w: torch.Tensor,
    x_zero: torch.Tensor | None = None,
    w_zero: torch.Tensor | None = None,
) -> torch.Tensor:
    total: torch.Tensor = conv(node, _centred(x, x_zero), _centred(w, w_zero, 0))
    return total.to(torch.int32)


@operator("QLinearMatMul")
def qlinear_matmul(
    node: Node,
    a: torch.Tensor, a_scale: torch.Tensor, a_zero: torch.Tensor,
    b: torch.Tensor, b_scale: torch.Tensor, b_zero: torch.Tensor,
    y_scale: torch.Tensor, y_zero: torch.Tensor,
) -> torch.Tensor:  # fmt: skip
    total = torch.matmul(_centred(a, a_zero, -2), _centred(b, b_zero, -1))
    return _requantized(total, a_scale * b_scale / y_scale, y_zero, -1)


@operator("QLinearConv")
def qlinear_conv(
    node: Node,
    x: torch.Tensor, x_scale: torch.Tensor, x_zero: torch.Tensor,
    w: torch.Tensor, w_scale: torch.Tensor, w_zero: torch.Tensor,
    y_scale: torch.Tensor, y_zero: torch.Tensor, bias: torch.Tensor | None = None,
) -> torch.Tensor:  # fmt: skip
    """The bias is int32 of scale x_scale * w_scale."""
    wide = None if bias is None else bias.to(torch.float64)
    total = conv(node, _centred(x, x_zero), _centred(w, w_zero, 0), wide)
    return _requantized(total, x_scale * w_scale / y_scale, y_zero, 1)
