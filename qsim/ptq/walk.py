"""The float32 network and the one being quantized, side by side, one node at a time over all calibration batches.

A layer is tuned at the moment it is reached, on the inputs that the already quantized part of the network
gives it. Nothing is run twice: one pass serves all layers. Live activations of all batches are kept, in memory up
to a budget and beyond it in temporary files; one batch at a time is computed on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from qsim.emulator.execute import parameter_tensor
from qsim.emulator.operators import apply
from qsim.emulator.tensors import TensorCaster
from qsim.graph.layers import weight_source
from qsim.ptq.batches import Batches, Room

if TYPE_CHECKING:
    from qsim.graph import Graph, Node

Pairs = Iterator[tuple[torch.Tensor, torch.Tensor]]
Read = Callable[[str], Pairs]
Visit = Callable[["Node", Read], Mapping[str, torch.Tensor]]
Track = Callable[[Iterable[Any], str, int], Iterable[Any]]
MEMORY_BYTES = 64 << 20


def walk(
    graph: Graph,
    batches: Sequence[Mapping[str, torch.Tensor]],
    caster: TensorCaster,
    parameters: Mapping[str, torch.Tensor],
    visit: Mapping[str, Visit],
    *,
    sequential: bool = True,
    track: Track | None = None,
    memory_bytes: int = MEMORY_BYTES,
) -> None:
    """Run `graph` on `batches`; before a node in `visit` is computed, call visit[node](node, read).

    read(tensor): (float32, quantized) pairs of an activation that is alive, one a batch; the same object twice
    where they are equal. The call returns parameters that stand for the network's own from here on. parameters:
    those of the quantized network that differ from the start. caster: casts activations. sequential: quantized
    inputs come from the quantized network so far; otherwise they are the float32 ones, cast. The walk ends at
    the last node of `visit`. track: wraps the nodes, for a progress bar. memory_bytes: of activations that are
    kept in memory.
    """
    run = _Run(graph, caster, dict(parameters), sequential, Room(memory_bytes))
    last_use = _last_uses(graph)
    last = max((i for i, node in enumerate(graph.nodes) if node.name in visit), default=-1)
    with torch.no_grad():
        for name in graph.inputs:
            run.keep_input(name, [batch[name] for batch in batches])
        nodes = graph.nodes[: last + 1]
        for index, node in enumerate(track(nodes, "tuning layers", len(nodes)) if track else nodes):
            if node.name in visit:
                run.parameters |= visit[node.name](node, run.pairs)
            if index < last:
                run.compute(node, len(batches))
            for name in last_use[index]:
                run.forget(name)
        run.close()


class _Run:
    """The values alive: of the float32 network, and of the quantized one where they differ."""

    def __init__(
        self,
        graph: Graph,
        caster: TensorCaster,
        parameters: dict[str, torch.Tensor],
        sequential: bool,
        room: Room,
    ) -> None:
        self.parameters = parameters
        self._graph, self._caster, self._sequential, self._room = graph, caster, sequential, room
        self._views = _weight_views(graph)
        self._float: dict[str, Batches] = {}
        self._quantized: dict[str, Batches] = {}

    def keep_input(self, name: str, values: Sequence[torch.Tensor]) -> None:
        first = 0
        for value in values:
            self._keep(self._float, name, value)
            if self._sequential and self._caster.is_cast(name):
                self._keep(self._quantized, name, self._cast(name, value, first))
            first += len(value)

    def pairs(self, name: str) -> Pairs:
        """(float32, quantized) values of a live activation, batch after batch."""
        quantized, first = self._quantized.get(name), 0
        for batch, exact in enumerate(self._float[name]):
            if quantized is not None:
                yield exact, quantized[batch]
            elif not self._sequential and self._caster.is_cast(name):
                yield exact, self._cast(name, exact, first)
            else:
                yield exact, exact
            first += len(exact) if exact.dim() else 1

    def compute(self, node: Node, batches: int) -> None:
        """Compute a node for every batch, in the float32 network and, where it sees a difference, in the other."""
        if all(name in self._views for name in node.outputs):
            return
        changed = self._sequential and any(self._is_changed(name) for name in node.inputs if name)
        first = 0
        for batch in range(batches):
            exact = apply(node, [self._read(name, batch, {}) for name in node.inputs])
            other = exact
            if changed:
                other = apply(node, [self._read(name, batch, self._quantized) for name in node.inputs])
            for name, value, cast in zip(node.outputs, exact, other, strict=False):
                if not name:
                    continue
                self._keep(self._float, name, value)
                if changed or (self._sequential and self._caster.is_cast(name)):
                    self._keep(self._quantized, name, self._cast(name, cast, first))
            first += len(exact[0]) if exact[0].dim() else 1

    def forget(self, name: str) -> None:
        """Free what is kept of a tensor."""
        for kept in (self._float, self._quantized):
            if name in kept:
                kept.pop(name).close()

    def close(self) -> None:
        """Free everything."""
        for name in {*self._float, *self._quantized}:
            self.forget(name)

    def _keep(self, where: dict[str, Batches], name: str, value: torch.Tensor) -> None:
        where.setdefault(name, Batches(self._room)).append(value)

    def _is_changed(self, name: str) -> bool:
        source = self._views[name][0] if name in self._views else name
        return source in self._quantized or source in self.parameters

    def _read(self, name: str | None, batch: int, first: Mapping[str, Batches]) -> torch.Tensor | None:
        if not name:
            return None
        if name in self._views:  # a view follows its weight, which may have been tuned since
            source, axes = self._views[name]
            weight = self._read(source, batch, first)
            return None if weight is None else weight.permute(axes)
        if name in self._graph.parameters:
            changed = self.parameters if first is self._quantized else {}
            return changed[name] if name in changed else parameter_tensor(self._graph, name)
        return first[name][batch] if name in first else self._float[name][batch]

    def _cast(self, name: str, value: torch.Tensor, first_sample: int) -> torch.Tensor:
        if not self._caster.is_cast(name):
            return value
        self._caster.first_sample = first_sample
        return self._caster(name, value)


def _weight_views(graph: Graph) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Tensors that are a parameter with its axes in another order: {tensor: (parameter, axes)}."""
    views: dict[str, tuple[str, tuple[int, ...]]] = {}
    for node in graph.nodes:
        above = str(node.inputs[0]) if node.op == "Transpose" else ""
        if above in graph.parameters or above in views:
            source = weight_source(graph, node.outputs[0])
            if source is not None:
                views[node.outputs[0]] = source
    return views


def _last_uses(graph: Graph) -> list[list[str]]:
    """For every node the activations that no later node reads."""
    last = {name: i for i, node in enumerate(graph.nodes) for name in (*node.inputs, *node.outputs) if name}
    uses: list[list[str]] = [[] for _ in graph.nodes]
    for name, index in last.items():
        uses[index].append(name)
    return uses
