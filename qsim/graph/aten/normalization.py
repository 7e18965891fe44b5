"""torch's normalisations in terms of ONNX's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from qsim.errors import GraphError
from qsim.graph.aten.builder import Builder, Value, aten


@aten("batch_norm.default", "_native_batch_norm_legit_no_training.default", "cudnn_batch_norm.default")
def _batch_norm(
    build: Builder, x: Value, w: Value, b: Value, mean: Value, variance: Value, *rest: Any
) -> Value:
    native = "native" in str(build.current.target)
    epsilon = float(rest[1] if native else rest[2])
    channels = build.example().shape[1]
    w = w if w is not None else np.ones(channels, np.float32)
    b = b if b is not None else np.zeros(channels, np.float32)
    if mean is None or variance is None:
        raise GraphError(
            f"node '{build.current.name}': batch normalisation without running statistics is not supported"
        )
    y = build.emit("BatchNormalization", x, w, b, mean, variance, epsilon=epsilon)
    return [y, None, None] if native else y


@aten("layer_norm.default", "native_layer_norm.default")
def _layer_norm(
    build: Builder,
    x: Value,
    shape: Sequence[int],
    w: Value = None,
    b: Value = None,
    eps: float = 1e-5,
    *ignored: Any,
) -> Value:
    w = w if w is not None else np.ones(shape, np.float32)
    y = build.emit("LayerNormalization", x, w, b, axis=-len(shape), epsilon=eps)
    return [y, None, None] if "native" in str(build.current.target) else y


@aten("rms_norm.default")
def _rms_norm(
    build: Builder, x: Value, shape: Sequence[int], w: Value = None, eps: float | None = None
) -> Value:
    w = w if w is not None else np.ones(shape, np.float32)
    smallest = float(torch.finfo(torch.float32).eps)
    return build.emit("RMSNormalization", x, w, axis=-len(shape), epsilon=smallest if eps is None else eps)


@aten("group_norm.default")
def _group_norm(
    build: Builder, x: Value, groups: int, w: Value = None, b: Value = None, eps: float = 1e-5, *ignored: Any
) -> Value:
    channels = build.example().shape[1]
    w = w if w is not None else np.ones(channels, np.float32)
    b = b if b is not None else np.zeros(channels, np.float32)
    return build.emit("GroupNormalization", x, w, b, num_groups=groups, epsilon=eps)


@aten("instance_norm.default")
def _instance_norm(
    build: Builder, x: Value, w: Value, b: Value, mean: Value, variance: Value, use_input: bool, momentum: float,
    eps: float, *ignored: Any,
) -> Value:  # fmt: skip
    if not use_input:
        return _batch_norm(build, x, w, b, mean, variance, False, momentum, eps)
    channels = build.example().shape[1]
    w = w if w is not None else np.ones(channels, np.float32)
    b = b if b is not None else np.zeros(channels, np.float32)
    return build.emit("InstanceNormalization", x, w, b, epsilon=eps)
