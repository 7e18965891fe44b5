"""Reductions over axes, and running sums."""

from __future__ import annotations

from collections.abc import Callable

import torch

from qsim.emulator.operators.registry import OPERATORS, integers, operator
from qsim.graph.ir import Node

Reduction = Callable[[torch.Tensor, tuple[int, ...], bool], torch.Tensor]


def _sum(x: torch.Tensor, axes: tuple[int, ...], keep: bool) -> torch.Tensor:
    return x.sum(axes, keepdim=keep, dtype=x.dtype)


def _mean(x: torch.Tensor, axes: tuple[int, ...], keep: bool) -> torch.Tensor:
    if x.dtype.is_floating_point:
        return x.mean(axes, keepdim=keep)
    count = 1
    for axis in axes:
        count *= x.shape[axis]
    return torch.div(_sum(x, axes, keep), count, rounding_mode="trunc")


def _product(x: torch.Tensor, axes: tuple[int, ...], keep: bool) -> torch.Tensor:
    for axis in sorted((axis % x.dim() for axis in axes), reverse=True):
        x = x.prod(axis, keepdim=keep, dtype=x.dtype)
    return x


def _maximum(x: torch.Tensor, axes: tuple[int, ...], keep: bool) -> torch.Tensor:
    return x.amax(axes, keepdim=keep)


def _minimum(x: torch.Tensor, axes: tuple[int, ...], keep: bool) -> torch.Tensor:
    return x.amin(axes, keepdim=keep)


def _log_sum_exp(x: torch.Tensor, axes: tuple[int, ...], keep: bool) -> torch.Tensor:
    return torch.logsumexp(x, axes, keepdim=keep)


_REDUCTIONS: dict[str, Reduction] = {
    "ReduceSum": _sum,
    "ReduceMean": _mean,
    "ReduceProd": _product,
    "ReduceMax": _maximum,
    "ReduceMin": _minimum,
    "ReduceL1": lambda x, axes, keep: _sum(x.abs(), axes, keep),
    "ReduceL2": lambda x, axes, keep: _sum(x * x, axes, keep).sqrt(),
    "ReduceSumSquare": lambda x, axes, keep: _sum(x * x, axes, keep),
    "ReduceLogSum": lambda x, axes, keep: _sum(x, axes, keep).log(),
    "ReduceLogSumExp": _log_sum_exp,
}


def _reduce(function: Reduction) -> Callable[..., torch.Tensor]:
    def run(node: Node, x: torch.Tensor, axes: torch.Tensor | None = None) -> torch.Tensor:
        """No axes mean all axes, or none with noop_with_empty_axes."""
        chosen = () if axes is None else tuple(integers(axes))
        if not chosen and node.get("noop_with_empty_axes", 0):
            return x
        return function(x, chosen or tuple(range(x.dim())), bool(node.get("keepdims", 1)))

    return run


OPERATORS.update({name: _reduce(function) for name, function in _REDUCTIONS.items()})


@operator("CumSum")
def cumulative_sum(node: Node, x: torch.Tensor, axis: torch.Tensor) -> torch.Tensor:
    along = int(axis)
    x = x.flip(along) if node.get("reverse", 0) else x
    y = x.cumsum(along, dtype=x.dtype)
    y = y - x if node.get("exclusive", 0) else y
    return y.flip(along) if node.get("reverse", 0) else y
