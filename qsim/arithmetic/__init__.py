"""Arithmetic as the hardware does it: multiply-accumulate units, requantization, elementwise functions."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME = {
    "Mac": "qsim.arithmetic.mac",
    "matmul": "qsim.arithmetic.matrix_product",
    "conv": "qsim.arithmetic.convolution",
    "linear": "qsim.arithmetic.matrix_product",
    "layer_matmul": "qsim.arithmetic.convolution",
    "layer_conv": "qsim.arithmetic.convolution",
    "l_mul": "qsim.arithmetic.multiplication",
    "bit_planes": "qsim.arithmetic.multiplication",
    "bit_plane_matmul": "qsim.arithmetic.multiplication",
    "shift_add_matmul": "qsim.arithmetic.multiplication",
    "add": "qsim.arithmetic.multiplication",
    "multiply": "qsim.arithmetic.multiplication",
    "multiply_add": "qsim.arithmetic.multiplication",
}
__all__ = [*_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'qsim.arithmetic' has no attribute '{name}'")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value
