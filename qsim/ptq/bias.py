"""Biases as a plan stores them: integers in the accumulator's units where both operands are integers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from qsim.casting import encode
from qsim.formats import Integer
from qsim.parse import parse
from qsim.plan import TensorPlan

if TYPE_CHECKING:
    from qsim.graph import Graph, Layer

Array = NDArray[Any]
BIAS_SPEC = "int32@channel:float32"


def bias_entry(
    graph: Graph, layer: Layer, tensors: Mapping[str, TensorPlan], tuned: Array | None
) -> TensorPlan | None:
    """How a layer's bias is stored: integers in units of input scale x weight scale, where both operands are
    integers with static scales; else float32 where it was tuned; else not at all (None).
    """
    if layer.bias is None or layer.bias not in graph.parameters:
        return None
    own = graph.parameters[layer.bias]
    bias = np.asarray(own if tuned is None else tuned.reshape(own.shape), np.float32)
    scale = accumulator_scale(layer, tensors, bias)
    if scale is not None:
        spec = parse(BIAS_SPEC)
        return TensorPlan(spec, "bias", 0, scale, None, encode(bias, spec, axis=0, scale=scale).codes)
    if tuned is None:
        return None
    spec = parse("float32")
    return TensorPlan(spec, "bias", 0, None, None, encode(bias, spec).codes)


def accumulator_scale(layer: Layer, tensors: Mapping[str, TensorPlan], bias: Array) -> Array | None:
    """Input scale x weight scale of every output; None where a sum of the layer has no such unit, or the bias
    does not fit 32 bits of it.
    """
    x, w = tensors.get(layer.input), tensors.get(layer.weights)
    if x is None or w is None or x.scale is None or w.scale is None or x.scale.ndim or w.scale.ndim > 1:
        return None
    if not all(isinstance(tensor.specs[0].element, Integer) for tensor in (x, w)) or bias.ndim != 1:
        return None
    scale = np.float32(x.scale) * np.atleast_1d(w.scale).astype(np.float32)
    if len(bias) % max(len(scale), 1):
        return None
    scale = np.tile(
        scale, len(bias) // len(scale)
    )  # groups of a transposed convolution share those of its weight
    fits = (scale > 0).all() and (np.abs(bias) <= scale.astype(np.float64) * (2.0**31 - 1)).all()
    return np.ascontiguousarray(scale) if fits else None
