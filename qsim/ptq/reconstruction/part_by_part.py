"""Segments of a network tuned one after another, each on what the tuned part before it gives.

Memory holds what lies between two segments, of the float32 network and of the quantized one, for all calibration
samples; everything inside a segment streams through in batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from numpy.typing import NDArray

from qsim.plan import BitPlan
from qsim.ptq.batches import batch_samples
from qsim.ptq.reconstruction.augment import augmented
from qsim.ptq.reconstruction.fit import Rates, fit, leaves_of, relative_error
from qsim.ptq.reconstruction.network import QuantizedNetwork, Values, float_values, mixed
from qsim.ptq.reconstruction.segments import Segment
from qsim.ptq.reconstruction.weights import LearnedWeight

if TYPE_CHECKING:
    from qsim.graph import Graph
    from qsim.ptq.walk import Track

Array = NDArray[Any]
HELD_OUT = 0.2


@dataclass(frozen=True)
class Recipe:
    """How every segment is tuned.

    drop: the share of activations left as they are in training (QDrop). augment: what is done to a segment's inputs
    (qsim.ptq.reconstruction.augment), the float32 segment giving what should come out.
    """

    kind: type[LearnedWeight]
    rates: Rates
    iterations: int
    batch: int
    drop: float = 0.0
    augment: tuple[str, ...] = ()


def tune_segments(
    graph: Graph,
    plan: BitPlan,
    inputs: Mapping[str, Array],
    segments: Sequence[Segment],
    recipe: Recipe,
    *,
    seed: int,
    track: Track | None,
) -> BitPlan:
    """The plan after all segments.

    A share HELD_OUT of the calibration samples is not learned from. A segment whose error on them did not fall stays
    as it was; so does the plan if the error of the network's outputs on all samples did not fall.
    """
    exact = {name: torch.from_numpy(array) for name, array in inputs.items()}
    ours = dict(exact)
    network = QuantizedNetwork(graph, plan, first_samples(graph, exact), recipe.kind)
    first = outputs_of(network, ours)
    generator = torch.Generator().manual_seed(seed)
    held, seen = split_samples(graph, len(next(iter(exact.values()))), generator)
    for index, segment in enumerate(track(segments, "tuning segments", len(segments)) if track else segments):
        tuned = _Tuned(network, segment, recipe, generator)
        targets = streamed(graph, exact, segment.inputs, tuned.exact)
        start = tuned.error(_samples(ours, held), _samples(targets, held))
        before = [leaf.clone() for leaf in leaves_of(network, segment)]
        tuned.fit(_samples(exact, seen), _samples(ours, seen), _samples(targets, seen))
        if not tuned.error(_samples(ours, held), _samples(targets, held)) < start:
            for leaf, value in zip(leaves_of(network, segment), before, strict=True):
                leaf.copy_(value)
        exact |= targets
        ours |= streamed(graph, ours, segment.inputs, tuned.ours)
        later = {name for after in segments[index + 1 :] for name in after.inputs} | set(graph.outputs)
        exact, ours = ({name: side[name] for name in side if name in later} for side in (exact, ours))
    return network.stored() if relative_error(ours, exact) < relative_error(first, exact) else plan


def split_samples(
    graph: Graph, samples: int, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Indices of the samples that judge and of those to learn from; too few to divide, or of a network that runs
    fixed batches, serve as both.
    """
    order = torch.randperm(samples, generator=generator)
    count = int(samples * HELD_OUT)
    if count == 0 or isinstance(graph.tensors[graph.inputs[0]].shape[0], int):
        return order, order
    return order[:count], order[count:]


def _samples(values: Values, chosen: torch.Tensor) -> Values:
    return {name: value[chosen] for name, value in values.items()}


def outputs_of(network: QuantizedNetwork, inputs: Values) -> Values:
    """The outputs of the quantized network for all samples."""
    names = network.graph.outputs
    with torch.no_grad():
        return streamed(network.graph, inputs, tuple(inputs), lambda part: network.run(part, names))


@dataclass(frozen=True, eq=False)
class _Tuned:
    """One segment while it is tuned."""

    network: QuantizedNetwork
    segment: Segment
    recipe: Recipe
    generator: torch.Generator

    def exact(self, values: Values) -> Values:
        return float_values(self.network.graph, values, self.segment.outputs, self.segment.nodes)

    def ours(self, values: Values) -> Values:
        with torch.no_grad():
            return self.network.run(values, self.segment.outputs, nodes=self.segment.nodes)

    def error(self, ours: Values, targets: Values) -> float:
        found = streamed(self.network.graph, ours, self.segment.inputs, self.ours)
        return float(relative_error(found, targets))

    def fit(self, exact: Values, ours: Values, targets: Values) -> None:
        samples = len(next(iter(targets.values())))
        batches = shuffled(samples, batch_of(self.network.graph, self.recipe.batch), self.generator)

        names = self.segment.inputs

        def draw() -> tuple[Values, Values]:
            chosen = next(batches)
            pair = {f"exact {name}": exact[name][chosen] for name in names}
            pair |= {f"ours {name}": ours[name][chosen] for name in names}
            pair = augmented(pair, self.recipe.augment, self.generator)
            left, right = ({name: pair[f"{side} {name}"] for name in names} for side in ("exact", "ours"))
            goal = self.exact(left) if self.recipe.augment else {n: t[chosen] for n, t in targets.items()}
            return {name: self._mixed(left[name], right[name]) for name in names}, goal

        recipe = self.recipe
        how = recipe.rates, recipe.iterations
        fit(self.network, self.segment, draw, *how, drop=recipe.drop, generator=self.generator)

    def _mixed(self, exact: torch.Tensor, ours: torch.Tensor) -> torch.Tensor:
        """The inputs of a segment are dropped too: to those of the float32 network (QDrop, section 4.3)."""
        if self.recipe.drop == 0.0 or not ours.is_floating_point():
            return ours
        return mixed(ours, exact, self.recipe.drop, self.generator)


def streamed(graph: Graph, values: Values, names: Sequence[str], run: Callable[[Values], Values]) -> Values:
    """`run` over batches of the tensors `names` of all samples, its results joined."""
    samples = len(values[names[0]])
    step = batch_samples(graph)
    parts = [run({name: values[name][i : i + step] for name in names}) for i in range(0, samples, step)]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def batch_of(graph: Graph, wanted: int) -> int:
    """Samples that run at once: `wanted`, or what the network was exported for."""
    length = graph.tensors[graph.inputs[0]].shape[0]
    return length if isinstance(length, int) else wanted


def first_samples(graph: Graph, values: Values) -> Values:
    """One batch."""
    return {name: value[: batch_samples(graph)] for name, value in values.items()}


def shuffled(samples: int, batch: int, generator: torch.Generator) -> Iterator[torch.Tensor]:
    """Index tensors of batches, each sample once before any comes again."""
    batch = min(batch, samples)
    while True:
        order = torch.randperm(samples, generator=generator)
        yield from order[: samples - samples % batch].split(batch)
