"""Resize: nearest, linear and cubic interpolation, one axis after another.

Interpolation is separable, so every axis is an index and weight table applied by index_select. Coordinates follow the
ONNX operator's definition of `coordinate_transformation_mode`.
"""

from __future__ import annotations

import math

import torch

from qsim.emulator.operators.registry import operator
from qsim.graph.ir import Node


@operator("Resize")
def resize(
    node: Node,
    x: torch.Tensor,
    roi: torch.Tensor | None = None,
    scales: torch.Tensor | None = None,
    sizes: torch.Tensor | None = None,
) -> torch.Tensor:
    """X resized by `scales` or to `sizes` on all axes or on `axes`."""
    if node.get("antialias", 0):
        raise ValueError("antialias is not supported")
    axes = [axis % x.dim() for axis in node.get("axes", range(x.dim()))]
    by_scale = scales is not None and scales.numel() > 0
    given = scales if by_scale else sizes
    if given is None or given.numel() != len(axes):
        raise ValueError(f"needs scales or sizes for {len(axes)} axes")
    targets = [float(v) for v in given.tolist()]
    if not by_scale:
        targets = _keep_aspect(node, [x.shape[a] for a in axes], targets)
    for position, axis in enumerate(axes):
        length = x.shape[axis]
        scale = targets[position] if by_scale else targets[position] / length
        output = math.floor(length * scale) if by_scale else int(targets[position])
        crop = None if roi is None or roi.numel() == 0 else (roi[position], roi[position + len(axes)])
        if output != length or scale != 1.0 or crop is not None:
            x = _resize_axis(node, x, axis, output, scale, crop)
    return x


def _keep_aspect(node: Node, lengths: list[int], targets: list[float]) -> list[float]:
    policy = node.get("keep_aspect_ratio_policy", "stretch")
    if policy == "stretch":
        return targets
    ratios = [target / length for target, length in zip(targets, lengths, strict=True)]
    ratio = min(ratios) if policy == "not_larger" else max(ratios)
    return [math.floor(ratio * length + 0.5) for length in lengths]


def _coordinates(
    node: Node, length: int, output: int, scale: float, crop: tuple[torch.Tensor, torch.Tensor] | None
) -> torch.Tensor:
    """Where in the input every output element lies."""
    y = torch.arange(output, dtype=torch.float32)
    match node.get("coordinate_transformation_mode", "half_pixel"):
        case "half_pixel":
            return (y + 0.5) / scale - 0.5
        case "pytorch_half_pixel":
            return (y + 0.5) / scale - 0.5 if output > 1 else torch.zeros_like(y)
        case "asymmetric":
            return y / scale
        case "align_corners":
            return y * (length - 1) / (output - 1) if output > 1 else torch.zeros_like(y)
        case "half_pixel_symmetric":
            centre = length / 2 * (1 - output / (length * scale))
            return centre + (y + 0.5) / scale - 0.5
        case "tf_crop_and_resize" if crop is not None:
            start, end = float(crop[0]), float(crop[1])
            if output == 1:
                return 0.5 * (start + end) * (length - 1) * torch.ones_like(y)
            return start * (length - 1) + y * (end - start) * (length - 1) / (output - 1)
        case mode:
            raise ValueError(f"coordinate_transformation_mode '{mode}' is not supported")


def _resize_axis(
    node: Node,
    x: torch.Tensor,
    axis: int,
    output: int,
    scale: float,
    crop: tuple[torch.Tensor, torch.Tensor] | None,
) -> torch.Tensor:
    length = x.shape[axis]
    place = _coordinates(node, length, output, scale, crop)
    match node.get("mode", "nearest"):
        case "nearest":
            taps, weights = _nearest(place, node.get("nearest_mode", "round_prefer_floor"))[:, None], None
        case "linear":
            place = place.clamp(0, length - 1)
            low = place.floor()
            taps = torch.stack([low, low + 1], 1)
            weights = torch.stack([1 - (place - low), place - low], 1)
        case "cubic":
            taps, weights = _cubic(place, node.get("cubic_coeff_a", -0.75))
            if node.get("exclude_outside", 0):
                weights = weights * ((taps >= 0) & (taps < length))
                weights = weights / weights.sum(1, keepdim=True)
        case mode:
            raise ValueError(f"mode '{mode}' is not nearest, linear or cubic")
    index = taps.to(torch.int64).clamp(0, length - 1).to(x.device)
    shape = [-1 if a == axis else 1 for a in range(x.dim())]
    if weights is None:
        y = x.index_select(axis, index[:, 0])
    else:
        parts = zip(index.unbind(1), weights.to(x).unbind(1), strict=True)
        y = sum(
            (x.index_select(axis, i) * w.reshape(shape) for i, w in parts), torch.zeros((), dtype=x.dtype)
        )
    if crop is not None and node.get("coordinate_transformation_mode") == "tf_crop_and_resize":
        outside = ((place < 0) | (place > length - 1)).reshape(shape).to(x.device)
        y = torch.where(outside, torch.tensor(node.get("extrapolation_value", 0.0), dtype=x.dtype), y)
    return y


def _nearest(place: torch.Tensor, mode: str) -> torch.Tensor:
    match mode:
        case "round_prefer_floor":
            return torch.ceil(place - 0.5)
        case "round_prefer_ceil":
            return torch.floor(place + 0.5)
        case "floor":
            return torch.floor(place)
        case "ceil":
            return torch.ceil(place)
    raise ValueError(f"nearest_mode '{mode}' is not supported")


def _cubic(place: torch.Tensor, a: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys' cubic convolution: the four taps around every place and their weights."""
    low = place.floor()
    t = place - low
    far = [((a * (d + 1) - 5 * a) * (d + 1) + 8 * a) * (d + 1) - 4 * a for d in (t, 1 - t)]
    near = [((a + 2) * d - (a + 3)) * d * d + 1 for d in (t, 1 - t)]
    taps = torch.stack([low - 1, low, low + 1, low + 2], 1)
    return taps, torch.stack([far[0], near[0], near[1], far[1]], 1)
