"""Block-wise reconstruction: the roundings of a residual block learned so that its output follows the float32 one.

Li, Gong, Tan, Yang, Hu, Zhang, Yu, Wang, Gu, "BRECQ: Pushing the Limit of Post-Training Quantization by Block
Reconstruction", ICLR 2021: block after block, on what the quantized part before gives, weights are rounded up or
down (AdaRound) and the scales of activations learned (LSQ). Here scales of weights and biases are learned too. The
output's error counts plainly, without the paper's Fisher weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from qsim.errors import UserError
from qsim.plan import BitPlan
from qsim.ptq.reconstruction.augment import check_augmentations
from qsim.ptq.reconstruction.fit import Rates
from qsim.ptq.reconstruction.part_by_part import Recipe, tune_segments
from qsim.ptq.reconstruction.segments import block_segments
from qsim.ptq.reconstruction.weights import SoftWeight

if TYPE_CHECKING:
    from qsim.graph import Graph
    from qsim.ptq.walk import Track


@dataclass(frozen=True)
class BRECQ:
    """iterations: steps a block; batch: samples a step; rate: of the roundings; drop: the share of activations that
    are not cast while a block is tuned (see qsim.ptq.reconstruction.qdrop); augment: what is done to the inputs of a
    block (qsim.ptq.reconstruction.augment).
    """

    iterations: int = 300
    batch: int = 16
    rate: float = 0.05
    drop: float = 0.0
    augment: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "augment", check_augmentations(self.augment))
        if self.iterations < 1 or self.batch < 1 or self.rate <= 0 or not 0 <= self.drop < 1:
            raise UserError(
                f"ptq.after {type(self).__name__.lower()}: iterations and batch must be at least 1, rate above 0 and "
                f"drop from 0 to below 1, not {self.iterations}, {self.batch}, {self.rate} and {self.drop}"
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
        rates = Rates(weights=self.rate)
        recipe = Recipe(SoftWeight, rates, self.iterations, self.batch, self.drop, self.augment)
        return tune_segments(graph, plan, inputs, block_segments(graph), recipe, seed=seed, track=track)
