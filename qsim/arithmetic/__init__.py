"""Arithmetic as the hardware does it: multiply-accumulate units, requantization, elementwise functions."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME = {
    "Mac": "qsim.arithmetic.mac",
    "matmul": "qsim.arithmetic.matmul",
    "conv": "qsim.arithmetic.convolution",
    "linear": "qsim.arithmetic.convolution",
    "layer_matmul": "qsim.arithmetic.layers",
    "layer_conv": "qsim.arithmetic.layers",
    "l_mul": "qsim.arithmetic.multiply",
    "bit_planes": "qsim.arithmetic.multiply",
    "bit_plane_matmul": "qsim.arithmetic.multiply",
    "shift_add_matmul": "qsim.arithmetic.multiply",
    "add": "qsim.arithmetic.multiply",
    "multiply": "qsim.arithmetic.multiply",
    "multiply_add": "qsim.arithmetic.multiply",
}
__all__ = [*_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'qsim.arithmetic' has no attribute '{name}'")
    # multiply and matmul are modules too; importing one binds it here, so bind the function over it.
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value
