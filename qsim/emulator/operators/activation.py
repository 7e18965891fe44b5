"""Activation functions."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from qsim.emulator.operators.registry import operator
from qsim.graph.ir import Node


@operator("Relu")
def relu(node: Node, x: torch.Tensor) -> torch.Tensor:
    return torch.relu(x)


@operator("Sigmoid")
def sigmoid(node: Node, x: torch.Tensor) -> torch.Tensor:
    return torch.sigmoid(x)


@operator("Tanh")
def tanh(node: Node, x: torch.Tensor) -> torch.Tensor:
    return torch.tanh(x)


@operator("LeakyRelu")
def leaky_relu(node: Node, x: torch.Tensor) -> torch.Tensor:
    return F.leaky_relu(x, node.get("alpha", 0.01))


@operator("PRelu")
def prelu(node: Node, x: torch.Tensor, slope: torch.Tensor) -> torch.Tensor:
    """Slope broadcasts to x as in NumPy (a channel slope has shape [C, 1, 1])."""
    return torch.where(x < 0, slope * x, x)


@operator("HardSigmoid")
def hard_sigmoid(node: Node, x: torch.Tensor) -> torch.Tensor:
    alpha, beta = float(node.get("alpha", 0.2)), float(node.get("beta", 0.5))
    return (alpha * x + beta).clamp(0, 1)


@operator("HardSwish")
def hard_swish(node: Node, x: torch.Tensor) -> torch.Tensor:
    return x * (x / 6 + 0.5).clamp(0, 1)


@operator("Swish")
def swish(node: Node, x: torch.Tensor) -> torch.Tensor:
    return x * torch.sigmoid(node.get("alpha", 1.0) * x)


@operator("QuickGelu")
def quick_gelu(node: Node, x: torch.Tensor) -> torch.Tensor:
    return x * torch.sigmoid(node.get("alpha", 1.702) * x)


@operator("Gelu")
def gelu(node: Node, x: torch.Tensor) -> torch.Tensor:
    return F.gelu(x, approximate=node.get("approximate", "none"))


@operator("Elu")
def elu(node: Node, x: torch.Tensor) -> torch.Tensor:
    return F.elu(x, node.get("alpha", 1.0))


@operator("Celu")
def celu(node: Node, x: torch.Tensor) -> torch.Tensor:
    return F.celu(x, node.get("alpha", 1.0))


@operator("Selu")
def selu(node: Node, x: torch.Tensor) -> torch.Tensor:
    """Defaults: ONNX operators, Selu."""
    alpha, gamma = float(node.get("alpha", 1.6732632423543772)), float(node.get("gamma", 1.0507009873554805))
    return gamma * torch.where(x > 0, x, alpha * torch.expm1(x.clamp(max=0)))


@operator("ThresholdedRelu")
def thresholded_relu(node: Node, x: torch.Tensor) -> torch.Tensor:
    return torch.where(x > node.get("alpha", 1.0), x, torch.zeros_like(x))


@operator("Shrink")
def shrink(node: Node, x: torch.Tensor) -> torch.Tensor:
    bias, limit = node.get("bias", 0.0), node.get("lambd", 0.5)
    return torch.where(x < -limit, x + bias, torch.where(x > limit, x - bias, torch.zeros_like(x)))


@operator("Softplus")
def softplus(node: Node, x: torch.Tensor) -> torch.Tensor:
    return F.softplus(x, threshold=math.inf) if x.dtype == torch.float64 else F.softplus(x)


@operator("Softsign")
def softsign(node: Node, x: torch.Tensor) -> torch.Tensor:
    return F.softsign(x)


@operator("Mish")
def mish(node: Node, x: torch.Tensor) -> torch.Tensor:
    return F.mish(x)


@operator("Softmax")
def softmax(node: Node, x: torch.Tensor) -> torch.Tensor:
    return torch.softmax(x, node.get("axis", -1))


@operator("LogSoftmax")
def log_softmax(node: Node, x: torch.Tensor) -> torch.Tensor:
    return torch.log_softmax(x, node.get("axis", -1))


@operator("Hardmax")
def hardmax(node: Node, x: torch.Tensor) -> torch.Tensor:
    """One at the first largest value along the axis, zero elsewhere."""
    axis = node.get("axis", -1)
    return torch.zeros_like(x).scatter_(axis, x.argmax(axis, keepdim=True), 1)
