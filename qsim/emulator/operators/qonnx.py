"""The QONNX quantizers: Quant, BipolarQuant, Trunc and FloatQuant.

Source: QONNX operator definitions (github.com/fastmachinelearning/qonnx, docs/qonnx-custom-ops) and Pappalardo et al.,
"QONNX: Representing Arbitrary-Precision Quantized Neural Networks", arXiv 2206.07527.
"""

from __future__ import annotations

import torch

from qsim.emulator.operators.registry import operator
from qsim.graph.ir import Node


def round_by_name(x: torch.Tensor, mode: str) -> torch.Tensor:
    """The rounding modes QONNX names (case does not matter)."""
    match mode.upper():
        case "ROUND" | "HALF_EVEN":
            return torch.round(x)
        case "CEIL":
            return torch.ceil(x)
        case "FLOOR":
            return torch.floor(x)
        case "UP":
            return torch.sign(x) * torch.ceil(x.abs())
        case "DOWN" | "ROUND_TO_ZERO":
            return torch.trunc(x)
        case "HALF_UP":
            return torch.sign(x) * torch.floor(x.abs() + 0.5)
        case "HALF_DOWN":
            return torch.sign(x) * torch.ceil(x.abs() - 0.5)
    raise ValueError(f"rounding mode '{mode}' is not one QONNX names")


@operator("Quant", "IntQuant")
def quant(
    node: Node, x: torch.Tensor, scale: torch.Tensor, zero_point: torch.Tensor, bits: torch.Tensor
) -> torch.Tensor:
    """(round(clip(x / scale + zero point)) - zero point) * scale, an integer of `bits` bits, signed, maybe narrow."""
    signed, narrow = bool(node.get("signed", 1)), bool(node.get("narrow", 0))
    high = 2 ** (bits - 1) - 1 if signed else 2**bits - 1 - float(narrow)
    low = -(2 ** (bits - 1)) + float(narrow) if signed else torch.zeros_like(bits)
    y = torch.minimum(torch.maximum(x / scale + zero_point, low), high)
    y = round_by_name(y, node.get("rounding_mode", "ROUND"))
    return (y - zero_point) * scale


@operator("BipolarQuant")
def bipolar_quant(node: Node, x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """+scale where x >= 0, else -scale."""
    return torch.where(x >= 0, scale, -scale).to(x.dtype)


@operator("Trunc")
def trunc(node: Node, x: torch.Tensor, *parameters: torch.Tensor) -> torch.Tensor:
    """Drop the least significant bits of an integer tensor.

    Version 1: inputs scale, zero point, input bits, output bits. Version 2: scale, zero point, input bits, output
    scale, output bits; the result keeps the output scale and saturates.
    """
    mode = node.get("rounding_mode", "FLOOR")
    scale, zero_point, bits = parameters[:3]
    codes = torch.round(x / scale + zero_point)
    if len(parameters) == 4:
        dropped = 2.0 ** (bits - parameters[3])
        return (round_by_name(codes / dropped, mode) - zero_point) * scale
    out_scale, out_bits = parameters[3:5]
    codes = codes * (scale / out_scale)
    signed, narrow = bool(node.get("signed", 1)), bool(node.get("narrow", 0))
    high = 2 ** (out_bits - 1) - 1 if signed else 2**out_bits - 1 - float(narrow)
    low = -(2 ** (out_bits - 1)) + float(narrow) if signed else torch.zeros_like(out_bits)
    codes = torch.minimum(torch.maximum(round_by_name(codes, mode), low), high)
    return (codes - zero_point) * out_scale


@operator("FloatQuant")
def float_quant(
    node: Node,
    x: torch.Tensor,
    scale: torch.Tensor,
    exponent_bits: torch.Tensor,
    mantissa_bits: torch.Tensor,
    exponent_bias: torch.Tensor,
    largest: torch.Tensor,
) -> torch.Tensor:
    """X / scale rounded to a minifloat with subnormals, saturated at `largest`, times scale."""
    y = x / scale
    _, exponent = torch.frexp(y)  # y = m * 2^exponent with 0.5 <= |m| < 1
    smallest = 1.0 - exponent_bias  # exponent of the smallest normal number
    step = torch.exp2(torch.maximum(exponent.to(y.dtype) - 1, smallest) - mantissa_bits)
    y = round_by_name(y / step, node.get("rounding_mode", "ROUND")) * step
    return torch.minimum(torch.maximum(y, -largest), largest) * scale
