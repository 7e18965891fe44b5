"""Derivatives of a loss of the outputs at the float32 network, by its weights and by its activations.

The loss compares the first output with that of the float32 network itself, so no labels are needed: "kl" is the
divergence KL(float32 || moved) of the softmax over the last axis, averaged over the rows of a sample; "mse" the
mean squared difference over the elements of a sample. Both are least, and flat, at the float32 network; their
Hessian there is J' B J with the Jacobian J of the output and B = diag(p) - p p' (a row) or 2 / elements.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from qsim.emulator.batches import Inputs, as_tensors, batch_of, batches
from qsim.emulator.deviation import Deviation, Values
from qsim.emulator.execute import run_graph
from qsim.errors import UserError

if TYPE_CHECKING:
    from qsim.graph import Graph

Loss = Literal["kl", "mse"]


@dataclass(frozen=True)
class Trace:
    """The trace of the Hessian's block of one tensor, its standard error, and how many elements the tensor has."""

    value: float
    standard_error: float
    elements: int


@dataclass(frozen=True, eq=False)
class Derivatives:
    """Derivatives by the tensors `names` (parameters or activations) of the loss on `inputs`."""

    graph: Graph
    inputs: Values
    names: tuple[str, ...]
    loss: Loss
    batch: int

    @classmethod
    def of(
        cls, graph: Graph, inputs: Inputs, names: Sequence[str], loss: Loss = "kl", batch_size: int = 25
    ) -> Derivatives:
        """Raises UserError for a name that is no tensor of real numbers."""
        for name in names:
            if name not in graph.tensors or not graph.tensors[name].is_float:
                raise UserError(f"model '{graph.name}' has no tensor of real numbers '{name}' to derive by")
        arrays, _ = as_tensors(graph, inputs)
        samples = len(next(iter(arrays.values())))
        return cls(graph, arrays, tuple(names), loss, batch_of(graph, samples, batch_size))

    @property
    def samples(self) -> int:
        return len(next(iter(self.inputs.values())))

    def gradient(self) -> Deviation:
        """Of the cross-entropy with the network's own most likely label, averaged over the samples.

        Zero for the loss "mse", which has no such label. An activation's entry holds its share of the mean.
        """
        parameters: dict[str, torch.Tensor] = {}
        activations = []
        for output, leaves in self._runs(self.batch):
            rows = _rows(output)
            likely = rows.detach().argmax(-1, keepdim=True)
            loss = -torch.log_softmax(rows, -1).gather(-1, likely).mean((1, 2)).sum() / self.samples
            found = _grad(loss * float(self.loss == "kl"), leaves)
            activations.append(self._collect(found, parameters))
        return Deviation(parameters, activations, self.samples)

    def output_probes(self, count: int, seed: int = 0) -> list[dict[str, torch.Tensor]]:
        """J' u for `count` random u with E u u' = B, sample by sample: for each batch {name: [count, ...]}.

        For a small error e of these tensors, half the mean of (J' u . e)^2 over draws is the loss it causes.
        For "kl", u is p minus a label drawn from the network's own output: a sample of the true Fisher matrix.
        """
        result = []
        random = torch.Generator().manual_seed(seed)
        for output, leaves in self._runs(self.batch):
            draws = [_grad(output, leaves, _root(output.detach(), self.loss, random)) for _ in range(count)]
            result.append({name: torch.stack([draw[name] for draw in draws]) for name in leaves})
        return result

    def fisher(self, seed: int = 0) -> dict[str, torch.Tensor]:
        """Diagonal of the Fisher matrix, averaged over samples: {name: E (J' u)^2}, of an activation with a
        leading axis of 1. One draw of u a sample, one sample at a time where the network allows it.
        """
        random = torch.Generator().manual_seed(seed)
        sums: dict[str, torch.Tensor] = {}
        for output, leaves in self._runs(batch_of(self.graph, self.samples, 1)):
            found = _grad(output, leaves, _root(output.detach(), self.loss, random))
            for name, value in found.items():
                square = value.double() ** 2
                if name not in self.graph.parameters and len(value) == len(output):
                    square = square.sum(0, keepdim=True)
                sums[name] = sums[name] + square if name in sums else square
        return {name: total / self.samples for name, total in sums.items()}

    def hessian_traces(self, draws: int = 2, seed: int = 0) -> dict[str, Trace]:
        """Hutchinson's estimate of the trace of H = J' B J for each tensor, from |J' u|^2 with E u u' = B.

        The random vectors are of the outputs, `draws` for each sample, not of the weights: few numbers stand for
        many, all tensors come from one backward pass, and no other tensor's curvature adds noise. H is of the mean
        loss for a parameter, and of the sample's own loss, averaged, for an activation. The standard error is over
        samples and draws.
        """
        random = torch.Generator().manual_seed(seed)
        batch = batch_of(self.graph, self.samples, 1)
        found: dict[str, list[float]] = {name: [] for name in self.names}
        for output, leaves in self._runs(batch):
            for _ in range(draws):
                slopes = _grad(output, leaves, _root(output.detach(), self.loss, random))
                for name in self.names:
                    found[name].append(float((slopes[name].double() ** 2).sum()) / len(output))
        return {
            name: Trace(
                float(np.mean(values)),
                float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan"),
                int(np.prod(self.graph.sample_shapes[name])),
            )
            for name, values in found.items()
        }

    def quadratic(self, errors: Deviation) -> float:
        """g . e + e' H e / 2 by one Hessian-vector product: the loss, to second order, that the errors cause."""
        total = 0.0
        for index, (output, leaves) in enumerate(self._runs(self.batch)):
            moves = {**errors.parameters, **errors.activations[index]}
            moved = {name: leaf for name, leaf in leaves.items() if name in moves}
            loss = _divergence(output, self.loss) / self.samples
            slopes = _grad(loss, moved, create=True)
            along = sum((slopes[name] * moves[name].clone()).sum() for name in moved)
            if isinstance(along, torch.Tensor):
                curved = _grad(along, moved)
                total += float(along.detach()) + sum(
                    float((curved[name].double() * moves[name]).sum()) / 2 for name in moved
                )
        return total

    def _collect(
        self, found: dict[str, torch.Tensor], parameters: dict[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """Adds what belongs to parameters to `parameters`; returns the rest."""
        for name in set(found).intersection(self.graph.parameters):
            value = found.pop(name)
            parameters[name] = parameters[name] + value if name in parameters else value
        return found

    def _runs(self, batch: int) -> Iterator[tuple[torch.Tensor, dict[str, torch.Tensor]]]:
        """(first output, what it can be derived by) of each batch: parameters themselves, activations plus 0."""
        for _, inputs in batches(self.inputs, batch):
            leaves: dict[str, torch.Tensor] = {}

            def leaf(
                name: str, value: torch.Tensor, leaves: dict[str, torch.Tensor] = leaves
            ) -> torch.Tensor:
                if name not in self.names:
                    return value
                if name in self.graph.parameters:
                    leaves[name] = value.clone().requires_grad_()
                    return leaves[name]
                leaves[name] = torch.zeros_like(value).requires_grad_()
                return value + leaves[name]

            values = run_graph(self.graph, inputs, transform=leaf, mode=torch.enable_grad)
            yield values[self.graph.outputs[0]], leaves


def _rows(output: torch.Tensor) -> torch.Tensor:
    """[samples, rows, classes]."""
    return output.reshape(len(output), -1, output.shape[-1] if output.ndim > 1 else 1)


def _divergence(output: torch.Tensor, loss: Loss) -> torch.Tensor:
    """The loss against the output itself, held fixed, summed over the samples."""
    if loss == "mse":
        return ((output - output.detach()) ** 2).reshape(len(output), -1).mean(1).sum()
    moved = torch.log_softmax(_rows(output), -1)
    fixed = moved.detach()
    return (fixed.exp() * (fixed - moved)).sum(-1).mean(1).sum()


def _root(output: torch.Tensor, loss: Loss, random: torch.Generator) -> torch.Tensor:
    """One draw of u with E u u' = B, in the output's shape."""
    if loss == "mse":
        signs = torch.randint(0, 2, output.shape, generator=random).to(output.dtype) * 2 - 1
        return signs * float(np.sqrt(2 * len(output) / max(1, output.numel())))
    shares = torch.softmax(_rows(output), -1)
    labels = torch.multinomial(shares.reshape(-1, shares.shape[-1]), 1, generator=random)
    drawn = torch.zeros_like(shares).reshape(-1, shares.shape[-1]).scatter_(1, labels, 1.0)
    return ((shares - drawn.reshape(shares.shape)) / float(np.sqrt(shares.shape[1]))).reshape(output.shape)


def _grad(
    value: torch.Tensor,
    leaves: dict[str, torch.Tensor],
    along: torch.Tensor | None = None,
    create: bool = False,
) -> dict[str, torch.Tensor]:
    """{name: derivative}, zeros where the value does not depend on a leaf."""
    if not value.requires_grad or not leaves:
        return {name: torch.zeros_like(leaf) for name, leaf in leaves.items()}
    found = torch.autograd.grad(
        value, list(leaves.values()), along, retain_graph=True, create_graph=create, allow_unused=True,
        materialize_grads=True,
    )  # fmt: skip
    return {name: g if create else g.detach() for name, g in zip(leaves, found, strict=True)}
