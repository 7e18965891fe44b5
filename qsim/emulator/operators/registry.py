"""The table from an operator's name to the function that computes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch

Operator = Callable[..., Any]
F = TypeVar("F", bound=Operator)
OPERATORS: dict[str, Operator] = {}

# Element types by NumPy's name. Types below a byte are held in the next larger integer.
DTYPES: dict[str, torch.dtype] = {
    "float32": torch.float32, "float64": torch.float64, "float16": torch.float16, "bfloat16": torch.bfloat16,
    "int8": torch.int8, "int16": torch.int16, "int32": torch.int32, "int64": torch.int64, "bool": torch.bool,
    "uint8": torch.uint8, "uint16": torch.uint16, "uint32": torch.uint32, "uint64": torch.uint64,
    "int2": torch.int8, "uint2": torch.uint8, "int4": torch.int8, "uint4": torch.uint8,
    "float8_e4m3fn": torch.float8_e4m3fn, "float8_e4m3fnuz": torch.float8_e4m3fnuz,
    "float8_e5m2": torch.float8_e5m2, "float8_e5m2fnuz": torch.float8_e5m2fnuz,
    "complex64": torch.complex64,
}  # fmt: skip


def operator(*names: str) -> Callable[[F], F]:
    """Register a function `f(node, *inputs) -> tensor | tuple of tensors` as the meaning of the named operators."""

    def register(function: F) -> F:
        OPERATORS.update(dict.fromkeys(names, function))
        return function

    return register


def integers(tensor: torch.Tensor) -> list[int]:
    """A tensor of integers (axes, shape, repeats) as a list."""
    return [int(v) for v in tensor.reshape(-1).tolist()]
