"""Inputs as the executor takes them: tensors, in batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from qsim.errors import UserError

if TYPE_CHECKING:
    from qsim.graph import Graph

Inputs = Mapping[str, Any] | NDArray[Any] | torch.Tensor
DEFAULT_BATCH = 100


def as_tensors(graph: Graph, inputs: Inputs) -> tuple[dict[str, torch.Tensor], bool]:
    """Every graph input as a tensor, and whether they came as NumPy arrays; states left out start at zero."""
    names = [name for name in graph.inputs if graph.tensors[name].kind == "input"]
    if not isinstance(inputs, Mapping):
        if len(names) != 1:
            raise UserError(
                f"the model has {len(names)} inputs ({', '.join(names)}): give a mapping from name to array"
            )
        inputs = {names[0]: inputs}
    missing = [name for name in names if name not in inputs]
    unknown = [name for name in inputs if name not in graph.inputs]
    if missing or unknown:
        raise UserError(
            f"inputs do not fit the model: missing {missing}, unknown {unknown}; it has {list(graph.inputs)}"
        )
    as_numpy = not any(isinstance(value, torch.Tensor) for value in inputs.values())
    tensors = {
        name: value if isinstance(value, torch.Tensor) else torch.from_numpy(np.ascontiguousarray(value))
        for name, value in inputs.items()
    }
    lengths = {name: len(tensors[name]) if tensors[name].ndim else 0 for name in names}
    if len(set(lengths.values())) != 1:
        raise UserError(f"the inputs must have one number of samples, they have {lengths}")
    samples = next(iter(lengths.values()))
    device = next(iter(tensors.values())).device
    for name in graph.inputs:
        if name not in tensors:  # a state that the caller leaves out starts at zero
            tensors[name] = _zero_state(graph, name, samples, device)
    return tensors, as_numpy


def batch_of(graph: Graph, samples: int, wanted: int | None = None) -> int:
    """Samples a batch: `wanted`, unless the network was exported for another number or carries state."""
    if any(graph.tensors[name].kind == "state" for name in graph.inputs):
        return samples
    fixed = {graph.tensors[name].shape[0] for name in graph.inputs if graph.tensors[name].shape}
    lengths = [length for length in fixed if isinstance(length, int)]
    if not lengths:
        return wanted or DEFAULT_BATCH
    if samples % lengths[0]:
        raise UserError(
            f"the model was exported for batches of {lengths[0]}, the inputs have {samples} samples"
        )
    return lengths[0]


def _zero_state(graph: Graph, name: str, samples: int, device: torch.device) -> torch.Tensor:
    tensor = graph.tensors[name]
    symbols = [dimension for dimension in tensor.shape if isinstance(dimension, str)]
    if len(symbols) > 1:
        raise UserError(
            f"state '{name}' has shape {tensor.shape}: give its first value, it cannot be derived"
        )
    shape = [samples if isinstance(dimension, str) else dimension for dimension in tensor.shape]
    return torch.zeros(shape, dtype=getattr(torch, tensor.dtype), device=device)


def batches(
    arrays: Mapping[str, torch.Tensor], step: int
) -> Iterator[tuple[int, Mapping[str, torch.Tensor]]]:
    """(first sample, batch); everything at once where one batch holds it, no samples included."""
    samples = len(next(iter(arrays.values())))
    if step >= samples:
        yield 0, arrays
        return
    for start in range(0, samples, step):
        yield start, {name: tensor[start : start + step] for name, tensor in arrays.items()}
