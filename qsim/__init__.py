"""qsim: bit-accurate numerics, hardware costs and mixed-precision search for quantized neural networks.

The public API is loaded on first use, so that `import qsim` takes no torch, numba or onnx.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

# Bound at once: importing the module qsim.parse would otherwise put the module in the function's place.
from qsim.parse import parse as parse

__version__ = "0.1.0"

_HOME = {
    "UserError": "qsim.errors",
    "SpecError": "qsim.errors",
    "GraphError": "qsim.errors",
    "PlanError": "qsim.errors",
    "Spec": "qsim.spec",
    "Cast": "qsim.spec",
    "values": "qsim.formats",
    "quantize": "qsim.casting",
    "encode": "qsim.casting",
    "decode": "qsim.casting",
    "pack": "qsim.casting",
    "unpack": "qsim.casting",
    "Quantized": "qsim.casting",
    "set_threads": "qsim.casting.fast",
    "Mac": "qsim.arithmetic.mac",
    "matmul": "qsim.arithmetic.matrix_product",
    "Graph": "qsim.graph",
    "load_model": "qsim.graph",
    "BitPlan": "qsim.plan",
    "emulate": "qsim.emulator",
    "Emulation": "qsim.emulator",
    "export": "qsim.exporters",
}
__all__ = [*_HOME, "parse", "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'qsim' has no attribute '{name}'")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
