"""Matrix products."""

from __future__ import annotations

import torch

from qsim.emulator.operators.registry import operator
from qsim.graph.ir import Node


@operator("MatMul")
def matmul(node: Node, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """NumPy's matmul: the leading axes broadcast."""
    return torch.matmul(a, b)


@operator("Gemm")
def gemm(node: Node, a: torch.Tensor, b: torch.Tensor, c: torch.Tensor | None = None) -> torch.Tensor:
    """Alpha * a' b' + beta * c, where a' and b' may be transposed."""
    a = a.mT if node.get("transA", 0) else a
    b = b.mT if node.get("transB", 0) else b
    alpha, beta = node.get("alpha", 1.0), node.get("beta", 1.0)
    if c is None or beta == 0.0:
        return alpha * (a @ b) if alpha != 1.0 else a @ b
    if a.dtype.is_floating_point:
        return torch.addmm(c, a, b, alpha=alpha, beta=beta)
    return int(alpha) * (a @ b) + int(beta) * c


@operator("Einsum")
def einsum(node: Node, *operands: torch.Tensor) -> torch.Tensor:
    return torch.einsum(node.get("equation").replace(" ", ""), *operands)


@operator("Det")
def determinant(node: Node, x: torch.Tensor) -> torch.Tensor:
    return torch.det(x)
