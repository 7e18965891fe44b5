"""Normalisations, all in inference form."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from qsim.emulator.operators.registry import operator
from qsim.graph.ir import Node


@operator("BatchNormalization")
def batch_normalization(
    node: Node,
    x: torch.Tensor,
    scale: torch.Tensor,
    bias: torch.Tensor,
    mean: torch.Tensor,
    variance: torch.Tensor,
) -> torch.Tensor:
    return F.batch_norm(x, mean, variance, scale, bias, eps=node.get("epsilon", 1e-5))


@operator("LayerNormalization")
def layer_normalization(
    node: Node, x: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor | None = None
) -> tuple[torch.Tensor, ...]:
    """Over the axes from `axis` on; mean and inverse standard deviation are further outputs."""
    axis = node.get("axis", -1) % x.dim()
    epsilon = node.get("epsilon", 1e-5)
    if (
        len(node.outputs) == 1
        and scale.shape == x.shape[axis:]
        and (bias is None or bias.shape == scale.shape)
    ):
        return (F.layer_norm(x, tuple(x.shape[axis:]), scale, bias, epsilon),)
    axes = tuple(range(axis, x.dim()))
    mean = x.mean(axes, keepdim=True)
    inverse = torch.rsqrt(((x - mean) ** 2).mean(axes, keepdim=True) + epsilon)
    y = (x - mean) * inverse * scale
    return (y if bias is None else y + bias, mean, inverse)[: len(node.outputs)]


@operator("RMSNormalization")
def rms_normalization(node: Node, x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    axes = tuple(range(node.get("axis", -1) % x.dim(), x.dim()))
    return x * torch.rsqrt((x * x).mean(axes, keepdim=True) + node.get("epsilon", 1e-5)) * scale


@operator("InstanceNormalization")
def instance_normalization(
    node: Node, x: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor
) -> torch.Tensor:
    return F.instance_norm(x, weight=scale, bias=bias, eps=node.get("epsilon", 1e-5))


@operator("GroupNormalization")
def group_normalization(node: Node, x: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Scale and bias per channel (opset 21) or per group (opset 18)."""
    groups = node.get("num_groups")
    if scale.numel() == groups != x.shape[1]:
        scale, bias = (v.repeat_interleave(x.shape[1] // groups) for v in (scale, bias))
    return F.group_norm(x, groups, scale, bias, node.get("epsilon", 1e-5))


@operator("MeanVarianceNormalization")
def mean_variance_normalization(node: Node, x: torch.Tensor) -> torch.Tensor:
    """The epsilon 1e-9 is that of the ONNX function body."""
    axes = node.get("axes", (0, 2, 3))
    mean = x.mean(axes, keepdim=True)
    deviation = ((x * x).mean(axes, keepdim=True) - mean * mean).sqrt()
    return (x - mean) / (deviation + 1e-9)


@operator("LpNormalization")
def lp_normalization(node: Node, x: torch.Tensor) -> torch.Tensor:
    norm = x.norm(node.get("p", 2), node.get("axis", -1), keepdim=True)
    return torch.where(norm == 0, torch.zeros_like(x), x / norm)


@operator("LRN")
def local_response_normalization(node: Node, x: torch.Tensor) -> torch.Tensor:
    size = node.get("size")
    squares = F.pad((x * x).transpose(1, -1), ((size - 1) // 2, size // 2))
    total = squares.unfold(-1, size, 1).sum(-1).transpose(1, -1)
    bias, alpha, beta = (float(node.get(k, d)) for k, d in (("bias", 1.0), ("alpha", 1e-4), ("beta", 0.75)))
    return x / torch.pow(bias + alpha / size * total, beta)
