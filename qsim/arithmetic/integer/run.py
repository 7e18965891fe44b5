"""Integer-only inference: a graph and a plan whose every tensor is an integer, run on codes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from qsim.arithmetic.integer import elementwise, layers, pooling, unary
from qsim.arithmetic.integer.affine import Affine
from qsim.arithmetic.integer.resize import bilinear
from qsim.arithmetic.integer.softmax import softmax
from qsim.errors import PlanError, UserError
from qsim.formats import Fixed, Integer

if TYPE_CHECKING:
    from qsim.graph import Graph, Node
    from qsim.plan import BitPlan, TensorPlan

Array = NDArray[Any]

# These select or move values, so that they work on codes as they do on real numbers.
MOVING = frozenset(
    "Reshape Flatten Transpose Squeeze Unsqueeze Identity Expand Tile Slice Split Gather Concat Pad MaxPool "
    "GlobalMaxPool ReduceMax ReduceMin Max Min DepthToSpace SpaceToDepth Resize".split()
)
TABLES: Mapping[str, unary.Function] = {"Sigmoid": unary.sigmoid, "Tanh": unary.tanh, "Elu": unary.elu}


def run_integer(
    graph: Graph,
    plan: BitPlan,
    inputs: Mapping[str, Array],
    keep: Collection[str] = (),
    given: Mapping[str, Array] | None = None,
) -> dict[str, Array]:
    """Codes of the outputs, and of the tensors named in `keep`, for the codes of the inputs.

    Every tensor that is not a constant of shapes and axes takes an int, uint or fixed spec with a static scale (one, or
    one a channel), every weight and bias has codes, and `plan.layers` names a requantization rule for each node that
    changes a scale. A float input is quantized by the plan first, half away from zero.
    `given` holds codes that stand in for computed ones wherever they are read, to check one layer at a time.
    Raises PlanError, naming the tensor or node, where the plan is not integer only.
    """
    check_integer_only(graph, plan)
    values: dict[str, Array] = {}
    for name in graph.inputs:
        if name not in inputs:
            raise UserError(f"integer inference needs the input '{name}'")
        values[name] = _input_codes(name, np.asarray(inputs[name]), graph, affine_of(plan, name))
    values |= given or {}
    kept = {name: values[name] for name in keep if name in values}
    wanted = {*graph.outputs, *keep}
    for node in graph.nodes:
        outputs = _run_node(Step(graph, plan, node, values))
        for name, codes in zip(node.outputs, outputs, strict=False):
            if name in wanted:
                kept[name] = codes
            values.setdefault(name, codes)
    return {
        name: kept[name] if name in kept else values[name] for name in dict.fromkeys((*graph.outputs, *keep))
    }


def is_integer_only(graph: Graph, plan: BitPlan) -> bool:
    """Whether `run_integer` can run the plan."""
    try:
        check_integer_only(graph, plan)
    except PlanError:
        return False
    return True


def check_integer_only(graph: Graph, plan: BitPlan) -> None:
    """Raise PlanError naming the first tensor or node that keeps the plan from being integer only."""
    for node in graph.nodes:
        if node.op not in MOVING and node.op not in OPERATIONS:
            raise PlanError(f"integer inference: node '{node.name}' ({node.op}) has no integer form")
        data = node.inputs if node.op not in MOVING or node.op == "Concat" else node.inputs[:1]
        for name in (*data, *node.outputs):
            if name and not _is_setting(graph, name):
                affine_of(plan, name)
        if node.op in OPERATIONS and _rule(plan, node) is None:
            raise PlanError(f"integer inference: node '{node.name}' ({node.op}) has no requantization rule")


def affine_of(plan: BitPlan, name: str) -> Affine:
    """Scale, zero point and element of a tensor, or PlanError saying why it has none."""
    tensor = plan.tensors.get(name)
    if tensor is None:
        raise PlanError(f"integer inference: tensor '{name}' has no spec in the plan")
    if len(tensor.specs) != 1:
        raise PlanError(f"integer inference: tensor '{name}' mixes specs ({tensor.text})")
    spec = tensor.specs[0]
    element = spec.element
    if not isinstance(element, Integer | Fixed):
        raise PlanError(f"integer inference: tensor '{name}' is {spec}, not an integer")
    if spec.granularity is not None and (
        spec.granularity.kind not in ("tensor", "channel") or tensor.scale is None
    ):
        raise PlanError(
            f"integer inference: tensor '{name}' is {spec}; its scale must be static, per tensor or channel"
        )
    step = np.float32(2.0**element.step_exponent)
    scale = np.asarray(1.0 if tensor.scale is None else tensor.scale, np.float32) * step
    zero_point = np.asarray(0 if tensor.zero_point is None else tensor.zero_point)
    return Affine(Integer(element.bits, element.signed), scale, zero_point, tensor.axis)


@dataclass(frozen=True)
class Step:
    """One node about to run: its operands as codes, with what they stand for."""

    graph: Graph
    plan: BitPlan
    node: Node
    values: Mapping[str, Array]

    @property
    def rule(self) -> str:
        return _rule(self.plan, self.node) or ""

    @property
    def output(self) -> Affine:
        return affine_of(self.plan, self.node.outputs[0])

    def affine(self, position: int) -> Affine:
        return affine_of(self.plan, str(self.node.inputs[position]))

    def codes(self, position: int) -> Array:
        """Codes of an operand: computed, or a constant's in the plan."""
        name = str(self.node.inputs[position])
        if name in self.values:
            return self.values[name]
        tensor: TensorPlan | None = self.plan.tensors.get(name)
        if tensor is None or tensor.codes is None:
            raise PlanError(
                f"integer inference: constant '{name}' of node '{self.node.name}' has no codes in the plan"
            )
        return tensor.codes

    def bias(self) -> Array | None:
        return self.codes(2) if self.node.input(2) else None

    def setting(self, position: int) -> Array | None:
        """A constant that says how to compute (axes, pads, bounds), or None where it is left out."""
        name = self.node.input(position)
        return None if name is None else self.graph.parameters[name]


def _rule(plan: BitPlan, node: Node) -> str | None:
    layer = plan.layers.get(node.name)
    return None if layer is None else layer.requantize


def _is_setting(graph: Graph, name: str) -> bool:
    """Whether a tensor says how to compute (a shape, an axis, a bound) rather than what."""
    tensor = graph.tensors[name]
    return not tensor.is_float or (name in graph.parameters and tensor.shape == ())


def _input_codes(name: str, values: Array, graph: Graph, affine: Affine) -> Array:
    if values.dtype.kind == "f":
        return affine.quantize(values)
    low, high = affine.element.lowest_code, affine.element.largest_code
    if values.dtype.kind not in "iu" or (values.size and (values.min() < low or values.max() > high)):
        raise UserError(
            f"input '{name}' takes codes of {affine.element} ({low} to {high}), not {values.dtype} beyond them"
        )
    if values.ndim != len(graph.tensors[name].shape):
        raise UserError(
            f"input '{name}' has shape {values.shape}; the graph expects {graph.tensors[name].shape}"
        )
    return values.astype(affine.element.code_dtype)


def _run_node(step: Step) -> list[Array]:
    try:
        if step.node.op in MOVING:
            return _move(step)
        return [OPERATIONS[step.node.op](step)]
    except PlanError:
        raise
    except UserError as error:
        raise UserError(f"node '{step.node.name}' ({step.node.op}): {error}") from None


def _move(step: Step) -> list[Array]:
    """A node that only moves values, done on codes by the operator for real numbers; all of float64 is exact here."""
    import torch

    from qsim.emulator.operators import apply

    node, output = step.node, step.output
    if node.op == "Resize" and node.get("mode", "nearest") != "nearest":
        return [_bilinear(step)]
    operands: list[torch.Tensor | None] = []
    for position, name in enumerate(node.inputs):
        if name is None:
            operands.append(None)
        elif position == 0 or node.op in ("Concat", "Max", "Min"):
            codes = elementwise.rescaled(
                step.codes(position), input=step.affine(position), output=output, rule=step.rule
            )
            operands.append(torch.from_numpy(np.ascontiguousarray(codes, np.float64)))
        elif node.op == "Pad" and position == 2:
            operands.append(
                torch.tensor(float(output.quantize(step.graph.parameters[name])), dtype=torch.float64)
            )
        else:
            operands.append(torch.from_numpy(step.graph.parameters[name]))
    if node.op == "Pad" and len(operands) == 2:
        operands.append(torch.tensor(float(output.zero_point), dtype=torch.float64))
    return [result.numpy().astype(output.element.code_dtype) for result in apply(node, operands)]


def _bilinear(step: Step) -> Array:
    node, sizes = step.node, step.setting(3)
    transformation = node.get("coordinate_transformation_mode", "half_pixel")
    known = ("asymmetric", "half_pixel", "align_corners")
    if (
        node.get("mode") != "linear"
        or transformation not in known
        or sizes is None
        or step.codes(0).ndim != 4
    ):
        raise UserError(
            f"a resize is nearest, or linear to stated sizes of an image by one of {', '.join(known)}"
        )
    codes = elementwise.rescaled(step.codes(0), input=step.affine(0), output=step.output, rule=step.rule)
    return bilinear(codes, sizes[-2:].tolist(), transformation)


def _conv(step: Step) -> Array:
    node, kernel = step.node, step.codes(1).shape[2:]
    ones = (1,) * len(kernel)
    if node.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        raise UserError(f"auto_pad {node.get('auto_pad')} is not supported: the pads must be stated")
    window = layers.Window(
        node.get("strides", ones),
        node.get("dilations", ones),
        node.get("pads", (0,) * 2 * len(kernel)),
        int(node.get("group", 1)),
    )
    compute: Callable[..., Array] = layers.conv
    if node.op == "ConvTranspose":
        compute = partial(layers.conv_transpose, output_padding=node.get("output_padding", ()))
    facts = {"input": step.affine(0), "weight": step.affine(1), "output": step.output, "rule": step.rule}
    return compute(step.codes(0), step.codes(1), step.bias(), window, **facts)


def _gemm(step: Step) -> Array:
    node, weight = step.node, step.affine(1)
    if float(node.get("alpha", 1.0)) != 1.0 or float(node.get("beta", 1.0)) != 1.0:
        raise UserError("alpha and beta other than 1 have no integer form")
    x = step.codes(0).T if node.get("transA", 0) else step.codes(0)
    w = step.codes(1) if node.get("transB", 0) else step.codes(1).T
    weight = Affine(weight.element, weight.scale, weight.zero_point, 0)
    return layers.linear(
        x, w, step.bias(), input=step.affine(0), weight=weight, output=step.output, rule=step.rule
    )


def _matmul(step: Step) -> Array:
    return layers.matmul(
        step.codes(0),
        step.codes(1),
        left=step.affine(0),
        right=step.affine(1),
        output=step.output,
        rule=step.rule,
    )


def _binary(step: Step, compute: Callable[..., Array]) -> Array:
    return compute(
        step.codes(0),
        step.codes(1),
        left=step.affine(0),
        right=step.affine(1),
        output=step.output,
        rule=step.rule,
    )


def _unary(step: Step, compute: Callable[..., Array], *arguments: Any) -> Array:
    return compute(step.codes(0), *arguments, input=step.affine(0), output=step.output, rule=step.rule)


def _clip(step: Step) -> Array:
    if step.node.op == "Relu":
        return _unary(step, unary.clamp, 0.0, None)
    bounds = [None if bound is None else float(bound) for bound in (step.setting(1), step.setting(2))]
    return _unary(step, unary.clamp, *bounds)


def _prelu(step: Step) -> Array:
    return unary.prelu(
        step.codes(0),
        step.codes(1),
        input=step.affine(0),
        slopes=step.affine(1),
        output=step.output,
        rule=step.rule,
    )


def _table(step: Step) -> Array:
    function = TABLES.get(step.node.op)
    if function is None:
        function = partial(unary.gelu, tanh_form=step.node.get("approximate", "none") == "tanh")
    return unary.lookup(step.codes(0), function, input=step.affine(0), output=step.output)


def _softmax(step: Step) -> Array:
    """TFLite's fixed point with a tflite rule; I-BERT's polynomial where the plan says function "ibert"."""
    axis = int(step.node.get("axis", -1))
    layer = step.plan.layers[step.node.name]
    if layer.function == "ibert":
        from qsim.arithmetic.functions import ibert

        compute: Callable[..., Array] = ibert.softmax
    elif layer.function is None and step.rule.startswith("tflite"):
        compute = softmax
    else:
        raise PlanError(
            f"integer inference: softmax '{step.node.name}' takes a tflite rule or function 'ibert', "
            f"not rule '{step.rule}' with function '{layer.function}'"
        )
    moved = np.moveaxis(step.codes(0), axis, -1)
    return np.moveaxis(compute(moved, input=step.affine(0), output=step.output), -1, axis)


def _average_pool(step: Step) -> Array:
    node, spatial = step.node, step.codes(0).shape[2:]
    if node.op == "GlobalAveragePool":
        kernel: Sequence[int] = spatial
    else:
        kernel = node.get("kernel_shape")
    half = len(spatial)
    pads = node.get("pads", (0,) * 2 * half)
    if (node.get("count_include_pad", 0) and any(pads)) or node.get("ceil_mode", 0):
        raise UserError("an average that counts padding, or a ceiled size, has no integer form")
    compute = partial(
        pooling.average_pool, kernel=kernel, strides=node.get("strides", (1,) * half), pads=pads
    )
    return _unary(step, compute)


def _reduce(step: Step, compute: Callable[..., Array]) -> Array:
    rank = step.codes(0).ndim
    axes = step.setting(1)
    listed = range(rank) if axes is None or axes.size == 0 else [int(axis) % rank for axis in axes]
    return _unary(step, partial(compute, axes=tuple(listed), keep_axes=bool(step.node.get("keepdims", 1))))


OPERATIONS: Mapping[str, Callable[[Step], Array]] = {
    "Conv": _conv,
    "ConvTranspose": _conv,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Add": partial(_binary, compute=elementwise.add),
    "Sub": partial(_binary, compute=elementwise.subtract),
    "Mul": partial(_binary, compute=elementwise.multiply),
    "Relu": _clip,
    "Clip": _clip,
    "LeakyRelu": lambda step: _unary(step, unary.leaky_relu, float(step.node.get("alpha", 0.01))),
    "PRelu": _prelu,
    "HardSwish": partial(_unary, compute=unary.hard_swish),
    **dict.fromkeys((*TABLES, "Gelu"), _table),
    "Softmax": _softmax,
    "AveragePool": _average_pool,
    "GlobalAveragePool": _average_pool,
    "ReduceMean": partial(_reduce, compute=pooling.mean),
    "ReduceSum": partial(_reduce, compute=pooling.total),
}
