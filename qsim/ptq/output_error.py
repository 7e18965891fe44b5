"""Activation scales by what their error does to the outputs of the layers that read them.

A tensor's own squared error treats all its values alike; weights do not. Here a clipping range is judged by
|W (x - q(x))|^2 at the readers, less what a bias absorbs: the layer-wise criterion of AdaQuant (Hubara et al.,
ICML 2021) and SeqMSE, applied to the activation's range. Low and high end are sought one after the other, so
that a long tail on one side does not cost the other its resolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
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
    from qsim.graph import Graph, Layer, Node

Array = NDArray[Any]
FACTORS = np.linspace(0.1, 1.0, 19)


def scale_by_output(graph: Graph, readers: Sequence[Layer], seen: Range, spec: Spec) -> ScaleAndZero:
    """(scale, zero point) of an activation with static scale a tensor; readers: layers with weights in `graph`.

    Readers that a transform added, a low-rank branch say, have no voice beside the user's own: each reader's error
    counts in units of its own output, and a branch's is small.
    """
    readers = [layer for layer in readers if not layer.added] or readers
    judges = [_Judge.of(graph, layer, seen.examples) for layer in readers]
    low, high = min(seen.minimum, 0.0), max(seen.maximum, 0.0)
    factors = POWER_FACTORS if spec.scale is not None and spec.scale.is_power_of_two else FACTORS
    ends = [(low * factor, high * factor) for factor in factors]
    low, high = _best(judges, seen, spec, ends)
    first_low, first_high = low, high
    if spec.has_zero_point and seen.minimum < 0:
        low, high = _best(judges, seen, spec, [(seen.minimum * f, first_high) for f in factors])
        low, high = _best(judges, seen, spec, [(low, max(seen.maximum, 0.0) * f) for f in factors])
        low, high = _best(judges, seen, spec, [(first_low, first_high), (low, high)])
    return scale_of_range((low, high), spec)


def _best(judges: Sequence[_Judge], seen: Range, spec: Spec, ends: Sequence[Ends]) -> Ends:
    errors = []
    for low, high in ends:
        scale, zero_point = scale_of_range((low, high), spec)
        noise = seen.examples - quantize(seen.examples, spec, scale=scale, zero_point=zero_point)
        errors.append(sum(judge.error(noise) for judge in judges))
    return ends[int(np.argmin(errors))]


@dataclass(frozen=True, eq=False)
class _Judge:
    """One reader of a tensor: its node with float32 weights, and the variance of its output, summed over channels."""

    node: Node
    weights: list[torch.Tensor | None]
    variance: float = 1.0

    @classmethod
    def of(cls, graph: Graph, layer: Layer, x: Array) -> _Judge:
        node = next(node for node in graph.nodes if node.name == layer.node)
        judge = cls(node, [parameter_tensor(graph, name) if name else None for name in node.inputs[1:2]])
        return replace(judge, variance=max(judge.error(x), 1e-30))

    def error(self, noise: Array) -> float:
        """Variance of what `noise` at its input does to its output, summed over channels, in units of its own."""
        with torch.inference_mode():
            (output,) = apply(self.node, [torch.from_numpy(noise), *self.weights])
            channel = (1 if self.node.op == "Conv" else -1) % output.dim()
            others = [axis for axis in range(output.dim()) if axis != channel]
            rows = output.numel() // max(output.shape[channel], 1)
            spread = (output - output.mean(others, keepdim=True)).square().sum()  # far faster than torch.var
            return float(spread) / max(rows - 1, 1) / self.variance
