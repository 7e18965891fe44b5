"""Layers whose plan names a multiply-accumulate unit (`Mac`): every sum formed as that unit forms it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from qsim.arithmetic import layer_conv, layer_matmul, matmul
from qsim.arithmetic.mac import Mac
from qsim.errors import PlanError

if TYPE_CHECKING:
    from qsim.graph import Layer, Node


def accumulate(
    layer: Layer, node: Node, mac: Mac, x: torch.Tensor, w: torch.Tensor, start: torch.Tensor | None
) -> torch.Tensor:
    """The accumulator's final values for operands in their units; `start` (one value an output channel, in the
    units of the products) is where it begins. Returns the layer's output shape, on the device of `x`.
    """
    left, right = x.detach().cpu().numpy(), w.detach().cpu().numpy()
    bias = None if start is None else start.detach().cpu().double().numpy()
    if node.op == "Conv":
        total = layer_conv(left, right, mac, bias, **_window(node, left))
    elif node.op in ("Gemm", "MatMul") and right.ndim == 2 and layer.kind != "matmul":
        if node.get("transA", 0):
            left = left.T
        by_output = right if node.op == "Gemm" and node.get("transB", 0) else right.T
        total = layer_matmul(np.ascontiguousarray(left), np.ascontiguousarray(by_output), mac, bias)
    elif node.op == "MatMul":
        total = matmul(left, right, mac=mac)
    else:
        raise PlanError(f"layer '{layer.name}' ({node.op}) cannot name a mac: Conv, Gemm and MatMul can")
    return torch.from_numpy(np.ascontiguousarray(total)).to(x.device)


def _window(node: Node, x: np.ndarray) -> dict[str, object]:
    axes = x.ndim - 2
    if node.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        raise PlanError(f"node '{node.name}': auto_pad was not resolved on import")
    return {
        "stride": tuple(node.get("strides", (1,) * axes)),
        "padding": tuple(node.get("pads", (0,) * (2 * axes))),
        "dilation": tuple(node.get("dilations", (1,) * axes)),
        "groups": int(node.get("group", 1)),
    }
