"""Pooling over windows and over the whole map."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from qsim.emulator.operators.convolution import pad_spatial, window_padding
from qsim.emulator.operators.registry import operator
from qsim.graph.ir import Node

_MAX = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_AVERAGE = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
_CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


def _last_padding(node: Node, x: torch.Tensor, pads: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The padding with its end moved so that exactly the windows of the output fit (ceil_mode adds, floor cuts)."""
    kernel = node.get("kernel_shape")
    strides = node.get("strides", (1,) * len(kernel))
    dilations = node.get("dilations", (1,) * len(kernel))
    result = []
    for size, k, s, d, (before, after) in zip(x.shape[2:], kernel, strides, dilations, pads, strict=True):
        extent = (k - 1) * d + 1
        span = size + before + after - extent
        outputs = (-(-span // s) if node.get("ceil_mode", 0) else span // s) + 1
        if node.get("ceil_mode", 0) and (outputs - 1) * s >= size + before:
            outputs -= 1  # a window may not start in the padding behind the input
        result.append((before, (outputs - 1) * s + extent - size - before))
    return result


@operator("MaxPool")
def max_pool(node: Node, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The largest value of every window, and where asked its index in the flattened input."""
    kernel = node.get("kernel_shape")
    rank = len(kernel)
    strides, dilations = node.get("strides", (1,) * rank), node.get("dilations", (1,) * rank)
    kind = x.dtype
    if not kind.is_floating_point:
        x = x.to(torch.float32)  # 8-bit integers: exact in float32
    pads = _last_padding(node, x, window_padding(node, x.shape[2:], kernel))
    if len(node.outputs) > 1:
        return _max_pool_with_indices(node, x, pads)
    x = pad_spatial(x, pads, float("-inf"))
    return (_MAX[rank](x, kernel, strides, 0, dilations).to(kind),)


def _max_pool_with_indices(
    node: Node, x: torch.Tensor, pads: list[tuple[int, int]]
) -> tuple[torch.Tensor, torch.Tensor]:
    kernel = node.get("kernel_shape")
    rank = len(kernel)
    strides, dilations = node.get("strides", (1,) * rank), node.get("dilations", (1,) * rank)
    position = torch.arange(x.numel(), device=x.device).reshape(x.shape)
    if node.get("storage_order", 0):
        raise ValueError("storage_order 1 (column major indices) is not supported")
    padded = pad_spatial(x, pads, float("-inf"))
    position = pad_spatial(position, pads, -1)
    y, where = _MAX[rank](padded, kernel, strides, 0, dilations, return_indices=True)
    index = position.flatten(2).gather(2, where.flatten(2)).reshape(where.shape)
    return y, index


@operator("AveragePool")
def average_pool(node: Node, x: torch.Tensor) -> torch.Tensor:
    """The mean of every window; padding counts only where count_include_pad says so."""
    kernel = node.get("kernel_shape")
    rank = len(kernel)
    strides, dilations = node.get("strides", (1,) * rank), node.get("dilations", (1,) * rank)
    pads = window_padding(node, x.shape[2:], kernel)
    included = bool(node.get("count_include_pad", 0))
    if not any(map(any, pads)) and not node.get("ceil_mode", 0) and set(dilations) == {1}:
        return _AVERAGE[rank](x, kernel, strides)
    mask = pad_spatial(torch.ones_like(x[:1, :1]), pads, float(included))
    ends = _last_padding(node, x, pads)
    missing = [(0, end[1] - pad[1]) for end, pad in zip(ends, pads, strict=True)]
    count = _window_sum(pad_spatial(mask, missing), kernel, strides, dilations)
    return _window_sum(pad_spatial(x, ends), kernel, strides, dilations) / count


@operator("LpPool")
def lp_pool(node: Node, x: torch.Tensor) -> torch.Tensor:
    """The p-norm of every window."""
    kernel = node.get("kernel_shape")
    rank = len(kernel)
    strides, dilations = node.get("strides", (1,) * rank), node.get("dilations", (1,) * rank)
    power: int = node.get("p", 2)
    x = pad_spatial(x, _last_padding(node, x, window_padding(node, x.shape[2:], kernel)))
    return _window_sum(x.abs() ** power, kernel, strides, dilations) ** (1.0 / power)


def _window_sum(
    x: torch.Tensor, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> torch.Tensor:
    ones = x.new_ones((x.shape[1], 1, *kernel))
    return _CONV[len(kernel)](x, ones, None, tuple(strides), 0, tuple(dilations), x.shape[1])


def _spatial(x: torch.Tensor) -> tuple[int, ...]:
    return tuple(range(2, x.dim()))


@operator("GlobalAveragePool")
def global_average_pool(node: Node, x: torch.Tensor) -> torch.Tensor:
    return x.mean(_spatial(x), keepdim=True)


@operator("GlobalMaxPool")
def global_max_pool(node: Node, x: torch.Tensor) -> torch.Tensor:
    return x.amax(_spatial(x), keepdim=True)


@operator("GlobalLpPool")
def global_lp_pool(node: Node, x: torch.Tensor) -> torch.Tensor:
    power: int = node.get("p", 2)
    return (x.abs() ** power).sum(_spatial(x), keepdim=True) ** (1.0 / power)
