"""The operators of torch (aten) in terms of ONNX's: one converter each, grouped by story."""

from __future__ import annotations

from qsim.graph.aten import (  # noqa: F401  (each import fills the table)
    elementwise,
    normalization,
    pooling,
    products,
    recurrent,
    reduction,
    shape,
)
from qsim.graph.aten.builder import CONVERTERS, Builder, Value

__all__ = ["CONVERTERS", "Builder", "Value"]
