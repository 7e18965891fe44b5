"""From torch.nn.Module to Graph, through torch.export.

The module is exported, functionalised and decomposed until only operators of `qsim.graph.aten` are left; each becomes
nodes of ONNX semantics. A leading dimension that all example inputs share becomes the symbol "batch" where the module
allows it.
"""

from __future__ import annotations

import copy
import difflib
import inspect
import operator
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from qsim.emulator.execute import tensor_array
from qsim.errors import GraphError
from qsim.graph.aten import CONVERTERS, Builder, Value
from qsim.graph.folding import KnownShape
from qsim.graph.ir import Graph, Tensor

_SYMBOLIC_ARITHMETIC = {
    operator.mul: "Mul",
    operator.add: "Add",
    operator.sub: "Sub",
    operator.floordiv: "Div",
    operator.mod: "Mod",
}


def import_module(module: Any, example_inputs: Any) -> tuple[Graph, dict[str, KnownShape]]:
    """The graph of a module in evaluation mode, and the fixed lengths of its tensors.

    `example_inputs` is a tensor or array, a tuple of them, or a mapping by argument name. Raises GraphError where it is
    missing, the module cannot be exported, or an operator has no counterpart.
    """
    name = type(module).__name__
    if example_inputs is None:
        raise GraphError(
            f"module {name}: example_inputs are needed, e.g. load_model(module, torch.zeros(1, 3, 32, 32))"
        )
    arguments = _arguments(module, example_inputs)
    module = copy.deepcopy(module).eval().to("cpu")
    with warnings.catch_warnings():
        # torch copies its own deprecated classes here; nothing the user could do about it.
        warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
        program = _decomposed(_exported(module, arguments, name))
    return _convert(program, name)


def _arguments(module: Any, example_inputs: Any) -> dict[str, torch.Tensor]:
    """The example inputs by argument name, as float32 or integer tensors on the CPU."""
    names = [p.name for p in inspect.signature(module.forward).parameters.values() if p.kind != p.VAR_KEYWORD]
    if isinstance(example_inputs, Mapping):
        given = dict(example_inputs)
    else:
        values = example_inputs if isinstance(example_inputs, (tuple, list)) else (example_inputs,)
        given = dict(zip(names, values, strict=False))
    wrong = next((key for key in given if key not in names), None)
    if wrong is not None:
        raise GraphError(
            f"module {type(module).__name__} has no input '{wrong}'; its inputs are {', '.join(names)}"
        )
    for key, value in given.items():
        if not isinstance(value, (torch.Tensor, np.ndarray)):
            raise GraphError(f"example input '{key}' is a {type(value).__name__}, not a tensor or array")
    tensors = {key: torch.as_tensor(value).detach().cpu() for key, value in given.items()}
    return {k: t.float() if t.dtype == torch.float64 else t for k, t in tensors.items()}


def _exported(module: torch.nn.Module, arguments: Mapping[str, torch.Tensor], name: str) -> Any:
    """The exported program: with a free batch where the module allows one, else with the lengths of the example."""
    for axes in _batch_axes(arguments):
        # torch specialises a length of 1, so a batch of one is exported as two copies.
        alone = next(arguments[key].shape[axis] for key, axis in axes.items()) == 1
        example = {k: torch.cat([t, t], axes[k]) if alone and k in axes else t for k, t in arguments.items()}
        free = {key: {axes[key]: torch.export.Dim("batch")} if key in axes else None for key in arguments}
        try:
            return _export(module, example, free)
        except Exception:
            continue
    try:
        return _export(module, arguments, None)
    except Exception as error:  # torch.export raises whatever the module and its tracers raise
        reason = " ".join(str(error).strip().split("\n", 1)[0].split())
        raise GraphError(f"module {name} cannot be exported by torch.export: {reason}") from error


def _batch_axes(arguments: Mapping[str, torch.Tensor]) -> list[dict[str, int]]:
    """Where the batch may stand: leading everywhere, second in further inputs (states), leading in the first alone."""
    first, *others = arguments
    if arguments[first].dim() == 0 or arguments[first].shape[0] == 0:
        return []
    batch = arguments[first].shape[0]
    leading = {key for key, t in arguments.items() if t.dim() > 0 and t.shape[0] == batch}
    second = {key for key in others if arguments[key].dim() > 1 and arguments[key].shape[1] == batch}
    choices = []
    if all(key in leading or arguments[key].dim() == 0 for key in arguments):
        choices.append({key: 0 for key in arguments if key in leading})
    if second and all(key in second or key in leading for key in others):
        choices.append({first: 0} | {key: 1 if key in second else 0 for key in others})
    if others:
        choices.append({first: 0})
    return choices


def _export(module: torch.nn.Module, arguments: Mapping[str, torch.Tensor], shapes: Any) -> Any:
    with torch.no_grad():
        return torch.export.export(module, (), dict(arguments), dynamic_shapes=shapes)


def _decomposed(program: Any) -> Any:
    """Only what has no converter of its own is taken apart."""
    table: Any = torch.export.default_decompositions()
    for overload in list(table.keys()):
        if str(overload) in CONVERTERS:
            table.pop(overload)
    with torch.no_grad():
        return program.run_decompositions(table)


def _convert(program: Any, name: str) -> tuple[Graph, dict[str, KnownShape]]:
    signature = program.graph_signature
    held = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    held |= signature.inputs_to_lifted_tensor_constants
    state = {**dict(program.state_dict), **program.constants}
    symbols = _symbol_names(program)
    build = Builder()
    inputs: list[Tensor] = []
    for node in program.graph.nodes:
        if node.op == "placeholder" and node.name in held:
            target = held[node.name]
            build.constants.setdefault(target, tensor_array(state[target]))
            build.values[node.name] = target
        elif node.op == "placeholder":
            inputs.append(_input(node, symbols))
            build.values[node.name] = node.name
        elif node.op == "call_function":
            build.current = node
            build.values[node.name] = _call(build, node)
    results = next(node for node in program.graph.nodes if node.op == "output").args[0]
    outputs = [
        build.output(value, f"output_{i}") for i, value in enumerate(_user_outputs(results, signature))
    ]
    graph = Graph(
        name=name,
        inputs=tuple(tensor.name for tensor in inputs),
        outputs=tuple(outputs),
        nodes=tuple(build.nodes),
        tensors={tensor.name: tensor for tensor in inputs},
        parameters=build.constants,
    )
    return graph, _known_shapes(program, build)


def _user_outputs(results: Sequence[Any], signature: Any) -> list[str]:
    """Names of the results the user sees: updates of buffers come first and are left out."""
    names = [node.name for node in results if node is not None]
    return [name for name in names if name in signature.user_outputs]


def _symbol_names(program: Any) -> dict[str, str]:
    """torch's symbols (s77) by the names we gave."""
    return {
        str(symbol): "batch" if i == 0 else f"batch_{i}" for i, symbol in enumerate(program.range_constraints)
    }


def _input(node: Any, symbols: Mapping[str, str]) -> Tensor:
    value = node.meta["val"]
    if not isinstance(value, torch.Tensor):
        raise GraphError(f"input '{node.name}' is a {type(value).__name__}, not a tensor")
    shape = tuple(d if isinstance(d, int) else symbols.get(str(d), str(d)) for d in value.shape)
    return Tensor(node.name, shape, str(value.dtype).removeprefix("torch."), "input")


def _call(build: Builder, node: Any) -> Value:
    """Convert one call; the value is a tensor name, a list of them, or a plain number."""
    target = node.target
    if target is operator.getitem:
        return build.resolve(node.args[0])[node.args[1]]
    if target in _SYMBOLIC_ARITHMETIC:
        a, b = (build.integer(build.resolve(argument)) for argument in node.args)
        return build.emit(_SYMBOLIC_ARITHMETIC[target], a, b, name=node.name)
    convert = CONVERTERS.get(str(target))
    if convert is None:
        known = sorted({key.split(".")[1] for key in CONVERTERS})
        short = str(target).split(".")[1] if "." in str(target) else str(target)
        near = difflib.get_close_matches(short, known, n=3, cutoff=0.4)
        hint = f"; the nearest supported ones are {', '.join(near)}" if near else ""
        raise GraphError(f"node '{node.name}': operator {target} of torch is not supported{hint}")
    arguments = [build.resolve(argument) for argument in node.args]
    return convert(build, *arguments, **{k: build.resolve(v) for k, v in node.kwargs.items()})


def _known_shapes(program: Any, build: Builder) -> dict[str, KnownShape]:
    shapes: dict[str, KnownShape] = {}
    for node in program.graph.nodes:
        value, name = node.meta.get("val"), build.values.get(node.name)
        if isinstance(value, torch.Tensor) and isinstance(name, str):
            shapes[name] = tuple(d if isinstance(d, int) else None for d in value.shape)
    return shapes
