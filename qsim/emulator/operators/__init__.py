"""What every operator computes: float32, onnxruntime's semantics, one short function each, grouped by story."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from qsim.emulator.operators import (  # noqa: F401  (each import fills the registry)
    activation,
    convolution,
    elementwise,
    indexing,
    linear,
    normalization,
    pooling,
    qonnx,
    quantization,
    recurrent,
    reduction,
    resize,
    shape,
)
from qsim.emulator.operators.registry import OPERATORS
from qsim.errors import GraphError
from qsim.graph.ir import Node

__all__ = ["OPERATORS", "apply"]


def apply(node: Node, values: Sequence[torch.Tensor | None]) -> tuple[torch.Tensor, ...]:
    """The outputs of one node for the given input values (None where an optional input is left out).

    Raises GraphError, naming the node, for an operator that is not supported or shapes that do not fit.
    """
    function = OPERATORS.get(node.op)
    if function is None:
        raise GraphError(f"node '{node.name}': operator {node.op} is not supported")
    try:
        result = function(node, *values)
    except (RuntimeError, IndexError, ValueError, TypeError, ZeroDivisionError) as error:
        shapes = ", ".join("-" if v is None else str(list(v.shape)) for v in values)
        reason = " ".join(str(error).split("\n", 1)[0].split())
        raise GraphError(f"node '{node.name}' ({node.op}) on inputs {shapes}: {reason}") from error
    return tuple(result) if isinstance(result, (tuple, list)) else (result,)
