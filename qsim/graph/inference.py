"""Shapes by running: the graph is run on a constant, once per symbolic dimension, and the lengths are compared.

A length that follows one symbol is named after it ("time", "2*time", "time/4"), one that follows a product of
symbols after the product; anything else that varies is "f(time)".
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from qsim.errors import GraphError
from qsim.graph.ir import Dimension, Graph, Kind, Shape, Tensor

Concrete = tuple[int, ...]
_SAMPLE_LENGTHS = (64, 224, 320, 32, 16, 128, 512, 8, 4, 2, 1)  # tried in turn; the first that runs is stated


def with_shapes(graph: Graph, lengths: Mapping[str, int] | None = None) -> Graph:
    """`graph` with a Tensor for every name, its sample shapes, and the sample length of every symbol.

    `lengths` states the length of symbols by the user's example; the batch is evaluated at 1. Raises GraphError
    where the graph runs at no length tried.
    """
    symbols = symbols_of(graph)
    chosen, base = _first_that_runs(graph, symbols, lengths or {})
    probes = {symbol: _probe(graph, chosen, symbol) for symbol in symbols}
    tensors = dict(graph.tensors)
    for name, (shape, dtype) in base.items():
        varied = {
            symbol: (length, shapes[name][0])
            for symbol, probe in probes.items()
            if probe is not None
            for length, shapes in [probe]
        }
        kind: Kind = "parameter" if name in graph.parameters else "activation"
        declared = tensors.get(name)
        tensors[name] = declared or Tensor(name, _symbolic(shape, varied, chosen), dtype, kind)
    tensors |= {n: Tensor(n, a.shape, str(a.dtype), "parameter") for n, a in graph.parameters.items()}
    sample_shapes = {name: shape for name, (shape, _) in base.items()}
    return replace(graph, tensors=tensors, lengths=chosen, sample_shapes=sample_shapes)


def symbols_of(graph: Graph) -> tuple[str, ...]:
    """The symbolic dimensions of the inputs, in order."""
    dims = (d for name in graph.inputs for d in graph.tensors[name].shape if isinstance(d, str))
    return tuple(dict.fromkeys(dims))


def batch_symbol(graph: Graph) -> str | None:
    """The leading dimension of the first input where it is symbolic."""
    shape = graph.tensors[graph.inputs[0]].shape if graph.inputs else ()
    return shape[0] if shape and isinstance(shape[0], str) else None


def _first_that_runs(
    graph: Graph, symbols: Sequence[str], given: Mapping[str, int]
) -> tuple[dict[str, int], dict[str, tuple[Concrete, str]]]:
    batch = batch_symbol(graph)
    error: GraphError | None = None
    free = [s for s in symbols if s != batch and s not in given]
    choices = [{s: 1 if s == batch else given.get(s, length) for s in symbols} for length in _SAMPLE_LENGTHS]
    choices = choices if free else choices[:1]
    if batch in given:
        choices.append({s: given.get(s, 1) for s in symbols})
    for chosen in choices:
        for fill in (1, 0):
            try:
                return chosen, _run(graph, chosen, fill)
            except GraphError as failure:
                error = error or failure
    hint = f"; give example_inputs that state the length of {', '.join(free)}" if free else ""
    raise GraphError(f"graph '{graph.name}' does not run: {error}{hint}")


def _probe(
    graph: Graph, base: Mapping[str, int], symbol: str
) -> tuple[int, dict[str, tuple[Concrete, str]]] | None:
    """A run with one symbol at another length, or None where the graph runs at no other."""
    for length in (2 * base[symbol], base[symbol] + 1, base[symbol] + 32, max(base[symbol] // 2, 1)):
        if length == base[symbol]:
            continue
        for fill in (1, 0):
            try:
                return length, _run(graph, {**base, symbol: length}, fill)
            except GraphError:
                continue
    return None


def _run(graph: Graph, lengths: Mapping[str, int], fill: int) -> dict[str, tuple[Concrete, str]]:
    """Shape and element type of every tensor, by a run on inputs that hold `fill` everywhere."""
    import torch

    from qsim.emulator.execute import run_graph
    from qsim.emulator.operators.registry import DTYPES

    inputs = {}
    for name in graph.inputs:
        tensor = graph.tensors[name]
        shape = [lengths[d] if isinstance(d, str) else d for d in tensor.shape]
        inputs[name] = torch.full(shape, fill, dtype=DTYPES[tensor.dtype])
    seen: dict[str, tuple[Concrete, str]] = {}

    def note(name: str, value: torch.Tensor) -> torch.Tensor:
        seen[name] = (tuple(value.shape), str(value.dtype).removeprefix("torch."))
        return value

    run_graph(graph, inputs, transform=note)
    return seen


def _symbolic(shape: Concrete, varied: Mapping[str, tuple[int, Concrete]], base: Mapping[str, int]) -> Shape:
    return tuple(
        _dimension(
            length,
            {s: (n, other[axis]) for s, (n, other) in varied.items() if len(other) == len(shape)},
            base,
        )
        for axis, length in enumerate(shape)
    )


def _dimension(length: int, varied: Mapping[str, tuple[int, int]], base: Mapping[str, int]) -> Dimension:
    """One length named by the symbols it follows."""
    moving = {symbol: values for symbol, values in varied.items() if values[1] != length}
    if not moving:
        return length
    if any(other * base[symbol] != length * n for symbol, (n, other) in moving.items()):
        return f"f({','.join(moving)})"
    product = math.prod(base[symbol] for symbol in moving)
    name = "*".join(moving)
    if length % product == 0:
        return name if length == product else f"{length // product}*{name}"
    return f"{name}/{product // length}" if length and product % length == 0 else f"f({','.join(moving)})"
