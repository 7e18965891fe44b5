"""Selecting, scattering and ordering elements."""

from __future__ import annotations

import torch

from qsim.emulator.operators.registry import operator
from qsim.graph.ir import Node

_SCATTER = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


def _wrapped(index: torch.Tensor, length: int) -> torch.Tensor:
    """Negative indices count from the end."""
    index = index.to(torch.int64)
    if index.numel() and (int(index.min()) < -length or int(index.max()) >= length):
        raise IndexError(
            f"index {int(index.min())} .. {int(index.max())} is outside an axis of length {length}"
        )
    return torch.where(index < 0, index + length, index)


@operator("Gather")
def gather(node: Node, data: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """NumPy's take along one axis: an embedding when data is a table."""
    axis = node.get("axis", 0) % data.dim()
    flat = _wrapped(index, data.shape[axis]).reshape(-1)
    shape = (*data.shape[:axis], *index.shape, *data.shape[axis + 1 :])
    return data.index_select(axis, flat).reshape(shape)


@operator("GatherElements")
def gather_elements(node: Node, data: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    axis = node.get("axis", 0)
    return data.gather(axis, _wrapped(index, data.shape[axis]))


@operator("GatherND")
def gather_nd(node: Node, data: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Every row of `index` addresses a slice of data behind the batch axes."""
    batch = node.get("batch_dims", 0)
    depth = index.shape[-1]
    lead = data.shape[:batch]
    flat_data = data.reshape(-1, *data.shape[batch:])
    flat_index = index.reshape(flat_data.shape[0], -1, depth)
    rows = torch.arange(flat_data.shape[0], device=data.device)[:, None].expand(flat_index.shape[:2])
    columns = [_wrapped(flat_index[..., d], data.shape[batch + d]) for d in range(depth)]
    picked = flat_data[(rows, *columns)]
    return picked.reshape(*lead, *index.shape[batch:-1], *data.shape[batch + depth :])


@operator("ScatterElements", "Scatter")
def scatter_elements(
    node: Node, data: torch.Tensor, index: torch.Tensor, updates: torch.Tensor
) -> torch.Tensor:
    axis = node.get("axis", 0)
    index = _wrapped(index, data.shape[axis])
    reduction = node.get("reduction", "none")
    if reduction == "none":
        return data.scatter(axis, index, updates)
    return data.scatter_reduce(axis, index, updates, _SCATTER[reduction])


@operator("ScatterND")
def scatter_nd(node: Node, data: torch.Tensor, index: torch.Tensor, updates: torch.Tensor) -> torch.Tensor:
    columns = tuple(_wrapped(index[..., d], data.shape[d]) for d in range(index.shape[-1]))
    reduction = node.get("reduction", "none")
    if reduction in ("none", "add"):
        return data.index_put(columns, updates, accumulate=reduction == "add")
    position = torch.arange(data.numel(), device=data.device).reshape(data.shape)[columns].reshape(-1)
    flat = data.reshape(-1).scatter_reduce(0, position, updates.reshape(-1), _SCATTER[reduction])
    return flat.reshape(data.shape)


@operator("OneHot")
def one_hot(node: Node, index: torch.Tensor, depth: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Values = [off, on]; an index outside [-depth, depth) gives a row of off."""
    length = int(depth)
    axis = node.get("axis", -1)
    axis = axis + index.dim() + 1 if axis < 0 else axis
    index = index.to(torch.int64)
    index = torch.where(index < 0, index + length, index).unsqueeze(axis)
    steps = torch.arange(length, device=index.device).reshape(-1, *(1,) * (index.dim() - 1 - axis))
    return torch.where(index == steps, values[1], values[0])


@operator("ArgMax", "ArgMin")
def arg_extreme(node: Node, x: torch.Tensor) -> torch.Tensor:
    """Position of the largest or smallest value: the first, or with select_last_index the last."""
    axis: int = node.get("axis", 0)
    find = torch.argmax if node.op == "ArgMax" else torch.argmin
    keep = bool(node.get("keepdims", 1))
    if not node.get("select_last_index", 0):
        return find(x, axis, keepdim=keep)
    return torch.rsub(find(x.flip(axis), axis, keepdim=keep), x.shape[axis] - 1)


@operator("TopK")
def top_k(node: Node, x: torch.Tensor, k: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Ties keep the lower index, hence a stable sort instead of torch.topk."""
    axis = node.get("axis", -1)
    values, index = torch.sort(x, stable=True, dim=axis, descending=bool(node.get("largest", 1)))
    return values.narrow(axis, 0, int(k)), index.narrow(axis, 0, int(k))


@operator("NonZero")
def non_zero(node: Node, x: torch.Tensor) -> torch.Tensor:
    return torch.nonzero(x).mT.contiguous()


@operator("Compress")
def compress(node: Node, x: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
    axis = node.get("axis")
    x, axis = (x.reshape(-1), 0) if axis is None else (x, axis)
    return x.index_select(axis, torch.nonzero(condition).reshape(-1))
