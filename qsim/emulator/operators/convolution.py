"""Convolutions: any rank, groups, dilation, asymmetric and automatic padding."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from qsim.emulator.operators.registry import operator
from qsim.graph.ir import Node

_CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_CONV_TRANSPOSE = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def window_padding(node: Node, sizes: Sequence[int], kernel: Sequence[int]) -> list[tuple[int, int]]:
    """Padding (before, after) of every spatial axis, from `pads` or `auto_pad`."""
    rank = len(sizes)
    strides = node.get("strides", (1,) * rank)
    dilations = node.get("dilations", (1,) * rank)
    mode = node.get("auto_pad", "NOTSET")
    if mode == "VALID":
        return [(0, 0)] * rank
    if mode == "NOTSET":
        pads = node.get("pads", (0,) * (2 * rank))
        return list(zip(pads[:rank], pads[rank:], strict=True))
    result = []
    for size, k, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        total = max((-(-size // stride) - 1) * stride + (k - 1) * dilation + 1 - size, 0)
        small, large = total // 2, total - total // 2
        result.append((small, large) if mode == "SAME_UPPER" else (large, small))
    return result


def pad_spatial(x: torch.Tensor, pads: Sequence[tuple[int, int]], value: float = 0.0) -> torch.Tensor:
    """Pad (or crop, where negative) the trailing axes of x with a constant."""
    flat = [amount for before, after in reversed(pads) for amount in (before, after)]
    return F.pad(x, flat, value=value) if any(flat) else x


@operator("Conv")
def conv(node: Node, x: torch.Tensor, w: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """X [N, C, *space], w [M, C/groups, *kernel] -> [N, M, *space]."""
    rank = w.dim() - 2
    pads = window_padding(node, x.shape[2:], w.shape[2:])
    symmetric = all(before == after >= 0 for before, after in pads)
    if not symmetric:
        x = pad_spatial(x, pads)
    padding = tuple(before for before, _ in pads) if symmetric else (0,) * rank
    strides, dilations = node.get("strides", (1,) * rank), node.get("dilations", (1,) * rank)
    return _CONV[rank](x, w, bias, strides, padding, dilations, node.get("group", 1))


@operator("ConvTranspose")
def conv_transpose(
    node: Node, x: torch.Tensor, w: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """X [N, C, *space], w [C, M/groups, *kernel] -> [N, M, *space]; the padding crops the full result."""
    rank = w.dim() - 2
    strides = node.get("strides", (1,) * rank)
    dilations = node.get("dilations", (1,) * rank)
    extra = node.get("output_padding", (0,) * rank)
    full = [
        (size - 1) * s + (k - 1) * d + 1 + e
        for size, k, s, d, e in zip(x.shape[2:], w.shape[2:], strides, dilations, extra, strict=True)
    ]
    pads = transposed_padding(node, x.shape[2:], strides, full)
    # torch wants output_padding below stride or dilation: the extra rows are appended as padding of the crop instead.
    y = _CONV_TRANSPOSE[rank](x, w, None, strides, (0,) * rank, (0,) * rank, node.get("group", 1), dilations)
    y = pad_spatial(y, [(-before, e - after) for (before, after), e in zip(pads, extra, strict=True)])
    return y if bias is None else y + bias.reshape(1, -1, *(1,) * rank)


def transposed_padding(
    node: Node, sizes: Sequence[int], strides: Sequence[int], full: Sequence[int]
) -> list[tuple[int, int]]:
    mode = node.get("auto_pad", "NOTSET")
    target = node.get("output_shape")
    if target is None and mode in ("NOTSET", "VALID"):
        pads = node.get("pads", (0,) * (2 * len(full))) if mode == "NOTSET" else (0,) * (2 * len(full))
        return list(zip(pads[: len(full)], pads[len(full) :], strict=True))
    wanted = target or [size * stride for size, stride in zip(sizes, strides, strict=True)]
    result = []
    for have, want in zip(full, wanted[-len(full) :], strict=True):
        total = max(have - want, 0)
        small, large = total // 2, total - total // 2
        result.append((small, large) if mode == "SAME_UPPER" else (large, small))
    return result
