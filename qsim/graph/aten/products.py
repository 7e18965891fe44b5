"""torch's convolutions and matrix products, attention among them, in terms of ONNX's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from qsim.errors import GraphError
from qsim.graph.aten.builder import Builder, Value, aten, sizes_of


@aten(
    "conv1d.default", "conv2d.default", "conv3d.default", "conv1d.padding", "conv2d.padding", "conv3d.padding"
)
def _conv(
    build: Builder, x: Value, w: Value, bias: Value = None,
    stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1,
) -> Value:  # fmt: skip
    rank = build.example(1).dim() - 2
    attributes: dict[str, Any] = {
        "strides": sizes_of(stride, rank),
        "dilations": sizes_of(dilation, rank),
        "group": groups,
    }
    if padding == "same":
        kernel = build.example(1).shape[2:]
        total = [d * (k - 1) for d, k in zip(attributes["dilations"], kernel, strict=True)]
        attributes["pads"] = (*(t // 2 for t in total), *(t - t // 2 for t in total))
    else:
        attributes["pads"] = sizes_of(0 if padding == "valid" else padding, rank) * 2
    if build.example().dim() == rank + 2:
        return build.emit("Conv", x, w, bias, **attributes)
    y = build.emit("Conv", build.emit("Unsqueeze", x, np.array([0])), w, bias, **attributes)
    return build.emit("Squeeze", y, np.array([0]))


@aten("conv_transpose1d.default", "conv_transpose2d.input", "conv_transpose3d.input")
def _conv_transpose(
    build: Builder, x: Value, w: Value, bias: Value = None,
    stride: Any = 1, padding: Any = 0, output_padding: Any = 0, groups: int = 1, dilation: Any = 1,
) -> Value:  # fmt: skip
    rank = build.example(1).dim() - 2
    return build.emit(
        "ConvTranspose", x, w, bias,
        strides=sizes_of(stride, rank), pads=sizes_of(padding, rank) * 2, dilations=sizes_of(dilation, rank),
        output_padding=sizes_of(output_padding, rank), group=groups,
    )  # fmt: skip


@aten("convolution.default")
def _convolution(
    build: Builder, x: Value, w: Value, bias: Value, stride: Any, padding: Any, dilation: Any,
    transposed: bool, output_padding: Any, groups: int,
) -> Value:  # fmt: skip
    if transposed:
        return _conv_transpose(build, x, w, bias, stride, padding, output_padding, groups, dilation)
    return _conv(build, x, w, bias, stride, padding, dilation, groups)


@aten("linear.default")
def _linear(build: Builder, x: Value, w: Value, bias: Value = None) -> Value:
    if build.example().dim() == 2:
        return build.emit("Gemm", x, w, bias, transB=1)
    y = build.emit("MatMul", x, build.emit("Transpose", w, perm=(1, 0)))
    return y if bias is None else build.emit("Add", y, bias)


@aten("addmm.default")
def _addmm(build: Builder, c: Value, a: Value, b: Value, beta: float = 1, alpha: float = 1) -> Value:
    return build.emit("Gemm", a, b, c, alpha=float(alpha), beta=float(beta))


@aten("mm.default", "bmm.default", "matmul.default", "mv.default", "dot.default")
def _matmul(build: Builder, a: Value, b: Value) -> Value:
    return build.emit("MatMul", a, b)


@aten("einsum.default")
def _einsum(build: Builder, equation: str, operands: Sequence[str], path: Any = None) -> Value:
    return build.emit("Einsum", *operands, equation=equation)


@aten("scaled_dot_product_attention.default")
def _attention(
    build: Builder, q: Value, k: Value, v: Value, mask: Value = None, dropout: float = 0.0, is_causal: bool = False,
    scale: float | None = None, enable_gqa: bool = False,
) -> Value:  # fmt: skip
    """softmax(q k^T * scale + mask) v; a boolean mask keeps what is true."""
    if enable_gqa:
        raise GraphError(f"node '{build.current.name}': attention with enable_gqa is not supported")
    rank, features = build.example().dim(), build.example().shape[-1]
    perm = (*range(rank - 2), rank - 1, rank - 2)
    scores = build.emit("MatMul", q, build.emit("Transpose", k, perm=perm))
    scores = build.emit(
        "Mul", scores, np.array(1 / math.sqrt(features) if scale is None else scale, np.float32)
    )
    if is_causal:
        rows, columns = (build.example(i).shape[-2] for i in (0, 1))
        if not isinstance(rows, int) or not isinstance(columns, int):
            raise GraphError(f"node '{build.current.name}': causal attention needs a fixed sequence length")
        scores = build.emit("Add", scores, np.triu(np.full((rows, columns), -np.inf, np.float32), 1))
    if mask is not None and build.example(3).dtype == torch.bool:
        scores = build.emit("Where", mask, scores, np.array(-np.inf, np.float32))
    elif mask is not None:
        scores = build.emit("Add", scores, mask)
    return build.emit("MatMul", build.emit("Softmax", scores, axis=-1), v)


@aten("embedding.default")
def _embedding(build: Builder, table: Value, index: Value, *ignored: Any) -> Value:
    return build.emit("Gather", table, index, axis=0)
