"""Fine-tuning: all layers' roundings learned together, so that the quantized network answers as float32 does.

Every weight has a latent real value; the network computes with the nearest admissible one and passes gradients
straight through (Bengio, Leonard, Courville 2013). The loss is the distance of every layer's output from the
float32 network's, on calibration inputs without labels: reconstruction of blocks as in BRECQ (Li et al., ICLR
2021), all of them at once. A random share of activations stays unquantized in each pass, as in QDrop (Wei et
al., ICLR 2022), which keeps the roundings from fitting the noise of a few hundred samples.

Latent values start where their layer's rounding left them, so this step goes after layer-wise ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from qsim.emulator.execute import parameter_tensor
from qsim.emulator.operators import apply
from qsim.errors import UserError
from qsim.ptq.layer_matrix import weight_matrix, weight_tensor
from qsim.ptq.problem import Network, Rounded
from qsim.ptq.steps.adaround import hardness, soft_rounding, soft_rounding_inverse

if TYPE_CHECKING:
    from qsim.emulator.tensors import TensorCaster
    from qsim.graph import Graph, Layer, Node

Tensors = Mapping[str, torch.Tensor]
CastTensor = Callable[[str, torch.Tensor], torch.Tensor]


DEBUG = False
STAY = 0.5  # where soft weights start: between the float32 weight (0) and the rounded one (1)


@dataclass(frozen=True)
class FineTune:
    """iterations: of Adam over batches of `batch` samples; rate: its first step size, falling to 0.

    regularization, warm_up: as AdaRound's, with the loss in units of its first value. drop: share of activation
    values that a pass leaves unquantized.
    """

    iterations: int = 300
    rate: float = 0.05
    batch: int = 32
    regularization: float = 10.0
    warm_up: float = 0.2
    drop: float = 0.0

    def __post_init__(self) -> None:
        if self.iterations < 1 or self.batch < 1 or not 0 <= self.drop <= 1 or not 0 <= self.warm_up < 1:
            raise UserError(
                "ptq.steps fine_tune: iterations and batch must be at least 1, drop from 0 to 1 and warm_up from 0 "
                f"to below 1, not {self.iterations}, {self.batch}, {self.drop} and {self.warm_up}"
            )

    @torch.enable_grad()
    def __call__(self, network: Network) -> dict[str, Rounded]:
        graph = network.graph
        layers = [layer for layer in graph.layers if layer.name in network.layers]
        soft = {layer.node: SoftLayer(graph, layer, network.layers[layer.name]) for layer in layers}
        optimizer = torch.optim.Adam([part.logits for part in soft.values()], lr=self.rate)
        random = torch.Generator().manual_seed(network.seed)
        steps: Iterable[int] = range(self.iterations)
        if network.track:
            steps = network.track(steps, "fine-tuning", self.iterations)
        unit: torch.Tensor | None = None
        batches = _batches(network, self.batch, random)
        for iteration in steps:
            batch = next(batches)
            with torch.no_grad():
                exact = _forward(graph, batch, {}, {}, lambda name, value: value)
            ours = _forward(
                graph, batch, network.parameters, soft, self._casting(network.caster, random), exact
            )
            loss = _distance(graph, ours, exact)
            if DEBUG and iteration % 20 == 0:
                print(iteration, float(loss.detach()), end=" ")
            unit = loss.detach() if unit is None else unit
            loss = loss / unit
            progress = iteration / self.iterations
            if progress >= self.warm_up:
                hard = torch.stack([part.hardness(progress, self.warm_up) for part in soft.values()])
                loss = loss + self.regularization * hard.mean()
            for group in optimizer.param_groups:
                group["lr"] = self.rate * (1 - progress)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if DEBUG:
            for part in soft.values():
                h = soft_rounding(part.logits)
                print(round(float(((h > 0.05) & (h < 0.95)).double().mean().detach()), 3), end=" ")
                part.logits = torch.where(h >= 0.5, 20.0, -20.0)
            ours = _forward(
                graph, batch, network.parameters, soft, self._casting(network.caster, random), exact
            )
            print("hard", float(_distance(graph, ours, exact).detach()))
        return {layer.name: soft[layer.node].rounded() for layer in layers}

    def _casting(self, caster: TensorCaster, random: torch.Generator) -> CastTensor:
        def cast(name: str, value: torch.Tensor) -> torch.Tensor:
            if not caster.is_cast(name):
                return value
            rounded = caster(name, value)
            if self.drop == 0:
                return rounded
            return torch.where(torch.rand(value.shape, generator=random) < self.drop, value, rounded)

        return cast


class SoftLayer:
    """One layer whose weights stand between two neighbours of their grid.

    One neighbour is the value at the start, the other the next one towards the float32 weight. The mean output
    is held at the float32 network's, as a bias correction will do once the roundings are chosen.
    """

    def __init__(self, graph: Graph, layer: Layer, start: Rounded) -> None:
        self._start, self._axis = start, layer.weight_axis or 0
        self._shape = graph.parameters[layer.weights].shape
        weights = torch.from_numpy(weight_matrix(graph, layer)).double().reshape(start.values.shape)
        nudge = 1e-6 * start.grid.step * torch.where(weights >= start.values, 1.0, -1.0)
        self._below, above = start.grid.neighbours(start.values + nudge)
        self._width = above - self._below
        wide = self._width > 0
        share = torch.where(wide, (weights - self._below) / self._width, 0.0).clamp(0, 1)
        at = torch.where(wide, (start.values - self._below) / self._width, 0.0)
        self.logits = soft_rounding_inverse(share + STAY * (at - share)).float().requires_grad_()
        self._mean_error: torch.Tensor | None = None

    def compute(
        self, node: Node, values: list[torch.Tensor | None], exact: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """The node's output with the soft weights; gradients reach the logits."""
        weights = self._below + self._width * soft_rounding(self.logits)
        values[1] = weight_tensor(weights, self._shape, self._axis).float()
        result = apply(node, values)[0]
        if self._start.bias is None:
            return (result,)
        channel = 1 if node.op == "Conv" else result.dim() - 1
        others = [axis for axis in range(result.dim()) if axis != channel]
        error = exact.mean(others, keepdim=True) - result.mean(others, keepdim=True)
        seen = error.detach().flatten()
        self._mean_error = seen if self._mean_error is None else 0.9 * self._mean_error + 0.1 * seen
        return (result + error,)

    def hardness(self, progress: float, warm_up: float) -> torch.Tensor:
        """AdaRound's regularizer, a mean over the layer's weights."""
        return hardness(soft_rounding(self.logits), progress, warm_up).mean()

    def rounded(self, own_bias: torch.Tensor | None = None) -> Rounded:
        """The layer with every weight at the neighbour it leans to."""
        up = soft_rounding(self.logits).detach() >= 0.5
        values = self._start.grid.nearest(torch.where(up, self._below + self._width, self._below))
        return replace(self._start, values=values)


def _batches(network: Network, size: int, random: torch.Generator) -> Iterator[dict[str, torch.Tensor]]:
    """Batches of shuffled calibration samples without end; every sample once before any comes again."""
    samples = len(next(iter(network.inputs.values())))
    order = torch.randperm(samples, generator=random)
    while True:
        while len(order) < min(size, samples):
            order = torch.cat([order, torch.randperm(samples, generator=random)])
        chosen, order = order[:size].numpy(), order[size:]
        yield {name: torch.from_numpy(array[chosen]) for name, array in network.inputs.items()}


def _forward(
    graph: Graph,
    inputs: Tensors,
    parameters: Tensors,
    soft: Mapping[str, SoftLayer],
    cast: CastTensor,
    exact: Tensors | None = None,
) -> dict[str, torch.Tensor]:
    """Every activation of the network; unlike the executor's, this run keeps gradients."""
    values = {name: cast(name, value) for name, value in inputs.items()}

    def read(name: str | None) -> torch.Tensor | None:
        if not name or name in values:
            return values[name] if name else None
        return parameters[name] if name in parameters else parameter_tensor(graph, name)

    for node in graph.nodes:
        operands = [read(name) for name in node.inputs]
        if node.name in soft and exact is not None:
            results = soft[node.name].compute(node, operands, exact[node.outputs[0]])
        else:
            results = apply(node, operands)
        for name, value in zip(node.outputs, results, strict=False):
            if name:
                values[name] = cast(name, value)
    return values


def _distance(graph: Graph, ours: Tensors, exact: Tensors) -> torch.Tensor:
    """Sum over the outputs of layers and network of the squared error relative to the tensor's variance."""
    names = {layer.output for layer in graph.layers} | set(graph.outputs)
    parts = [
        (ours[name] - exact[name]).square().mean() / exact[name].var().clamp(min=1e-12)
        for name in sorted(names)
    ]
    return torch.stack(parts).sum()
