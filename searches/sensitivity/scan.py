"""What all measures of a scan share: the float32 network's run, its derivatives, and one trial after another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

import qsim

if TYPE_CHECKING:
    from qsim.emulator.derivatives import Derivatives
    from qsim.emulator.deviation import Deviation
    from qsim.emulator.reuse import Recording
    from qsim.graph import Graph
    from qsim.plan import BitPlan
    from searches.candidates import Candidates, Choice
    from searches.evaluate import Evaluator

Array = NDArray[Any]
MakePlan = Callable[[Sequence[tuple["Candidates", "Choice"]]], "BitPlan"]
Parts = Literal["both", "weights", "activations"]
LARGEST_BATCH = 50
BATCH_BYTES = 250_000_000  # of all activations of one batch, which derivatives hold at once
SCAN_BYTES = 250_000_000  # of the tensors of all samples that errors and derivatives are held of


class Score(NamedTuple):
    """A sensitivity, and its standard error where the measure draws at random (None: it does not)."""

    value: float
    standard_error: float | None = None


@dataclass(frozen=True, eq=False)
class Scan:
    """Groups to score on evaluation samples `samples` (indices, from the choosing half).

    parts: which formats of a choice are applied, the others staying float32. base: the plan that everything else
    keeps (None: float32), which `make_plan` must then build into its plans.
    """

    groups: Sequence[Candidates]
    make_plan: MakePlan
    evaluator: Evaluator
    samples: Array
    parts: Parts = "both"
    seed: int = 0
    base: BitPlan | None = None

    @property
    def graph(self) -> Graph:
        return self.evaluator.graph

    @cached_property
    def inputs(self) -> dict[str, Array]:
        return {name: array[self.samples] for name, array in self.evaluator.dataset.evaluation.items()}

    @cached_property
    def reference(self) -> Array:
        """The float32 network's output on the samples."""
        return np.asarray(self.evaluator.reference[self.samples])

    @cached_property
    def loss_unit(self) -> float:
        """What one unit of the derivatives' loss is in units of `Evaluator.distance`: 1 nat is 1 nat; a mean squared
        error is divided by the mean signal power.
        """
        if self.evaluator.is_classifier:
            return 1.0
        power = float(np.square(self.reference.astype(np.float64)).mean()) if self.reference.size else 0.0
        return 1.0 / power if power > 0 else 1.0

    @cached_property
    def batch(self) -> int:
        """Samples a batch."""
        graph = self.graph
        names = [name for node in graph.nodes for name in node.outputs if name in graph.sample_shapes]
        return max(1, min(LARGEST_BATCH, int(BATCH_BYTES // max(1, self._bytes(names)))))

    @cached_property
    def bounded(self) -> Scan:
        """This scan on as many of its samples as memory holds every cast tensor of."""
        names = {*self.tensors, *self.node_outputs} - set(self.graph.parameters)
        most = max(1, int(SCAN_BYTES // max(1, self._bytes(names))))
        return self if most >= len(self.samples) else replace(self, samples=self.samples[:most])

    @cached_property
    def recording(self) -> Recording:
        """The run that trials start from: of the base, whose activations are kept."""
        from qsim.emulator.reuse import record

        return record(self.graph, self.inputs, self.base, batch_size=self.batch)

    @cached_property
    def float_recording(self) -> Recording:
        """The float32 network's own run."""
        from qsim.emulator.reuse import record

        return self.recording if self.base is None else record(self.graph, self.inputs, batch_size=self.batch)

    @cached_property
    def tensors(self) -> tuple[str, ...]:
        """Every tensor that some choice casts, and the biases of those layers: all real numbers."""
        names = [
            name
            for group in self.groups
            for layer in group.layers
            for name in (layer.input, layer.weights, layer.bias, *group.outputs)
        ]
        return tuple(name for name in dict.fromkeys(names) if name and self.graph.tensors[name].is_float)

    @cached_property
    def exact(self) -> Deviation:
        """The float32 values of those tensors."""
        from qsim.emulator.deviation import float_values

        return float_values(self.float_recording, self.tensors)

    @cached_property
    def derivatives(self) -> Derivatives:
        """By the tensors themselves: weights, biases and activations."""
        from qsim.emulator.derivatives import Derivatives

        loss: Literal["kl", "mse"] = "kl" if self.evaluator.is_classifier else "mse"
        return Derivatives.of(self.graph, self.inputs, self.tensors, loss, self.batch)

    @cached_property
    def node_outputs(self) -> tuple[str, ...]:
        """Outputs of the nodes that read them, and those of the network that are cast."""
        from qsim.emulator.deviation import readers

        ends = [name for name in self.graph.outputs if name in self.tensors]
        return tuple(dict.fromkeys([*(node.outputs[0] for node in readers(self.graph, self.tensors)), *ends]))

    @cached_property
    def node_derivatives(self) -> Derivatives:
        """By those outputs."""
        return replace(self.derivatives, names=self.node_outputs)

    def trials(self) -> Iterator[Trial]:
        """Every choice of every group, a group's choices together."""
        for g, group in enumerate(self.groups):
            for c in range(len(group.choices)):
                yield Trial(self, ((g, c),))

    def _bytes(self, names: Iterable[str]) -> int:
        """Of one sample in float32."""
        return sum(4 * int(np.prod(self.graph.sample_shapes[name])) for name in names)

    def choice(self, group: int, choice: int) -> Choice:
        """A choice of a group, without the parts that the scan leaves in float32."""
        whole = self.groups[group].choices[choice]
        match self.parts:
            case "weights":
                return replace(whole, activations=None, output=None, accumulator=None)
            case "activations":
                return replace(whole, weights=None, accumulator=None)
        return whole


@dataclass(frozen=True, eq=False)
class Trial:
    """One or more (group, choice) indices in their formats, the rest as the base has it."""

    scan: Scan
    takes: tuple[tuple[int, int], ...]

    @cached_property
    def plan(self) -> BitPlan:
        return self.scan.make_plan([(self.scan.groups[g], self.scan.choice(g, c)) for g, c in self.takes])

    @cached_property
    def output(self) -> Array:
        """The network's first output under the plan: only what differs from the base is computed."""
        scan = self.scan
        run = qsim.emulate(
            scan.graph,
            self.plan,
            scan.inputs,
            arithmetic=scan.evaluator.arithmetic,
            reuse=scan.recording,
        )
        return np.asarray(run.output)

    @cached_property
    def casts(self) -> Deviation:
        """The tensors that the plan casts, each cast from float32's values; on the samples that memory holds."""
        from qsim.emulator.deviation import cast_values

        return cast_values(self.scan.bounded.float_recording, self.plan)

    @cached_property
    def errors(self) -> Deviation:
        """Their rounding errors."""
        return self.casts.minus(self.scan.bounded.exact)

    @cached_property
    def node_errors(self) -> Deviation:
        """Errors at the outputs of the nodes that read them."""
        from qsim.emulator.deviation import node_errors

        return node_errors(self.scan.bounded.float_recording, self.plan)

    def forget(self) -> None:
        """Frees what was computed for this trial alone."""
        for name in ("output", "casts", "errors", "node_errors"):
            self.__dict__.pop(name, None)
