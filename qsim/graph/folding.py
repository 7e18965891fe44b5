"""Constant folding: what does not depend on the inputs is computed once.

Shape arithmetic (Shape -> Gather -> Concat -> Reshape) is followed element by element: lengths that are fixed fold, a
length that hangs on a symbolic dimension stays unknown and its nodes stay in the graph. Quantizers of parameters are
kept as nodes, so that a graph still says how its weights are quantized.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from qsim.errors import GraphError
from qsim.graph.ir import Array, Graph, Node

KnownShape = tuple[int | None, ...]
Partial = list[int | None]  # a tensor of integers, flattened, None where not known
WEIGHT_QUANTIZERS = ("Quant", "IntQuant", "BipolarQuant", "FloatQuant", "DequantizeLinear")
_KEPT = (*WEIGHT_QUANTIZERS, "Trunc", "QuantizeLinear", "DynamicQuantizeLinear")
_LARGEST_FOLDED_ELEMENTS = (
    1 << 24
)  # a larger constant is made at run time: a file must not blow up on loading


@dataclass
class _Folder:
    shapes: Mapping[str, KnownShape]
    constants: dict[str, Array]
    partial: dict[str, Partial] = field(default_factory=dict)
    scalars: set[str] = field(default_factory=set)  # the partial values of rank 0
    quantized: dict[str, Node] = field(default_factory=dict)


def fold_constants(graph: Graph, shapes: Mapping[str, KnownShape]) -> Graph:
    """`graph` with constant subgraphs replaced by parameters and Ifs of known condition by their branch."""
    folder = _Folder(shapes, dict(graph.parameters))
    queue = deque(graph.nodes)
    kept: list[Node] = []
    while queue:
        node = queue.popleft()
        if node.op == "If":
            queue.extendleft(reversed(_chosen_branch(node, folder)))
        elif not _fold(node, folder):
            kept.append(_static_reshape(_above_quantizer(node, folder), folder))
            if kept[-1].op in WEIGHT_QUANTIZERS and all(
                i is None or i in folder.constants for i in node.inputs
            ):
                folder.quantized[node.outputs[0]] = kept[-1]
    return replace(graph, nodes=tuple(kept), parameters=folder.constants)


def _fold(node: Node, folder: _Folder) -> bool:
    """Fold one node if its value is known; remembers what is known of it otherwise."""
    if node.op in _KEPT:
        return False
    if node.inputs and all(name is None or name in folder.constants for name in node.inputs):
        if _makes_too_much(node, folder):
            return False
        folder.constants.update(_evaluate(node, folder))
        return True
    known = _partial_value(node, folder)
    if known is None:
        return False
    values, scalar = known
    if all(value is not None for value in values):
        array = np.array(values, dtype=np.int64)
        folder.constants[node.outputs[0]] = array.reshape(()) if scalar else array
        return True
    folder.partial[node.outputs[0]] = values
    folder.scalars.update(node.outputs if scalar else ())
    return False


def _makes_too_much(node: Node, folder: _Folder) -> bool:
    if node.op not in ("ConstantOfShape", "Expand", "Tile"):
        return False
    target = folder.constants[str(node.inputs[0 if node.op == "ConstantOfShape" else 1])]
    size = float(np.prod(target.astype(np.float64)))
    if node.op == "Tile":
        size *= folder.constants[str(node.inputs[0])].size
    return size > _LARGEST_FOLDED_ELEMENTS


def _evaluate(node: Node, folder: _Folder) -> dict[str, Array]:
    import torch

    from qsim.emulator.execute import array_tensor, tensor_array
    from qsim.emulator.operators import apply

    with torch.inference_mode():
        values = [array_tensor(folder.constants[name]) if name else None for name in node.inputs]
        results = apply(node, values)
    return {name: tensor_array(y) for name, y in zip(node.outputs, results, strict=False) if name}


def _partial_value(node: Node, folder: _Folder) -> tuple[Partial, bool] | None:
    """The integers a shape computation gives, as far as they are known, and whether they are a scalar."""
    if node.op == "Shape":
        shape = folder.shapes.get(node.inputs[0] or "")
        return None if shape is None else (list(shape[node.get("start", 0) : node.get("end")]), False)
    read = [_elements(name, folder) for name in node.inputs]
    first = read[0] if read else None
    if first is None:
        return None
    match node.op:
        case "Gather" | "Slice" | "Squeeze" | "Unsqueeze":
            return _selected(node, first, folder)
        case "Concat" if all(part is not None for part in read):
            return [value for part in read for value in part or []], False
        case "Cast" if node.get("to") in ("int64", "int32"):
            return first, _is_scalar(node.inputs[0], folder)
        case "Add" | "Sub" | "Mul" | "Div" if len(read) == 2 and read[1] is not None:
            scalar = all(_is_scalar(name, folder) for name in node.inputs)
            return _arithmetic(node.op, first, read[1]), scalar
    return None


def _elements(name: str | None, folder: _Folder) -> Partial | None:
    """The known integers of a tensor of rank 0 or 1."""
    if name in folder.constants:
        array = folder.constants[name]
        return [int(v) for v in array.reshape(-1)] if array.ndim <= 1 and array.dtype.kind in "iu" else None
    return folder.partial.get(name or "")


def _is_scalar(name: str | None, folder: _Folder) -> bool:
    if name in folder.constants:
        return folder.constants[name].ndim == 0
    return name in folder.scalars


def _selected(node: Node, values: Partial, folder: _Folder) -> tuple[Partial, bool] | None:
    arguments = [folder.constants.get(name or "") for name in node.inputs[1:]]
    if any(argument is None for argument in arguments):
        return None
    parts = [[int(v) for v in argument.reshape(-1)] for argument in arguments if argument is not None]
    match node.op:
        case "Gather":
            index = arguments[0]
            return ([values[i] for i in parts[0]], index is not None and index.ndim == 0)
        case "Slice":
            step = parts[3][0] if len(parts) > 3 else 1
            return (values[parts[0][0] : parts[1][0] : step], False) if step > 0 else None
        case "Squeeze":
            return values, True
        case "Unsqueeze" if len(values) == 1 and _is_scalar(node.inputs[0], folder):
            return values, False
    return None


def _arithmetic(op: str, a: Sequence[int | None], b: Sequence[int | None]) -> Partial:
    length = max(len(a), len(b))
    left, right = (list(v) * length if len(v) == 1 else list(v) for v in (a, b))
    result: Partial = []
    for x, y in zip(left, right, strict=True):
        if x is None or y is None or (op == "Div" and y == 0):
            result.append(None)
        else:
            result.append({"Add": x + y, "Sub": x - y, "Mul": x * y, "Div": int(x / (y or 1))}[op])
    return result


def _static_reshape(node: Node, folder: _Folder) -> Node:
    """A Reshape whose target has one unknown length infers it (-1): no shape arithmetic is left at run time."""
    if node.op != "Reshape" or node.inputs[1] in folder.constants:
        return node
    target = folder.partial.get(node.inputs[1] or "")
    if target is None or sum(v is None for v in target) != 1 or any(v is not None and v <= 0 for v in target):
        return node
    name = f"{node.outputs[0]}.shape"
    folder.constants[name] = np.array([-1 if v is None else v for v in target], dtype=np.int64)
    return replace(node, inputs=(node.inputs[0], name))


def _above_quantizer(node: Node, folder: _Folder) -> Node:
    """Transpose(Quant(W)) becomes Quant(Transpose(W)), so that a layer reads a quantizer that reads a parameter."""
    source = folder.quantized.get(node.inputs[0] or "") if node.op == "Transpose" and node.inputs else None
    if source is None or source.inputs[0] is None:
        return node
    weight = folder.constants[source.inputs[0]]
    order = node.get("perm", tuple(reversed(range(weight.ndim))))
    inputs: list[str | None] = []
    for position, name in enumerate(source.inputs):
        array = folder.constants[name] if name else None
        along_axis = source.op == "DequantizeLinear" and array is not None and array.ndim == 1
        if array is None or array.size == 1 or along_axis:
            inputs.append(name)
            continue
        array = array.reshape((1,) * (weight.ndim - array.ndim) + array.shape)
        inputs.append(f"{name}.transposed" if position == 0 else f"{node.outputs[0]}.{position}")
        folder.constants[str(inputs[-1])] = np.ascontiguousarray(array.transpose(order))
    attributes = dict(source.attributes)
    if source.op == "DequantizeLinear":
        attributes["axis"] = order.index(source.get("axis", 1) % weight.ndim)
    return Node(source.name + "/transposed", source.op, tuple(inputs), node.outputs, attributes)


def _chosen_branch(node: Node, folder: _Folder) -> list[Node]:
    """The nodes of the branch that a known condition takes, ending in copies to the If's outputs."""
    condition = folder.constants.get(node.inputs[0] or "")
    if condition is None:
        raise GraphError(
            f"node '{node.name}': operator If is supported only where its condition is constant"
            f" ('{node.inputs[0]}' hangs on the inputs)"
        )
    branch = node.get("then_branch" if bool(condition.reshape(-1)[0]) else "else_branch")
    folder.constants.update(branch.parameters)
    copies = [
        Node(f"{node.name}/{outer}", "Identity", (inner,), (outer,))
        for inner, outer in zip(branch.outputs, node.outputs, strict=False)
    ]
    return [*branch.nodes, *copies]
