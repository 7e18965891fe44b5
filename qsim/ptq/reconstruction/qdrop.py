"""QDrop: blocks tuned one after another, the casts of activations dropped at random while roundings are learned.

Wei, Gong, Li, Liu, Yu, "QDrop: Randomly Dropping Quantization for Extremely Low-bit Post-training Quantization",
ICLR 2022: a block's weights are rounded up or down (AdaRound) and its activation steps learned (LSQ) so that the
block's output follows the float32 one; each activation value is left uncast with probability 0.5, which makes the
roundings serve a flatter region. With `drop: 0` this is BRECQ (Li et al., ICLR 2021) without its Fisher weights.
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
from qsim.ptq.reconstruction.segments import block_segments
from qsim.ptq.reconstruction.weights import SoftWeight

if TYPE_CHECKING:
    from qsim.graph import Graph
    from qsim.ptq.walk import Track


@dataclass(frozen=True)
class QDrop:
    """iterations: steps a block; batch: samples a step; drop: the probability of the paper; rate: of the roundings."""

    iterations: int = 300
    batch: int = 32
    drop: float = 0.5
    rate: float = 0.05

    def __post_init__(self) -> None:
        if self.iterations < 1 or self.batch < 1 or not 0 <= self.drop < 1:
            raise UserError(
                "ptq.after qdrop: iterations and batch must be at least 1 and drop from 0 to below 1, "
                f"not {self.iterations}, {self.batch} and {self.drop}"
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
        recipe = Recipe(SoftWeight, rates, self.iterations, self.batch, self.drop)
        return tune_segments(graph, plan, inputs, block_segments(graph), recipe, seed=seed, track=track)
