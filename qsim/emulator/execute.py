"""Running a graph: one node after another, every tensor freed after its last use."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager

import numpy as np
import torch

from qsim.emulator.operators import apply
from qsim.emulator.operators.registry import DTYPES
from qsim.errors import GraphError
from qsim.graph.ir import Array, Graph, Node, Tensor

Transform = Callable[[str, torch.Tensor], torch.Tensor]
RunNode = Callable[[Node, Sequence[torch.Tensor | None]], tuple[torch.Tensor, ...]]


def run_graph(
    graph: Graph,
    inputs: Mapping[str, torch.Tensor],
    *,
    transform: Transform | None = None,
    run_node: RunNode = apply,
    keep: Collection[str] = (),
    known: Mapping[str, torch.Tensor] | None = None,
    mode: Callable[[], AbstractContextManager[object]] = torch.inference_mode,
) -> dict[str, torch.Tensor]:
    """Run `graph` on `inputs` (one tensor per graph input, of its rank and fixed lengths).

    `transform(name, value)` is called on every input, parameter and activation as it appears and returns what
    stands in its place; `run_node` computes one node. Returns the outputs, in order, and the tensors in `keep`.
    known: values, before `transform`, of activations that need no computing; with it (even empty) only the nodes
    run that the outputs and `keep` still need. mode: what torch records (torch.enable_grad to differentiate).
    Raises GraphError naming the input or node that does not fit.
    """
    change = transform or (lambda name, value: value)
    given = check_inputs(graph, inputs)
    wanted = [*graph.outputs, *keep]
    unknown = [name for name in keep if name not in graph.tensors]
    if unknown:
        raise GraphError(f"graph '{graph.name}' has no tensor '{unknown[0]}' to keep")
    nodes = graph.nodes
    if known is not None:
        nodes = needed_nodes(graph, wanted, known)
        read = {*wanted, *(name for node in nodes for name in node.inputs)}
        given = {name: value for name, value in {**given, **known}.items() if name in read}
    last_use = _last_uses(nodes, wanted)
    device = next((value.device for value in inputs.values()), torch.device("cpu"))
    with mode():
        values = {name: change(name, value) for name, value in given.items()}
        for name in wanted:
            if name in graph.parameters and name not in values:
                values[name] = change(name, parameter_tensor(graph, name, device))
        for position, node in enumerate(nodes):
            for source in node.inputs:
                if source and source not in values:
                    values[source] = change(source, parameter_tensor(graph, source, device))
            results = run_node(node, [values[name] if name else None for name in node.inputs])
            for name, value in zip(node.outputs, results, strict=False):
                if name:
                    values[name] = change(name, value)
            for name in last_use[position]:
                values.pop(name, None)
    return {name: values[name] for name in wanted}


def needed_nodes(graph: Graph, wanted: Collection[str], known: Collection[str]) -> tuple[Node, ...]:
    """The nodes that `wanted` tensors still need, in order, where the tensors `known` stand already."""
    missing, nodes = set(wanted).difference(known), []
    for node in reversed(graph.nodes):
        if missing.intersection(node.outputs):
            nodes.append(node)
            missing.update(name for name in node.inputs if name and name not in known)
    return tuple(reversed(nodes))


def parameter_tensor(graph: Graph, name: str, device: torch.device | None = None) -> torch.Tensor:
    """A parameter as a torch tensor that shares its memory (on the CPU)."""
    return array_tensor(graph.parameters[name]).to(device)


def array_tensor(array: Array) -> torch.Tensor:
    """A NumPy array, of any type ONNX has, as a tensor; a type below a byte is held in the next larger integer."""
    dtype = DTYPES[str(array.dtype)]
    held = str(dtype).removeprefix("torch.")
    if dtype.is_floating_point and (dtype.itemsize == 1 or dtype == torch.bfloat16):
        return torch.from_numpy(array.view("uint8" if dtype.itemsize == 1 else "int16")).view(dtype)
    return torch.from_numpy(array if str(array.dtype) == held else array.astype(held))


def tensor_array(tensor: torch.Tensor) -> Array:
    """A tensor as a contiguous NumPy array of the same element type."""
    tensor = tensor.detach().cpu().contiguous()
    name = next(name for name, dtype in DTYPES.items() if dtype == tensor.dtype)
    if tensor.dtype.is_floating_point and (tensor.dtype.itemsize == 1 or tensor.dtype == torch.bfloat16):
        import ml_dtypes

        bits = tensor.view(torch.uint8 if tensor.dtype.itemsize == 1 else torch.int16)
        return bits.numpy().view(getattr(ml_dtypes, name))
    return np.array(tensor.numpy())


def check_inputs(graph: Graph, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The inputs in the graph's element types, or a GraphError saying which one does not fit."""
    wrong = [name for name in inputs if name not in graph.inputs]
    missing = [name for name in graph.inputs if name not in inputs]
    if wrong or missing:
        what = f"has no input '{wrong[0]}'" if wrong else f"needs the input '{missing[0]}'"
        raise GraphError(f"graph '{graph.name}' {what}; its inputs are {', '.join(graph.inputs)}")
    symbols: dict[str, int] = {}
    return {name: _checked(graph.tensors[name], inputs[name], symbols) for name in graph.inputs}


def _checked(tensor: Tensor, value: torch.Tensor, symbols: dict[str, int]) -> torch.Tensor:
    expected = "[" + ", ".join(map(str, tensor.shape)) + "]"
    if value.dim() != len(tensor.shape):
        raise GraphError(f"input '{tensor.name}' has shape {list(value.shape)}; the graph expects {expected}")
    for length, dimension in zip(value.shape, tensor.shape, strict=True):
        known = symbols.setdefault(dimension, length) if isinstance(dimension, str) else dimension
        if known != length:
            raise GraphError(
                f"input '{tensor.name}' has shape {list(value.shape)}; the graph expects {expected}"
                + (f" with {dimension} = {known} as in another input" if isinstance(dimension, str) else "")
            )
    dtype = DTYPES[tensor.dtype]
    if value.dtype == dtype:
        return value
    if value.dtype.is_floating_point and not dtype.is_floating_point:
        raise GraphError(f"input '{tensor.name}' is {value.dtype}; the graph expects {tensor.dtype}")
    return value.to(dtype)


def _last_uses(nodes: Sequence[Node], wanted: Collection[str]) -> list[list[str]]:
    """For every node the tensors that nobody reads after it."""
    last: dict[str, int] = {}
    for position, node in enumerate(nodes):
        last.update((name, position) for name in (*node.inputs, *node.outputs) if name)
    uses: list[list[str]] = [[] for _ in nodes]
    for name, position in last.items():
        if name not in wanted:
            uses[position].append(name)
    return uses
