"""SeqMSE: the scale of every output (or block) that makes the layer's own output error least.

Sequential MSE, Qualcomm AIMET: layer after layer, candidates are fractions of the scale rule's own scale,
judged by |W x - Q q|^2 on calibration data instead of by |W - Q|^2. Candidates are cast to the scale's format,
so e8m0 and e4m3 scales take the factors that they can hold.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from qsim.casting import quantize
from qsim.casting.scales import compute_levels, effective_scale
from qsim.errors import UserError
from qsim.ptq.grid import Grid
from qsim.ptq.problem import LayerProblem, Rounded
from qsim.spec import Spec
from qsim.views import matrix_axis

Array = NDArray[Any]


@dataclass(frozen=True)
class SeqMSE:
    """candidates: how many fractions, evenly from `lowest` to `highest`; rounding is nearest under each."""

    candidates: int = 40
    lowest: float = 0.3
    highest: float = 1.1

    def __post_init__(self) -> None:
        if self.candidates < 1 or not 0 < self.lowest <= self.highest:
            raise UserError(
                "ptq.steps seq_mse: candidates must be at least 1 and 0 < lowest <= highest, "
                f"not {self.candidates}, {self.lowest}, {self.highest}"
            )

    def __call__(self, problem: LayerProblem, rounded: Rounded) -> Rounded:
        spec = rounded.grid.spec
        if spec.scale is None or rounded.grid.scale is None:
            return rounded
        factors = np.linspace(self.lowest, self.highest, self.candidates)
        if spec.scale.is_power_of_two:
            factors = np.array([0.25, 0.5, 1.0, 2.0])
        grids = [rounded.grid.with_scale(scale) for scale in scaled(problem, rounded.grid, factors)]
        return _best(problem, rounded, grids)


def scaled(problem: LayerProblem, grid: Grid, factors: Array) -> list[Array]:
    """The scales of the spec's own rule times each factor, as the scale's format can hold them."""
    spec = grid.spec
    assert spec.scale is not None
    matrix = problem.weights.reshape(grid.shape).float().numpy()
    axis = matrix_axis(spec)
    levels, _ = compute_levels(matrix, spec, axis)
    held = Spec(spec.scale.element)
    candidates = []
    for factor in factors:
        own = quantize(levels[0] * np.float32(factor), held)
        own = np.where(own > 0, own, levels[0])
        candidates.append(effective_scale((own, *levels[1:]), spec, axis))
    return candidates


def _best(problem: LayerProblem, rounded: Rounded, grids: list[Grid]) -> Rounded:
    """One grid chosen for every group of weights that shares a scale, in the order of their columns."""
    values, scale = rounded.values.clone(), np.array(rounded.grid.scale)
    spec, shape = rounded.grid.spec, rounded.grid.shape
    for part in _column_groups(spec, shape[1]):
        slope = values @ problem.gram - problem.pull
        nearest = [grid.columns(part).nearest(problem.weights[..., part]) for grid in grids]
        square = problem.gram[:, part, part]
        gains = []
        for candidate in (values[..., part], *nearest):
            step = candidate - values[..., part]
            gains.append((((step @ square) + 2 * slope[..., part]) * step).sum(-1).reshape(-1))
        cost = torch.stack(gains).numpy()  # [1 + candidates, outputs]: change of the error
        rows = _shared_rows(spec, shape)
        for members in rows:
            choice = int(cost[:, members].sum(1).argmin())
            if choice == 0:
                continue
            flat = values.reshape(shape)
            flat[members, part] = nearest[choice - 1].reshape(shape[0], -1)[members]
            _take(scale, np.asarray(grids[choice - 1].scale), spec, members, part)
    return replace(rounded, grid=rounded.grid.with_scale(scale), values=values)


def _column_groups(spec: Spec, length: int) -> list[slice]:
    assert spec.granularity is not None
    if spec.granularity.kind != "block":
        return [slice(0, length)]
    size = spec.granularity.block[-1]
    return [slice(start, min(start + size, length)) for start in range(0, length, size)]


def _shared_rows(spec: Spec, shape: tuple[int, int]) -> list[slice]:
    """Outputs whose weights in one group of columns share a scale."""
    assert spec.granularity is not None
    if spec.granularity.kind == "tensor":
        return [slice(0, shape[0])]
    height = spec.granularity.block[0] if len(spec.granularity.block) == 2 else 1
    return [slice(start, min(start + height, shape[0])) for start in range(0, shape[0], height)]


def _take(scale: Array, other: Array, spec: Spec, rows: slice, columns: slice) -> None:
    """Copy the scale of one group of weights from `other`."""
    assert spec.granularity is not None
    if spec.granularity.kind == "tensor":
        scale[...] = other
    elif spec.granularity.kind == "channel":
        scale[rows] = other[rows]
    else:
        height = spec.granularity.block[0] if len(spec.granularity.block) == 2 else 1
        place = (rows.start // height, columns.start // spec.granularity.block[-1])
        scale[place] = other[place]
