"""Fine-tuning: all layers' roundings learned together, so that the quantized network answers as float32 does.

Every weight has a latent real value; the network computes with the nearest admissible one and passes gradients
straight through (Bengio, Leonard, Courville 2013). The loss is the distance of every layer's output from the
float32 network's, on calibration inputs without labels: reconstruction of blocks as in BRECQ (Li et al., ICLR
2021), all of them at once. A random share of activations stays unquantized in each pass, as in QDrop (Wei et
al., ICLR 2022), which keeps the roundings from fitting the noise of a few hundred samples.

Latent values start where their layer's rounding left them, so this step goes after layer-wise ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from qsim.emulator.execute import parameter_tensor
from qsim.emulator.operators import apply
from qsim.errors import UserError
from qsim.ptq.layer_matrix import weight_matrix, weight_tensor
from qsim.ptq.problem import Network, Rounded

if TYPE_CHECKING:
    from qsim.emulator.tensors import TensorCaster
    from qsim.graph import Graph, Layer

Tensors = Mapping[str, torch.Tensor]


REACH = 0.25
DEBUG = False


@dataclass(frozen=True)
class FineTune:
    """iterations: of Adam over batches of `batch` samples; rate: its first step size, in grid steps, falling to 0.

    drop: share of activation values that a pass leaves unquantized. biases: whether biases are learned too,
    with the step size in units of `rate` times the output's standard deviation over 100.
    """

    iterations: int = 300
    rate: float = 0.02
    batch: int = 32
    drop: float = 0.5
    biases: bool = True

    def __post_init__(self) -> None:
        if self.iterations < 1 or self.batch < 1 or not 0 <= self.drop <= 1:
            raise UserError(
                "ptq.steps fine_tune: iterations and batch must be at least 1 and drop from 0 to 1, "
                f"not {self.iterations}, {self.batch} and {self.drop}"
            )

    @torch.enable_grad()
    def __call__(self, network: Network) -> dict[str, Rounded]:
        graph = network.graph
        layers = [layer for layer in graph.layers if layer.name in network.layers]
        latent = {layer.name: _Latent(graph, layer, network.layers[layer.name]) for layer in layers}
        random = torch.Generator().manual_seed(network.seed)
        learned = [part.position for part in latent.values()]
        learned += [part.shift for part in latent.values() if self.biases and part.shift is not None]
        optimizer = torch.optim.Adam(learned, lr=self.rate)
        samples = len(next(iter(network.inputs.values())))
        order = torch.empty(0, dtype=torch.long)
        steps: Iterable[int] = range(self.iterations)
        if network.track:
            steps = network.track(steps, "fine-tuning", self.iterations)
        names = {layer.output for layer in graph.layers}
        for iteration in steps:
            if len(order) < min(self.batch, samples):
                order = torch.cat([order, torch.randperm(samples, generator=random)])
            chosen, order = order[: self.batch], order[self.batch :]
            batch = {name: torch.from_numpy(array[chosen.numpy()]) for name, array in network.inputs.items()}
            with torch.no_grad():
                exact = _forward(graph, batch, {}, lambda name, value: value, names)
            parameters = {**network.parameters}
            for part in latent.values():
                parameters |= part.parameters(exact)
            cast = self._casting(network.caster, random)
            ours = _forward(graph, batch, parameters, cast, names)
            for group in optimizer.param_groups:
                group["lr"] = self.rate * (1 - iteration / self.iterations)
            optimizer.zero_grad()
            loss = _distance(ours, exact)
            if DEBUG and iteration % 10 == 0:
                print(iteration, float(loss))
            loss.backward()
            optimizer.step()
        return {name: part.rounded() for name, part in latent.items()}

    def _casting(
        self, caster: TensorCaster, random: torch.Generator
    ) -> Callable[[str, torch.Tensor], torch.Tensor]:
        def cast(name: str, value: torch.Tensor) -> torch.Tensor:
            if not caster.is_cast(name):
                return value
            rounded = caster(name, value)
            if self.drop == 0:
                return rounded
            keep = torch.rand(value.shape, generator=random) < self.drop
            return torch.where(keep, value, rounded)

        return cast


class _Latent:
    """The latent weights of one layer, in grid steps from where they start, and the change of its bias."""

    def __init__(self, graph: Graph, layer: Layer, start: Rounded) -> None:
        self._graph, self._layer, self._start = graph, layer, start
        weights = torch.from_numpy(weight_matrix(graph, layer)).double().reshape(start.values.shape)
        below, _ = start.grid.neighbours(start.values - 1e-6 * start.grid.step)
        _, above = start.grid.neighbours(start.values)
        # within the cell of values that round to the start, as near to the float32 weight as that allows
        reach = REACH
        low = start.values - reach * (start.values - below)
        high = start.values + reach * (above - start.values)
        self._origin = torch.minimum(torch.maximum(weights, low), high)
        lower, upper = start.grid.neighbours(self._origin)
        spacing = upper - lower
        self._spacing = torch.where(spacing > 0, spacing, start.grid.step)
        self.position = torch.zeros_like(weights, dtype=torch.float32).requires_grad_()
        self._bias = start.bias
        self.shift = None if start.bias is None else torch.zeros(len(start.bias)).requires_grad_()
        self._unit: torch.Tensor | None = None

    def parameters(self, exact: Tensors) -> dict[str, torch.Tensor]:
        """The layer's parameters in the quantized network; gradients reach the latent values."""
        weights = self._weights()
        hard = self._start.grid.nearest(weights.detach())
        through = hard + (weights - weights.detach())
        shape = self._graph.parameters[self._layer.weights].shape
        found = {self._layer.weights: weight_tensor(through, shape, self._layer.weight_axis or 0).float()}
        if self.shift is not None and self._bias is not None and self._layer.bias is not None:
            if self._unit is None:
                self._unit = exact[self._layer.output].std() / 100
            bias = self._bias.float() + self.shift * self._unit
            found[self._layer.bias] = bias.reshape(self._graph.parameters[self._layer.bias].shape)
        return found

    def rounded(self) -> Rounded:
        values = self._start.grid.nearest(self._weights().detach())
        bias = self._bias
        if bias is not None and self.shift is not None and self._unit is not None:
            bias = bias + (self.shift.detach() * self._unit).double()
        return replace(self._start, values=values, bias=bias)

    def _weights(self) -> torch.Tensor:
        return self._origin + self.position.double() * self._spacing


def _forward(
    graph: Graph,
    inputs: Tensors,
    parameters: Tensors,
    cast: Callable[[str, torch.Tensor], torch.Tensor],
    names: Iterable[str],
) -> dict[str, torch.Tensor]:
    """The tensors `names` and the outputs; unlike the executor's, this run keeps gradients."""
    values = {name: cast(name, value) for name, value in inputs.items()}

    def read(name: str | None) -> torch.Tensor | None:
        if not name or name in values:
            return values[name] if name else None
        return parameters[name] if name in parameters else parameter_tensor(graph, name)

    for node in graph.nodes:
        results = apply(node, [read(name) for name in node.inputs])
        for name, value in zip(node.outputs, results, strict=False):
            if name:
                values[name] = cast(name, value)
    return {name: values[name] for name in (*names, *graph.outputs)}


def _distance(ours: Tensors, exact: Tensors) -> torch.Tensor:
    """Sum over tensors of the squared error relative to the tensor's variance."""
    parts = [
        (ours[name] - exact[name]).square().mean() / exact[name].var().clamp(min=1e-12) for name in exact
    ]
    return torch.stack(parts).sum()
