"""Operators that move elements or make tensors from shapes, without arithmetic on values."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F

from qsim.emulator.operators.registry import DTYPES, integers, operator
from qsim.graph.ir import Node


@operator("Identity")
def identity(node: Node, x: torch.Tensor) -> torch.Tensor:
    return x


@operator("Dropout")
def dropout(node: Node, x: torch.Tensor, *ignored: torch.Tensor | None) -> tuple[torch.Tensor, ...]:
    """Inference: the input, and an all-true mask where asked."""
    return (x, torch.ones_like(x, dtype=torch.bool))[: len(node.outputs)]


@operator("Constant")
def constant(node: Node) -> torch.Tensor:
    return torch.from_numpy(np.array(node.get("value")))


@operator("Shape")
def shape(node: Node, x: torch.Tensor) -> torch.Tensor:
    return torch.tensor(x.shape[node.get("start", 0) : node.get("end")], dtype=torch.int64)


@operator("Size")
def size(node: Node, x: torch.Tensor) -> torch.Tensor:
    return torch.tensor(x.numel(), dtype=torch.int64)


@operator("Reshape")
def reshape(node: Node, x: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """0 keeps the input's length (unless allowzero), -1 is inferred."""
    lengths = integers(target)
    if not node.get("allowzero", 0):
        lengths = [x.shape[i] if length == 0 else length for i, length in enumerate(lengths)]
    return x.reshape(lengths)


@operator("Flatten")
def flatten(node: Node, x: torch.Tensor) -> torch.Tensor:
    axis = node.get("axis", 1)
    axis = axis + x.dim() if axis < 0 else axis
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


@operator("Transpose")
def transpose(node: Node, x: torch.Tensor) -> torch.Tensor:
    return x.permute(node.get("perm", tuple(reversed(range(x.dim())))))


@operator("Squeeze")
def squeeze(node: Node, x: torch.Tensor, axes: torch.Tensor | None = None) -> torch.Tensor:
    if axes is None:
        return x.squeeze()
    wanted = [axis % x.dim() for axis in integers(axes)]
    if any(x.shape[axis] != 1 for axis in wanted):
        raise ValueError(f"cannot squeeze axes {wanted} of shape {list(x.shape)}: each must have length 1")
    return x.squeeze(wanted)


@operator("Unsqueeze")
def unsqueeze(node: Node, x: torch.Tensor, axes: torch.Tensor) -> torch.Tensor:
    new = integers(axes)
    for axis in sorted(axis % (x.dim() + len(new)) for axis in new):
        x = x.unsqueeze(axis)
    return x


@operator("Expand")
def expand(node: Node, x: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Broadcasting both ways: the target may hold 1 where x is longer."""
    lengths = np.broadcast_shapes(tuple(x.shape), tuple(integers(target)))
    return x.expand(lengths)


@operator("Tile")
def tile(node: Node, x: torch.Tensor, repeats: torch.Tensor) -> torch.Tensor:
    return x.repeat(integers(repeats))


@operator("Concat")
def concat(node: Node, *values: torch.Tensor) -> torch.Tensor:
    return torch.cat(values, node.get("axis"))


@operator("Split")
def split(node: Node, x: torch.Tensor, sizes: torch.Tensor | None = None) -> tuple[torch.Tensor, ...]:
    """Sizes as given, else equal parts, the last one shorter."""
    axis = node.get("axis", 0)
    if sizes is not None:
        return tuple(torch.split(x, integers(sizes), axis))
    return tuple(torch.split(x, -(-x.shape[axis] // len(node.outputs)), axis))


@operator("Slice")
def slice_(
    node: Node,
    x: torch.Tensor,
    starts: torch.Tensor,
    ends: torch.Tensor,
    axes: torch.Tensor | None = None,
    steps: torch.Tensor | None = None,
) -> torch.Tensor:
    """Python's slices on the given axes; out-of-range bounds clamp, steps may be negative."""
    first = integers(starts)
    which = range(len(first)) if axes is None else integers(axes)
    strides = [1] * len(first) if steps is None else integers(steps)
    for axis, start, end, step in zip(which, first, integers(ends), strides, strict=True):
        length = x.shape[axis]
        start, end = (v + length if v < 0 else v for v in (start, end))
        if step > 0:
            start, end = min(max(start, 0), length), min(max(end, 0), length)
            index = [slice(None)] * (axis % x.dim()) + [slice(start, max(end, start), step)]
            x = x[tuple(index)]
        else:
            start, end = min(max(start, 0), length - 1), min(max(end, -1), length - 1)
            x = x.index_select(
                axis, torch.tensor(range(start, end, step), dtype=torch.int64, device=x.device)
            )
    return x


@operator("Pad")
def pad(
    node: Node,
    x: torch.Tensor,
    pads: torch.Tensor,
    value: torch.Tensor | None = None,
    axes: torch.Tensor | None = None,
) -> torch.Tensor:
    """Modes constant, reflect, edge and wrap; negative padding crops."""
    amounts = integers(pads)
    which = list(range(x.dim())) if axes is None else [axis % x.dim() for axis in integers(axes)]
    sides = dict(zip(which, zip(amounts[: len(which)], amounts[len(which) :], strict=True), strict=True))
    mode = node.get("mode", "constant")
    if mode == "constant":
        flat = [side for axis in reversed(range(x.dim())) for side in sides.get(axis, (0, 0))]
        return F.pad(x, flat, value=0.0 if value is None else value.item())
    for axis, (before, after) in sides.items():
        if before or after:
            index = _padded_index(x.shape[axis], before, after, mode)
            x = x.index_select(axis, index.to(x.device))
    return x


def _padded_index(length: int, before: int, after: int, mode: str) -> torch.Tensor:
    """Which input element stands at each place of the padded axis."""
    index = torch.arange(-before, length + after)
    match mode:
        case "edge":
            return index.clamp(0, length - 1)
        case "wrap":
            return index % length
        case "reflect":
            period = max(2 * (length - 1), 1)
            index = index % period
            return torch.minimum(index, period - index) if length > 1 else torch.zeros_like(index)
    raise ValueError(f"padding mode '{mode}' is not constant, reflect, edge or wrap")


@operator("ConstantOfShape")
def constant_of_shape(node: Node, target: torch.Tensor) -> torch.Tensor:
    value = node.get("value")
    fill = torch.zeros(1) if value is None else torch.from_numpy(np.array(value)).reshape(1)
    return fill.expand(integers(target)) if target.numel() else fill.reshape(())


@operator("Range")
def range_(node: Node, start: torch.Tensor, limit: torch.Tensor, delta: torch.Tensor) -> torch.Tensor:
    count = max(math.ceil((limit.item() - start.item()) / delta.item()), 0)
    return start.reshape(()) + torch.arange(count, dtype=start.dtype, device=start.device) * delta.reshape(())


@operator("EyeLike")
def eye_like(node: Node, x: torch.Tensor) -> torch.Tensor:
    """Ones on diagonal k; the type is `dtype` or the input's."""
    dtype = DTYPES[node.get("dtype")] if node.get("dtype") else x.dtype
    rows, columns = torch.arange(x.shape[0])[:, None], torch.arange(x.shape[1])[None, :]
    diagonal: int = node.get("k", 0)
    return torch.eq(columns - rows, diagonal).to(device=x.device, dtype=dtype)


@operator("Trilu")
def trilu(node: Node, x: torch.Tensor, k: torch.Tensor | None = None) -> torch.Tensor:
    """The upper (default) or lower triangle from diagonal k on."""
    diagonal = 0 if k is None else int(k)
    return torch.triu(x, diagonal) if node.get("upper", 1) else torch.tril(x, diagonal)


@operator("DepthToSpace")
def depth_to_space(node: Node, x: torch.Tensor) -> torch.Tensor:
    n, c, h, w = x.shape
    b = node.get("blocksize")
    if node.get("mode", "DCR") == "DCR":
        x = x.reshape(n, b, b, c // (b * b), h, w).permute(0, 3, 4, 1, 5, 2)
    else:
        x = x.reshape(n, c // (b * b), b, b, h, w).permute(0, 1, 4, 2, 5, 3)
    return x.reshape(n, c // (b * b), h * b, w * b)


@operator("SpaceToDepth")
def space_to_depth(node: Node, x: torch.Tensor) -> torch.Tensor:
    n, c, h, w = x.shape
    b = node.get("blocksize")
    return (
        x.reshape(n, c, h // b, b, w // b, b).permute(0, 3, 5, 1, 2, 4).reshape(n, c * b * b, h // b, w // b)
    )


@operator("ReverseSequence")
def reverse_sequence(node: Node, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """The first `lengths[b]` steps of every sequence reversed."""
    x = x if node.get("time_axis", 0) == 0 else x.transpose(0, 1)
    time = torch.arange(x.shape[0], device=x.device)[:, None]
    index = torch.where(time < lengths, lengths - 1 - time, time)
    y = x.gather(0, index.reshape(*index.shape, *(1,) * (x.dim() - 2)).expand_as(x))
    return y if node.get("time_axis", 0) == 0 else y.transpose(0, 1)
