"""AdaQuant: weights, biases and scales of one layer after another, learned together on calibration data.

Hubara, Nahshan, Hanani, Banner, Soudry, "Accurate Post Training Quantization With Small Calibration Sets", ICML
2021, section 3: the layer's output error is minimised over its continuous weights (straight-through gradients),
its bias and the scales of its weights and input, so that a weight may move by more than one step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from qsim.errors import UserError
from qsim.plan import BitPlan
from qsim.ptq.reconstruction.fit import Rates
from qsim.ptq.reconstruction.part_by_part import Recipe, tune_segments
from qsim.ptq.reconstruction.segments import layer_segments
from qsim.ptq.reconstruction.weights import StraightThroughWeight

if TYPE_CHECKING:
    from qsim.graph import Graph
    from qsim.ptq.walk import Track


@dataclass(frozen=True)
class AdaQuant:
    """iterations: steps a layer; batch: samples a step; rate: of the weights, in steps of their grid."""

    iterations: int = 200
    batch: int = 16
    rate: float = 0.01

    def __post_init__(self) -> None:
        if self.iterations < 1 or self.batch < 1:
            raise UserError(
                f"ptq.after adaquant: iterations and batch must be at least 1, not {self.iterations}, {self.batch}"
            )

    def __call__(
        self,
        graph: Graph,
        plan: BitPlan,
        inputs: Mapping[str, NDArray[Any]],
        *,
        seed: int,
        track: Track | None,
    ) -> BitPlan:
        recipe = Recipe(StraightThroughWeight, Rates(weights=self.rate), self.iterations, self.batch)
        return tune_segments(graph, plan, inputs, layer_segments(graph), recipe, seed=seed, track=track)
