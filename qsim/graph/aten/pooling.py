"""torch's padding, pooling and resizing in terms of ONNX's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from qsim.errors import GraphError
from qsim.graph.aten.builder import Builder, Value, aten, sizes_of


def _pads(flat: Sequence[int], rank: int) -> list[int]:
    """torch pads from the last axis on, (before, after) each; ONNX gives all befores, then all afters."""
    before, after = [0] * rank, [0] * rank
    for i in range(len(flat) // 2):
        before[rank - 1 - i], after[rank - 1 - i] = flat[2 * i], flat[2 * i + 1]
    return before + after


@aten("pad.default", "constant_pad_nd.default")
def _pad(
    build: Builder, x: Value, pads: Sequence[int], *rest: Any, mode: str = "constant", value: Any = None
) -> Value:
    if "constant_pad" in str(build.current.target):
        value = rest[0] if rest else value
    else:
        mode, value = (*rest, *(mode, value)[len(rest) :])[:2]
    name = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}[mode]
    fill = np.array(0.0 if value is None else value, np.float32)
    return build.emit("Pad", x, build.integers(_pads(pads, build.example().dim())), fill, mode=name)


@aten(
    "reflection_pad1d.default",
    "reflection_pad2d.default",
    "replication_pad1d.default",
    "replication_pad2d.default",
)
def _mirror_pad(build: Builder, x: Value, pads: Sequence[int]) -> Value:
    mode = "reflect" if "reflection" in str(build.current.target) else "edge"
    return build.emit("Pad", x, build.integers(_pads(pads, build.example().dim())), None, mode=mode)


def _window(build: Builder, kernel: Any, stride: Any, padding: Any, ceil_mode: bool) -> dict[str, Any]:
    rank = 1 if "1d" in str(build.current.target) else 3 if "3d" in str(build.current.target) else 2
    sizes = sizes_of(kernel, rank)
    strides = sizes_of(stride, rank) if stride not in (None, []) else sizes
    pads = sizes_of(padding, rank) * 2
    return {"kernel_shape": sizes, "strides": strides, "pads": pads, "ceil_mode": int(ceil_mode)}


@aten("max_pool1d.default", "max_pool2d.default", "max_pool3d.default", "max_pool2d_with_indices.default")
def _max_pool(
    build: Builder,
    x: Value,
    kernel: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil: bool = False,
) -> Value:
    window = _window(build, kernel, stride, padding, ceil)
    y = build.emit("MaxPool", x, **window, dilations=sizes_of(dilation, len(window["kernel_shape"])))
    return [y, None] if "indices" in str(build.current.target) else y


@aten("avg_pool1d.default", "avg_pool2d.default", "avg_pool3d.default")
def _avg_pool(
    build: Builder, x: Value, kernel: Any, stride: Any = None, padding: Any = 0, ceil: bool = False,
    count_include_pad: bool = True, divisor: int | None = None,
) -> Value:  # fmt: skip
    if divisor is not None:
        raise GraphError(f"node '{build.current.name}': avg_pool with divisor_override is not supported")
    window = _window(build, kernel, stride, padding, ceil)
    return build.emit("AveragePool", x, **window, count_include_pad=int(count_include_pad))


@aten("adaptive_avg_pool1d.default", "adaptive_avg_pool2d.default", "adaptive_avg_pool3d.default",
      "_adaptive_avg_pool2d.default", "adaptive_max_pool1d.default", "adaptive_max_pool2d.default")  # fmt: skip
def _adaptive_pool(build: Builder, x: Value, target: Any) -> Value:
    """To one element per map: global pooling; else windows that divide the map evenly."""
    largest = "max" in str(build.current.target)
    rank = int(str(build.current.target).split("d.")[0][-1])
    wanted = sizes_of(target, rank)
    shape = build.example().shape[-rank:]
    if all(n == 1 for n in wanted):
        y = build.emit("GlobalMaxPool" if largest else "GlobalAveragePool", x)
    elif all(isinstance(n, int) and n % w == 0 for n, w in zip(shape, wanted, strict=True)):
        kernel = tuple(int(n) // w for n, w in zip(shape, wanted, strict=True))
        y = build.emit("MaxPool" if largest else "AveragePool", x, kernel_shape=kernel, strides=kernel)
    else:
        raise GraphError(
            f"node '{build.current.name}': adaptive pooling of {list(shape)} to {list(wanted)} is uneven"
        )
    return [y, None] if largest else y


@aten("upsample_nearest1d.vec", "upsample_nearest2d.vec", "upsample_linear1d.vec", "upsample_bilinear2d.vec",
      "upsample_bicubic2d.vec")  # fmt: skip
def _upsample(build: Builder, x: Value, sizes: Any, *rest: Any) -> Value:
    name = str(build.current.target)
    scales = rest[-1]
    mode = "nearest" if "nearest" in name else "cubic" if "cubic" in name else "linear"
    align = mode != "nearest" and bool(rest[0])
    coordinates = "asymmetric" if mode == "nearest" else "align_corners" if align else "pytorch_half_pixel"
    attributes: dict[str, Any] = {
        "mode": mode,
        "coordinate_transformation_mode": coordinates,
        "nearest_mode": "floor",
    }
    spatial = tuple(range(2, build.example().dim()))
    if scales is not None:
        return build.emit("Resize", x, None, np.array(scales, np.float32), None, axes=spatial, **attributes)
    return build.emit("Resize", x, None, None, build.integers(sizes), axes=spatial, **attributes)
