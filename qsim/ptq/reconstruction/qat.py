"""Quantization-aware fine-tuning of a whole plan, taught by the float32 network on calibration data.

Weights, biases and all scales are learned together by straight-through gradients and learned step sizes (Esser et
al., "Learned Step Size Quantization", ICLR 2020), from the plan that layer-wise methods found. The teacher is the
float32 network: every layer's output is to follow its own (Romero et al., "FitNets", ICLR 2015), and the answer its
answer by the Kullback-Leibler divergence of the softmax (Hinton, Vinyals, Dean, "Distilling the Knowledge in a
Neural Network", 2015).

A few dozen calibration samples do not determine tens of thousands of weights: what is learned starts at the plan's
values and moves little, so that scales and biases do most of the work. Larger steps, and shifted or mixed samples
(qsim.ptq.reconstruction.augment), made 2-bit DS-CNN worse than its GPTQ start or brought nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from numpy.typing import NDArray

from qsim.errors import UserError
from qsim.plan import BitPlan
from qsim.ptq.batches import batch_samples
from qsim.ptq.reconstruction.augment import augmented, check_augmentations
from qsim.ptq.reconstruction.fit import Rates, fit, relative_error
from qsim.ptq.reconstruction.network import QuantizedNetwork, Values, float_values
from qsim.ptq.reconstruction.part_by_part import batch_of, first_samples, shuffled
from qsim.ptq.reconstruction.segments import whole_network
from qsim.ptq.reconstruction.weights import StraightThroughWeight

if TYPE_CHECKING:
    from qsim.graph import Graph
    from qsim.ptq.walk import Track


@dataclass(frozen=True)
class QAT:
    """iterations: steps; batch: samples a step; rate: of the weights, in steps of their grid (0: only scales and
    biases are learned). divergence: the weight of the divergence of the answers against the error of the layers; 0
    for networks whose outputs are no logits. augment: of qsim.ptq.reconstruction.augment.

    A result of no less loss than the plan, on the calibration data as they are, is discarded.
    """

    iterations: int = 150
    batch: int = 16
    rate: float = 0.002
    divergence: float = 1.0
    augment: tuple[str, ...] = ()
    moves_points: ClassVar[bool] = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "augment", check_augmentations(self.augment))
        if self.iterations < 1 or self.batch < 1 or self.rate < 0 or self.divergence < 0:
            raise UserError(
                "ptq.after qat: iterations and batch must be at least 1, rate and divergence at least 0, "
                f"not {self.iterations}, {self.batch}, {self.rate} and {self.divergence}"
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
        samples = {name: torch.from_numpy(array) for name, array in inputs.items()}
        segment = whole_network(graph)
        sample, kind = first_samples(graph, samples), StraightThroughWeight
        network = QuantizedNetwork(graph, plan, sample, kind, move_points=self.moves_points)
        generator = torch.Generator().manual_seed(seed)
        count = len(next(iter(samples.values())))
        batches = shuffled(count, batch_of(graph, self.batch), generator)

        def draw() -> tuple[Values, Values]:
            chosen = next(batches)
            values = {name: sample[chosen] for name, sample in samples.items()}
            values = augmented(values, self.augment, generator)
            return values, float_values(graph, values, segment.outputs)

        def loss(ours: Values, exact: Values) -> torch.Tensor:
            error = relative_error(ours, exact)
            return (
                error + self.divergence * answer_divergence(graph, ours, exact) if self.divergence else error
            )

        def error() -> float:
            """The loss on the calibration samples as they are, streamed."""
            losses, step = [], batch_samples(graph, segment.outputs)
            with torch.no_grad():
                for first in range(0, count, step):
                    values = {name: sample[first : first + step] for name, sample in samples.items()}
                    exact = float_values(graph, values, segment.outputs)
                    found = float(loss(network.run(values, segment.outputs), exact))
                    losses.append(found * min(step, count - first))
            return sum(losses) / count

        start = error()
        fit(network, segment, draw, Rates(weights=self.rate), self.iterations, loss=loss, track=track)
        return network.stored() if error() < start else plan


def answer_divergence(graph: Graph, ours: Values, exact: Values) -> torch.Tensor:
    """Kullback-Leibler divergence from the float32 softmax over the last axis of the outputs to ours, in nats."""
    total = torch.zeros(())
    for name in graph.outputs:
        if name in exact and exact[name].is_floating_point():
            teacher, student = (torch.log_softmax(side[name], -1) for side in (exact, ours))
            total = total + (teacher.exp() * (teacher - student)).sum(-1).mean()
    return total
