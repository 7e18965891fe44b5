"""Scale refit: with the roundings chosen, the scale of each output that makes its output error least.

Values are scale * z with z fixed, so the error is a parabola in the scale and its minimum is known:
s' = s (w S_xq v') / (v S_qq v') for the values v at scale s. Alternated with coordinate descent this is the
joint optimisation of codes and scales of COMQ (Zhang et al. 2024).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from qsim.casting import quantize
from qsim.ptq.problem import LayerProblem, Rounded
from qsim.spec import Spec


@dataclass(frozen=True)
class ScaleRefit:
    """For scales an output (`channel`) or a tensor; others stay. An output that would get worse keeps its scale."""

    def __call__(self, problem: LayerProblem, rounded: Rounded) -> Rounded:
        spec, grid = rounded.grid.spec, rounded.grid
        if spec.scale is None or spec.granularity is None or grid.scale is None:
            return rounded
        if spec.granularity.kind not in ("channel", "tensor"):
            return rounded
        along = (problem.pull * rounded.values).sum(-1).reshape(-1)
        energy = ((rounded.values @ problem.gram) * rounded.values).sum(-1).reshape(-1)
        if spec.granularity.kind == "tensor":
            along, energy = along.sum(), energy.sum()
        ratio = torch.where((energy > 0) & (along > 0), along / energy, 1.0).numpy()
        scale = quantize(np.asarray(grid.scale * ratio, np.float32), Spec(spec.scale.element))
        scale = np.where(np.isfinite(scale) & (scale > 0), scale, grid.scale)
        candidate = grid.with_scale(scale)
        values = candidate.nearest(rounded.values / grid.step * candidate.step)
        worse = (problem.error(values) > problem.error(rounded.values)).reshape(-1).numpy()
        if spec.granularity.kind == "tensor":
            total = float((problem.error(values) - problem.error(rounded.values)).sum())
            return rounded if total > 0 else replace(rounded, grid=candidate, values=values)
        kept = grid.with_scale(np.where(worse, grid.scale, scale))
        keep = torch.from_numpy(worse).reshape(*values.shape[:2], 1)
        return replace(rounded, grid=kept, values=torch.where(keep, rounded.values, values))
