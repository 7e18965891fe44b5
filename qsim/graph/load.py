"""From a file or a module to a Graph that is ready to use."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qsim.errors import GraphError
from qsim.graph.batchnorm import fold_batchnorm
from qsim.graph.folding import KnownShape, fold_constants
from qsim.graph.inference import with_shapes
from qsim.graph.ir import Graph
from qsim.graph.sharing import mark_states
from qsim.graph.simplify import drop_unused, remove_identities, tie_parameters


def load_model(model: Any, example_inputs: Any = None) -> Graph:
    """The graph of a network: an ONNX or QONNX file (path) or a torch.nn.Module.

    `example_inputs` (a tensor or array, a tuple of them, or a mapping by input name) is required for a module; for a
    file with symbolic dimensions it states the sample lengths at which shapes and MACs are evaluated. Batch
    normalisation is folded, Dropout and Identity are removed, constants are folded, QONNX quantizers are kept.

    Raises GraphError, in one line, for a file that cannot be read and for an operator that is not supported.
    """
    if isinstance(model, (str, Path)):
        path = Path(model)
        if path.suffix in (".pt", ".pth", ".pkl", ".bin"):
            raise GraphError(
                f"'{path}' is a pickle, which is not safe to load: pass the torch.nn.Module or ONNX"
            )
        from qsim.graph.onnx_import import import_onnx

        graph, facts = import_onnx(path)
        return finish(graph, facts.shapes, _lengths(graph, example_inputs))
    if hasattr(model, "state_dict") and hasattr(model, "forward"):
        from qsim.graph.torch_import import import_module

        graph, shapes = import_module(model, example_inputs)
        return finish(graph, shapes, _lengths(graph, example_inputs))
    raise GraphError(f"a model is a path to an .onnx file or a torch.nn.Module, not a {type(model).__name__}")


def finish(graph: Graph, shapes: Mapping[str, KnownShape], lengths: Mapping[str, int]) -> Graph:
    """Every rewrite in order, then the shapes."""
    graph = remove_identities(fold_constants(remove_identities(graph), shapes))
    graph = drop_unused(fold_batchnorm(drop_unused(graph), shapes))
    return mark_states(with_shapes(drop_unused(tie_parameters(graph)), lengths))


def _lengths(graph: Graph, example_inputs: Any) -> dict[str, int]:
    """The length of every symbolic dimension in the example inputs."""
    if example_inputs is None:
        return {}
    if isinstance(example_inputs, Mapping):
        given = dict(example_inputs)
    else:
        values = example_inputs if isinstance(example_inputs, (tuple, list)) else (example_inputs,)
        given = dict(zip(graph.inputs, values, strict=False))
    unknown = [name for name in given if name not in graph.inputs]
    if unknown:
        raise GraphError(f"the model has no input '{unknown[0]}'; its inputs are {', '.join(graph.inputs)}")
    lengths: dict[str, int] = {}
    for name, value in given.items():
        shape = graph.tensors[name].shape
        if len(value.shape) != len(shape):
            raise GraphError(f"example input '{name}' has shape {list(value.shape)}; expected {list(shape)}")
        lengths.update({d: int(n) for d, n in zip(shape, value.shape, strict=True) if isinstance(d, str)})
    return lengths
