"""Activation scales by what their error does to the outputs of the layers that read them.

A tensor's own squared error treats all its values alike; weights do not. Here a clipping range is judged by
|W (x - q(x))|^2 at the readers, less what a bias absorbs: the layer-wise criterion of AdaQuant (Hubara et al.,
ICML 2021) and SeqMSE, applied to the activation's range. Low and high end are sought one after the other, so
that a long tail on one side does not cost the other its resolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from qsim.casting import quantize
from qsim.emulator.execute import parameter_tensor
from qsim.emulator.operators import apply
from qsim.ptq.observe import Range
from qsim.ptq.range_search import POWER_FACTORS, Ends, ScaleAndZero, scale_of_range
from qsim.spec import Spec

if TYPE_CHECKING:
    from qsim.graph import Graph, Layer

Array = NDArray[Any]
FACTORS = np.linspace(0.1, 1.0, 19)


def scale_by_output(graph: Graph, readers: Sequence[Layer], seen: Range, spec: Spec) -> ScaleAndZero:
    """(scale, zero point) of an activation with static scale a tensor; readers: layers with weights in `graph`.

    Readers that a transform added, a low-rank branch say, have no voice beside the user's own: each reader's error
    counts in units of its own output, and a branch's is small.
    """
    readers = [layer for layer in readers if not layer.added] or readers
    low, high = min(seen.minimum, 0.0), max(seen.maximum, 0.0)
    factors = POWER_FACTORS if spec.scale is not None and spec.scale.is_power_of_two else FACTORS
    ends = [(low * factor, high * factor) for factor in factors]
    low, high = _best(graph, readers, seen, spec, ends)
    first_low, first_high = low, high
    if spec.has_zero_point and seen.minimum < 0:
        low, high = _best(graph, readers, seen, spec, [(seen.minimum * f, first_high) for f in factors])
        low, high = _best(graph, readers, seen, spec, [(low, max(seen.maximum, 0.0) * f) for f in factors])
        low, high = _best(graph, readers, seen, spec, [(first_low, first_high), (low, high)])
    return scale_of_range((low, high), spec)


def _best(graph: Graph, readers: Sequence[Layer], seen: Range, spec: Spec, ends: Sequence[Ends]) -> Ends:
    errors = []
    for low, high in ends:
        scale, zero_point = scale_of_range((low, high), spec)
        noise = seen.examples - quantize(seen.examples, spec, scale=scale, zero_point=zero_point)
        errors.append(sum(_output_error(graph, layer, noise, seen.examples) for layer in readers))
    return ends[int(np.argmin(errors))]


def _output_error(graph: Graph, layer: Layer, noise: Array, x: Array) -> float:
    """Variance of the layer's output error over that of its output, summed over channels."""
    node = next(node for node in graph.nodes if node.name == layer.node)
    weights = [parameter_tensor(graph, name) if name else None for name in node.inputs[1:2]]
    channel = 1 if node.op == "Conv" else -1
    with torch.inference_mode():
        error, exact = (apply(node, [torch.from_numpy(part), *weights])[0] for part in (noise, x))
        others = [axis for axis in range(error.dim()) if axis != channel % error.dim()]
        return float(error.var(others).sum() / exact.var(others).sum().clamp(min=1e-30))
