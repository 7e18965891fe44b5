"""Plans that are integers throughout, with a named requantization rule at every change of scale."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch

from qsim.arithmetic.integer import affine_of, run_integer

if TYPE_CHECKING:
    from qsim.graph import Graph
    from qsim.plan import BitPlan


def names_requantization(plan: BitPlan | None) -> bool:
    """Whether the plan asks for integer-only inference."""
    return plan is not None and any(layer.requantize is not None for layer in plan.layers.values())


def run_integers(
    graph: Graph, plan: BitPlan, inputs: Mapping[str, torch.Tensor], keep: Collection[str]
) -> dict[str, torch.Tensor]:
    """The outputs and the tensors in `keep` as real values, (code - zero point) * scale in float32.

    Raises PlanError naming the first tensor or node that is not integer only.
    """
    device = next(iter(inputs.values())).device
    arrays = {name: value.detach().cpu().numpy() for name, value in inputs.items()}
    codes = run_integer(graph, plan, arrays, keep)
    real = {name: affine_of(plan, name).dequantize(array) for name, array in codes.items()}
    return {name: torch.from_numpy(np.ascontiguousarray(array)).to(device) for name, array in real.items()}
