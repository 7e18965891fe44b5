"""Weights that are learned on their grid: by straight-through gradients, or up or down by a soft rounding.

Both start at the rounding that a plan holds, and take steps in units of the local distance of the grid, so that
one learning rate serves integers, minifloats and blocks of any scale.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from qsim.casting import Quantized, decode, quantize
from qsim.casting.groups import spread
from qsim.plan import TensorPlan
from qsim.ptq.grid import Grid
from qsim.ptq.layer_matrix import weight_matrix, weight_tensor
from qsim.ptq.reconstruction.casts import (
    LearnedScale,
    cast_under,
    cast_with_gradient,
    moved_point,
    step_size_gain,
)
from qsim.ptq.steps.adaround import soft_rounding, soft_rounding_inverse
from qsim.spec import Cast, Spec
from qsim.views import matrix_axis, to_matrix

if TYPE_CHECKING:
    from qsim.graph import Graph, Layer

Array = NDArray[Any]
SETTLING = 5.0  # e-folds of the weights that are still soft, over the training
INSIDE = 0.49  # of a step: how close to the next value a soft weight may start


class LearnedWeight(ABC):
    """One weight [outputs, K] of a plan and what is learned of it.

    learned: the leaf tensor of gradients. scale: None where the scales stay as they are. While `learned` takes no
    gradients the weight is exactly what `stored` will hold.
    """

    learned: torch.Tensor

    def __init__(self, graph: Graph, layer: Layer, plan: TensorPlan, scale: LearnedScale | None) -> None:
        self.scale = scale
        self._plan = plan
        self._shape = graph.parameters[layer.weights].shape
        self._axis = layer.weight_axis or 0
        self._spec = replace(plan.specs[0], cast=Cast())  # codes are chosen here, not cast
        matrix = weight_matrix(graph, layer)
        self._real = torch.from_numpy(matrix.copy())
        self._grid = Grid.of(self._spec, (matrix.shape[0], matrix.shape[1]), 1, plan.scale, plan.zero_point)
        self._start = _values(plan, self._spec)
        self._places = _scale_places(self._spec, plan.scale, matrix.shape)

    @abstractmethod
    def matrix(self) -> torch.Tensor:
        """The weight as [outputs, K], with gradients for what is learned."""

    def anneal(self, progress: float) -> None:
        """Told before every step how much of the training is done, 0 to 1."""
        del progress

    def __call__(self) -> torch.Tensor:
        """The weight in the parameter's own shape."""
        return weight_tensor(self.matrix(), self._shape, self._axis)

    def stored(self) -> TensorPlan:
        """The plan entry that holds what was learned."""
        with torch.no_grad():
            values = self.matrix()
        spec, scale = self._plan.specs[0], self._plan.scale
        if self.scale is not None and spec.scale is None:
            spec = moved_point(spec, float(self.scale.stored()))
        elif self.scale is not None:
            scale = self.scale.stored()
        grid = Grid.of(spec, self._grid.shape, 1, scale, self._plan.zero_point)
        return grid.store(grid.nearest(values.double()[None]), self._shape, self._axis)

    def _unit_steps(self) -> torch.Tensor:
        """The scale of every weight at the start; 1 for what has none."""
        return self._grid.step[0].float()

    def _steps(self) -> torch.Tensor:
        """The scale of every weight, or the factor that a moved point stands for; broadcasts to [outputs, K]."""
        if self.scale is None:
            return self._grid.step[0].float()
        scale = self.scale()
        return scale if self._places is None else scale.reshape(-1)[self._places]


class StraightThroughWeight(LearnedWeight):
    """A free weight, cast in the forward pass, with the gradient of its cast value; its scale by LSQ.

    What is free is the weight over its scale, so that a scale moves all its weights with it. It starts at its code,
    in the middle between its neighbours: from the float32 value, which for some weights is next to a border, the
    first small step would undo what GPTQ had balanced. Where the scale is a power of two that would double all
    weights at once; there the weight itself is free, from its float32 value, and the scale only its resolution.
    """

    def __init__(self, graph: Graph, layer: Layer, plan: TensorPlan, scale: LearnedScale | None) -> None:
        super().__init__(graph, layer, plan, scale)
        below, above = _around(self._grid, self._start)
        step = self._unit_steps()
        self._is_coarse = scale is not None and scale.is_power_of_two
        start = _within(self._start, self._real, below, above) if self._is_coarse else self._start
        self._units, self._gap = start / step, (above - below) / 2 / step
        self.learned = torch.zeros_like(self._start)
        zero = 0.0 if plan.zero_point is None else float(np.mean(plan.zero_point))
        self._low, self._high = (float(self._grid.units[i]) - zero for i in (0, -1))
        groups = 1 if plan.scale is None else max(int(np.size(plan.scale)), 1)
        self._gain = step_size_gain(self._start.numel() // groups, self._high)

    def matrix(self) -> torch.Tensor:
        units = self._units + self._gap * self.learned
        free = units * (self._unit_steps() if self._is_coarse else self._steps())
        with torch.no_grad():
            scale = None if self.scale is None else self.scale()
            rounded = cast_under(free, self._spec, scale, lambda x: self._cast(x, scale))
        return cast_with_gradient(free, self._steps(), rounded, self._low, self._high, self._gain)

    def _cast(self, x: torch.Tensor, scale: torch.Tensor | None) -> torch.Tensor:
        options: dict[str, Any] = {}
        if self._spec.scale is not None:
            options["scale"] = self._plan.scale if scale is None else scale.numpy()
            options["zero_point"] = self._plan.zero_point
        result: torch.Tensor = quantize(x, self._spec, axis=matrix_axis(self._spec), **options)
        return result


class SoftWeight(LearnedWeight):
    """Up or down for every weight by AdaRound's rectified sigmoid h (Nagel et al., ICML 2020, eq. 23), between its
    code and the next value on the side of its float32 value.

    The paper's second loss term drives all weights to the grid at once and wants a weight between two losses.
    Here they are settled a few at a time, the most decided first, and the others go on making good what that
    costs (as Zhou et al., "Incremental Network Quantization", ICLR 2017).
    Scales that are powers of two stay as they are: the next one would double every weight of its block at once.
    """

    def __init__(self, graph: Graph, layer: Layer, plan: TensorPlan, scale: LearnedScale | None) -> None:
        super().__init__(graph, layer, plan, None if scale is not None and scale.is_power_of_two else scale)
        below, above = _around(self._grid, self._start)
        at = _within(self._start, self._real, below, above)
        low, high = (part[0].float() for part in self._grid.neighbours(at.double()[None]))
        width = high - low
        step = self._unit_steps()
        self._low, self._width = low / step, width / step
        share = torch.where(width > 0, (at - low) / width, 0.0).clamp(0, 1)
        self.learned = soft_rounding_inverse(share)
        self._settled = torch.zeros_like(share, dtype=torch.bool)

    def matrix(self) -> torch.Tensor:
        up = (self.learned >= 0).float()
        if self.learned.requires_grad and torch.is_grad_enabled():
            up = torch.where(self._settled, up, soft_rounding(self.learned))
        return (self._low + self._width * up) * self._steps()

    def anneal(self, progress: float) -> None:
        """None settled in the first tenth of the training, all in the last; ever fewer at a time, so that the last
        ones, which have the fewest others to make them good, have the most time.
        """
        done = min(max((progress - 0.1) / 0.8, 0.0), 1.0)
        share = 1.0 if done == 1.0 else 1.0 - math.exp(-SETTLING * done)
        missing = round(share * self.learned.numel()) - int(self._settled.sum())
        if missing > 0:
            with torch.no_grad():
                decided = torch.where(self._settled, -1.0, (soft_rounding(self.learned) - 0.5).abs())
                chosen = decided.reshape(-1).topk(missing).indices
                self._settled.view(-1)[chosen] = True


def _values(plan: TensorPlan, spec: Spec) -> torch.Tensor:
    """The values [outputs, K] that the codes of a plan stand for."""
    assert plan.codes is not None
    matrix = to_matrix(plan.codes, plan.axis)
    coded = Quantized(matrix, plan.scale, plan.zero_point, spec, matrix.shape, matrix_axis(spec))
    return torch.from_numpy(np.array(decode(coded), np.float32))


def _around(grid: Grid, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The admissible values on either side of `values`, mirrored at the ends of the range."""
    at = values.double()[None]
    tiny = grid.step * float(np.diff(grid.units.numpy()).min(initial=1.0)) / 4
    below, above = grid.neighbours(at - tiny)[0], grid.neighbours(at + tiny)[1]
    is_lowest, is_highest = below > at - tiny, above < at + tiny
    mirrored = torch.where(is_lowest, 2 * at - above, below), torch.where(is_highest, 2 * at - below, above)
    return mirrored[0][0].float(), mirrored[1][0].float()


def _within(
    start: torch.Tensor, real: torch.Tensor, below: torch.Tensor, above: torch.Tensor
) -> torch.Tensor:
    """The point nearest to `real` among those that round to `start`, between `below` and `above`."""
    return start + (real - start).clamp(INSIDE * (below - start), INSIDE * (above - start))


def _scale_places(spec: Spec, scale: Array | None, shape: tuple[int, ...]) -> torch.Tensor | None:
    """For every weight the index of its scale; None where all have one."""
    if spec.granularity is None or scale is None or np.ndim(scale) == 0:
        return None
    index = np.arange(float(np.size(scale))).reshape(np.shape(scale))
    wide = np.broadcast_to(spread(index, spec.granularity, shape, matrix_axis(spec)), shape)
    return torch.from_numpy(wide.astype(np.int64))
