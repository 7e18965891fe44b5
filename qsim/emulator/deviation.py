"""How far a plan moves the float32 network's tensors, one by one: each error on its own, nothing carried on."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from qsim.emulator.execute import parameter_tensor, run_graph
from qsim.emulator.operators import apply
from qsim.emulator.plan_run import PlanRun
from qsim.errors import UserError

if TYPE_CHECKING:
    from qsim.emulator.reuse import Recording
    from qsim.graph import Graph, Node
    from qsim.plan import BitPlan

Values = Mapping[str, torch.Tensor]


@dataclass(frozen=True, eq=False)
class Deviation:
    """A value for each element of some parameters, and of some activations in each batch of samples.

    The tensors themselves, errors (quantized minus float32), or derivatives. samples: how many in all batches.
    """

    parameters: Values
    activations: Sequence[Values]
    samples: int

    def minus(self, other: Deviation) -> Deviation:
        """The difference at this one's elements, all of which `other` has."""
        parameters = {name: value - other.parameters[name] for name, value in self.parameters.items()}
        activations = [
            {name: value - theirs[name] for name, value in mine.items()}
            for mine, theirs in zip(self.activations, other.activations, strict=True)
        ]
        return Deviation(parameters, activations, self.samples)

    def dot(self, other: Deviation) -> float:
        """Sum of products over the elements both have; of activations, over all samples."""
        total = sum(_dot(value, other.parameters.get(name)) for name, value in self.parameters.items())
        for mine, theirs in zip(self.activations, other.activations, strict=True):
            total += sum(_dot(value, theirs.get(name)) for name, value in mine.items())
        return float(total)

    def square_norms(self) -> dict[str, float]:
        """Sum of squares of each parameter, and of each activation averaged over the samples."""
        norms = {name: _dot(value, value) for name, value in self.parameters.items()}
        for values in self.activations:
            for name, value in values.items():
                norms[name] = norms.get(name, 0.0) + _dot(value, value) / self.samples
        return norms

    def weighted_squares(self, weights: Values) -> float:
        """Sum over elements of weight times square; weights of an activation have a leading axis of 1, or the
        activation's own shape, and its squares are averaged over the samples.
        """
        total = sum(
            _dot(value.double() ** 2, weights[name])
            for name, value in self.parameters.items()
            if name in weights
        )
        for values in self.activations:
            total += sum(
                _dot(value.double() ** 2, weights[name]) / self.samples
                for name, value in values.items()
                if name in weights
            )
        return float(total)

    def along(self, slopes: Sequence[Values], by_sample: Collection[str]) -> list[NDArray[np.float64]]:
        """Products with `slopes` ({activation: [draws, ...]} a batch), summed within each sample: [draws, samples] a
        batch, or [draws, 1], the whole batch summed, where an activation is not in `by_sample` (its first axis being
        that of samples).
        """
        found = []
        for values, slope in zip(self.activations, slopes, strict=True):
            parts = [_products(slope[name], value) for name, value in values.items()]
            if not set(values) <= set(by_sample):
                parts = [part.sum(1, keepdim=True) for part in parts]
            found.append(torch.stack(parts).sum(0).numpy() if parts else np.zeros((1, 1)))
        return found

    def flat(self, name: str, largest: int) -> NDArray[Any]:
        """At most about `largest` values of a tensor, evenly spaced."""
        if name in self.parameters:
            values = self.parameters[name].flatten()
        else:
            values = torch.cat([batch[name].flatten() for batch in self.activations])
        return np.asarray(values[:: max(1, len(values) // max(1, largest))].numpy())


def float_values(recording: Recording, names: Sequence[str]) -> Deviation:
    """The float32 network's own values of these tensors."""
    graph = recording.run.graph
    parameters = {name: parameter_tensor(graph, name) for name in names if name in graph.parameters}
    wanted = [name for name in names if name not in graph.parameters]
    activations = [{name: values[name] for name in wanted} for _, values in _batches(recording, wanted)]
    return Deviation(parameters, activations, _samples(recording))


def cast_values(recording: Recording, plan: BitPlan) -> Deviation:
    """Every tensor that the plan casts, in its number system: parameters, and activations as float32 made them."""
    graph, run = recording.run.graph, _run_of(recording, plan)
    with torch.inference_mode():
        parameters = {
            name: run.caster(name, parameter_tensor(graph, name))
            for name in plan.tensors
            if name in graph.parameters
        }
    cast = [name for name in plan.tensors if name not in graph.parameters and graph.tensors[name].is_float]
    activations = []
    for first, values in _batches(recording, cast):
        run.caster.first_sample = first
        with torch.inference_mode():
            activations.append({name: run.caster(name, values[name]) for name in cast})
    return Deviation(parameters, activations, _samples(recording))


def node_errors(recording: Recording, plan: BitPlan) -> Deviation:
    """The error at the output of every node that the plan computes otherwise, its operands being float32's, cast.

    Those nodes read a tensor of the plan or have a unit of their own in it; a cast output of the network counts too.
    """
    return Deviation({}, [error for _, error in _node_outputs(recording, plan)], _samples(recording))


def node_noise(recording: Recording, plan: BitPlan) -> float:
    """Error power over signal power of each of those nodes' outputs, summed; one without a signal adds nothing."""
    errors: dict[str, float] = {}
    signals: dict[str, float] = {}
    for exact, error in _node_outputs(recording, plan):
        for name, value in error.items():
            errors[name] = errors.get(name, 0.0) + _dot(value, value)
            signals[name] = signals.get(name, 0.0) + _dot(exact[name], exact[name])
    return sum(errors[name] / signals[name] for name in errors if signals[name] > 0)


def readers(graph: Graph, names: Collection[str]) -> tuple[Node, ...]:
    """The nodes that read any of the tensors `names` and return real numbers, in order."""
    wanted = set(names)
    return tuple(
        node
        for node in graph.nodes
        if wanted.intersection(name for name in node.inputs if name)
        and graph.tensors[node.outputs[0]].is_float
    )


def _node_outputs(recording: Recording, plan: BitPlan) -> Iterable[tuple[Values, Values]]:
    """(float32 output, its error) of those nodes, batch after batch."""
    graph, run = recording.run.graph, _run_of(recording, plan)
    own = {
        name for layer in graph.layers if layer.name in plan.layers for name in (layer.input, layer.weights)
    }
    nodes = readers(graph, own.union(plan.tensors))
    ends = [name for name in graph.outputs if name in plan.tensors]
    read = {name for node in nodes for name in node.inputs if name and name not in graph.parameters}
    for first, values in _batches(recording, sorted(read.union(ends))):
        run.caster.first_sample = first
        with torch.inference_mode():
            exact = {
                **_exact_outputs(recording, first, nodes, values),
                **{name: values[name] for name in ends},
            }
            error = {node.outputs[0]: _output(run, node, values) - exact[node.outputs[0]] for node in nodes}
            for name in ends:
                moved = run.caster(name, values[name]) - values[name]
                error[name] = error[name] + moved if name in error else moved
        yield exact, error


def _exact_outputs(recording: Recording, first: int, nodes: Sequence[Node], values: Values) -> Values:
    """The nodes' float32 outputs in the batch from sample `first` on; kept until other nodes are asked for."""
    names = tuple(node.outputs[0] for node in nodes)
    if recording.outputs.get("of") != names:
        recording.outputs.clear()
        recording.outputs["of"] = names
    if first not in recording.outputs:
        graph = recording.run.graph
        recording.outputs[first] = {
            node.outputs[0]: apply(
                node, [_operand(graph, name, values) if name else None for name in node.inputs]
            )[0]
            for node in nodes
        }
    found: Values = recording.outputs[first]
    return found


def _output(run: PlanRun, node: Node, values: Values) -> torch.Tensor:
    """The first output of a node as the plan computes it, from float32 operands, cast."""
    cast = [run.caster(name, _operand(run.graph, name, values)) if name else None for name in node.inputs]
    return run.runner(node, cast)[0]


def _operand(graph: Graph, name: str, values: Values) -> torch.Tensor:
    return parameter_tensor(graph, name) if name in graph.parameters else values[name]


def _run_of(recording: Recording, plan: BitPlan) -> PlanRun:
    if recording.run.plan is not None:
        raise UserError("errors of single tensors are against the float32 network: record that, not a plan")
    # Sums of cast values in float32 err by parts in 10^7 of them; only a unit of its own asks for more.
    return PlanRun.of(recording.run.graph, plan, recording.inputs, None if plan.layers else "fast", None)


def _batches(recording: Recording, names: Sequence[str]) -> Iterable[tuple[int, Values]]:
    """(first sample, float32 activations `names`) of each batch; what is not recorded is computed again."""
    graph, first = recording.run.graph, 0
    for start in range(len(recording.activations)):
        samples = slice(first, first + recording.batch)
        inputs = {name: value[samples] for name, value in recording.inputs.items()}
        known = recording.activations[start]
        values = {name: {**inputs, **known}[name] for name in names if name in known or name in inputs}
        missing = [name for name in names if name not in values]
        if missing:
            values |= run_graph(graph, inputs, keep=missing, known=known)
        yield first, values
        first += recording.batch


def _samples(recording: Recording) -> int:
    return len(next(iter(recording.inputs.values())))


def _products(slopes: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """slopes [draws, n, ...] times value [n, ...], summed over all but the first axis: [draws, n]."""
    rows = value.reshape(len(value), 1, -1)
    by_sample = slopes.reshape(len(slopes), len(value), -1).transpose(0, 1)
    return (by_sample @ rows.mT)[..., 0].T.double()


def _dot(a: torch.Tensor, b: torch.Tensor | None) -> float:
    if b is None:
        return 0.0
    return float((a.double() * b).sum())
