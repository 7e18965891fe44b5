"""Arithmetic, comparison and logic element by element, with NumPy's broadcasting."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import torch

from qsim.emulator.operators.registry import DTYPES, OPERATORS, operator
from qsim.graph.ir import Node

Unary = Callable[[torch.Tensor], torch.Tensor]
Binary = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

_UNARY: dict[str, Unary] = {
    "Abs": torch.abs, "Neg": torch.neg, "Sign": torch.sign, "Ceil": torch.ceil, "Floor": torch.floor,
    "Round": torch.round, "Sqrt": torch.sqrt, "Exp": torch.exp, "Log": torch.log, "Erf": torch.erf,
    "Reciprocal": torch.reciprocal, "Sin": torch.sin, "Cos": torch.cos, "Tan": torch.tan, "Asin": torch.asin,
    "Acos": torch.acos, "Atan": torch.atan, "Sinh": torch.sinh, "Cosh": torch.cosh, "Asinh": torch.asinh,
    "Acosh": torch.acosh, "Atanh": torch.atanh, "Not": torch.logical_not, "IsNaN": torch.isnan,
    "BitwiseNot": torch.bitwise_not,
}  # fmt: skip
_BINARY: dict[str, Binary] = {
    "Add": torch.add, "Sub": torch.sub, "Mul": torch.mul,
    "Equal": torch.eq, "Less": torch.lt, "LessOrEqual": torch.le, "Greater": torch.gt, "GreaterOrEqual": torch.ge,
    "And": torch.logical_and, "Or": torch.logical_or, "Xor": torch.logical_xor,
    "BitwiseAnd": torch.bitwise_and, "BitwiseOr": torch.bitwise_or, "BitwiseXor": torch.bitwise_xor,
}  # fmt: skip
_VARIADIC: dict[str, Binary] = {"Sum": torch.add, "Max": torch.maximum, "Min": torch.minimum}


def _unary(function: Unary) -> Callable[[Node, torch.Tensor], torch.Tensor]:
    return lambda node, x: function(x)


def _binary(function: Binary) -> Callable[[Node, torch.Tensor, torch.Tensor], torch.Tensor]:
    return lambda node, a, b: function(a, b)


def _variadic(function: Binary) -> Callable[..., torch.Tensor]:
    return lambda node, *values: reduce(function, values)


OPERATORS.update({name: _unary(function) for name, function in _UNARY.items()})
OPERATORS.update({name: _binary(function) for name, function in _BINARY.items()})
OPERATORS.update({name: _variadic(function) for name, function in _VARIADIC.items()})


@operator("Mean")
def mean(node: Node, *values: torch.Tensor) -> torch.Tensor:
    return reduce(torch.add, values) / len(values)


@operator("Div")
def div(node: Node, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Integers divide towards zero, as C does."""
    return torch.div(a, b) if a.dtype.is_floating_point else torch.div(a, b, rounding_mode="trunc")


@operator("Mod")
def mod(node: Node, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Sign of the divisor, or with fmod=1 of the dividend."""
    return torch.fmod(a, b) if node.get("fmod", 0) else torch.remainder(a, b)


@operator("Pow")
def power(node: Node, x: torch.Tensor, exponent: torch.Tensor) -> torch.Tensor:
    """The result has the base's type."""
    return torch.pow(x, exponent).to(x.dtype)


@operator("Clip")
def clip(
    node: Node, x: torch.Tensor, low: torch.Tensor | None = None, high: torch.Tensor | None = None
) -> torch.Tensor:
    """min(max(x, low), high): high wins where the bounds cross."""
    return x if low is None and high is None else torch.clamp(x, low, high)


@operator("BitShift")
def bit_shift(node: Node, x: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    left = node.get("direction") == "LEFT"
    wide, amount = x.to(torch.int64), shift.to(torch.int64)
    return (wide << amount if left else wide >> amount).to(x.dtype)


@operator("IsInf")
def is_inf(node: Node, x: torch.Tensor) -> torch.Tensor:
    positive = torch.isposinf(x) & bool(node.get("detect_positive", 1))
    return positive | (torch.isneginf(x) & bool(node.get("detect_negative", 1)))


@operator("Where")
def where(node: Node, condition: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return torch.where(condition, a, b)


@operator("Cast")
def cast(node: Node, x: torch.Tensor) -> torch.Tensor:
    """To the element type named by `to`; float8 saturates unless saturate=0."""
    return cast_to(x, DTYPES[node.get("to")], saturate=bool(node.get("saturate", 1)))


@operator("CastLike")
def cast_like(node: Node, x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return cast_to(x, like.dtype, saturate=bool(node.get("saturate", 1)))


def cast_to(x: torch.Tensor, dtype: torch.dtype, *, saturate: bool = True) -> torch.Tensor:
    if saturate and dtype.is_floating_point and dtype.itemsize == 1:
        largest = torch.finfo(dtype).max
        x = x.clamp(-largest, largest)
    return x.to(dtype)
