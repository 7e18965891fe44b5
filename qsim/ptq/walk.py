"""The float32 network and the one being quantized, side by side, one node at a time over all calibration batches.

A layer is tuned at the moment it is reached, on the inputs that the already quantized part of the network
gives it. Nothing is run twice: one pass serves all layers. Memory holds the live activations of all batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from qsim.emulator.execute import parameter_tensor
from qsim.emulator.operators import apply
from qsim.emulator.tensors import TensorCaster

if TYPE_CHECKING:
    from qsim.graph import Graph, Layer, Node

Batches = list[torch.Tensor]
Pairs = list[tuple[torch.Tensor, torch.Tensor]]
Visit = Callable[["Layer", "Node", Pairs], Mapping[str, torch.Tensor]]
Track = Callable[[Iterable[Any], str, int], Iterable[Any]]


def walk(
    graph: Graph,
    batches: Sequence[Mapping[str, torch.Tensor]],
    caster: TensorCaster,
    parameters: Mapping[str, torch.Tensor],
    visit: Mapping[str, Visit],
    *,
    sequential: bool = True,
    track: Track | None = None,
) -> None:
    """Run `graph` on `batches`; before a node in `visit` is computed, call visit[node](layer, node, inputs).

    inputs: (float32, quantized) pairs of the layer's input, one a batch. The call returns parameters that stand
    for the layer's own from here on. parameters: those of the quantized network that differ from the start.
    caster: casts activations. sequential: quantized inputs come from the quantized network so far; otherwise
    they are the float32 ones, cast. The walk ends at the last node of `visit`. track: wraps the nodes, for a
    progress bar.
    """
    run = _Run(graph, caster, dict(parameters), sequential)
    layers = {layer.node: layer for layer in graph.layers}
    last_use = _last_uses(graph)
    last = max((i for i, node in enumerate(graph.nodes) if node.name in visit), default=-1)
    with torch.no_grad():
        for name in graph.inputs:
            run.set(name, [batch[name] for batch in batches], None)
        nodes = graph.nodes[: last + 1]
        for index, node in enumerate(track(nodes, "tuning layers", len(nodes)) if track else nodes):
            if node.name in visit:
                layer = layers[node.name]
                run.parameters |= visit[node.name](layer, node, run.pairs(layer.input))
            if index < last:
                run.compute(node, len(batches))
            for name in last_use[index]:
                run.forget(name)


class _Run:
    """The values alive: of the float32 network, and of the quantized one where they differ."""

    def __init__(
        self, graph: Graph, caster: TensorCaster, parameters: dict[str, torch.Tensor], sequential: bool
    ) -> None:
        self.parameters = parameters
        self._graph, self._caster, self._sequential = graph, caster, sequential
        self._float: dict[str, Batches] = {}
        self._quantized: dict[str, Batches] = {}

    def set(self, name: str, exact: Batches, quantized: Batches | None) -> None:
        self._float[name] = exact
        if self._sequential and (quantized is not None or self._caster.is_cast(name)):
            self._quantized[name] = self._cast(name, quantized or exact)

    def pairs(self, name: str) -> Pairs:
        exact = self._float[name]
        if self._sequential:
            quantized = self._quantized.get(name, exact)
        else:
            quantized = self._cast(name, exact) if self._caster.is_cast(name) else exact
        return list(zip(exact, quantized, strict=True))

    def compute(self, node: Node, batches: int) -> None:
        exact = [apply(node, [self._read(name, i, {}) for name in node.inputs]) for i in range(batches)]
        changed = self._sequential and any(
            name in self._quantized or name in self.parameters for name in node.inputs if name
        )
        quantized = None
        if changed:
            quantized = [
                apply(node, [self._read(name, i, self._quantized) for name in node.inputs])
                for i in range(batches)
            ]
        for place, name in enumerate(node.outputs):
            if name:
                self.set(
                    name,
                    [values[place] for values in exact],
                    None if quantized is None else [values[place] for values in quantized],
                )

    def forget(self, name: str) -> None:
        self._float.pop(name, None)
        self._quantized.pop(name, None)

    def _read(self, name: str | None, batch: int, first: Mapping[str, Batches]) -> torch.Tensor | None:
        if not name:
            return None
        if name in self._graph.parameters:
            changed = self.parameters if first is self._quantized else {}
            return changed[name] if name in changed else parameter_tensor(self._graph, name)
        return first[name][batch] if name in first else self._float[name][batch]

    def _cast(self, name: str, values: Batches) -> Batches:
        cast, self._caster.first_sample = [], 0
        for value in values:
            cast.append(self._caster(name, value))
            self._caster.first_sample += len(value)
        return cast


def _last_uses(graph: Graph) -> list[list[str]]:
    """For every node the activations that no later node reads."""
    last = {name: i for i, node in enumerate(graph.nodes) for name in (*node.inputs, *node.outputs) if name}
    uses: list[list[str]] = [[] for _ in graph.nodes]
    for name, index in last.items():
        uses[index].append(name)
    return uses
