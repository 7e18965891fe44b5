"""The operators of torch in terms of ONNX's: one converter each.

A converter takes the builder and the operator's arguments (tensors by name, numbers as they are) and returns the
name of its result, or a list of names.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from qsim.errors import GraphError
from qsim.graph.ir import Array, Attribute, Node

Value = Any  # a tensor's name, a list of names, a number, None
Converter = Callable[..., Value]
CONVERTERS: dict[str, Converter] = {}
_LAST = 2**62  # an end beyond every axis
_LAYER_OPS = ("Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum", "LSTM", "GRU", "RNN")


def aten(*names: str) -> Callable[[Converter], Converter]:
    """Register the converter of the named overloads ("conv2d.default")."""

    def register(converter: Converter) -> Converter:
        CONVERTERS.update({f"aten.{name}": converter for name in names})
        return converter

    return register


class Builder:
    """Collects nodes and constants while the calls of an exported program are converted in order."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.constants: dict[str, Array] = {}
        self.values: dict[str, Value] = {}
        self.current: Any = None  # the torch.fx node being converted
        self._names: set[str] = set()
        self._outputs: set[str] = set()

    def resolve(self, argument: Any) -> Value:
        """torch.fx nodes replaced by what they became, inside lists too."""
        if isinstance(argument, torch.fx.Node):
            return self.values[argument.name]
        if isinstance(argument, (list, tuple)):
            return [self.resolve(item) for item in argument]
        return argument

    def emit(
        self, op: str, *inputs: Any, name: str | None = None, outputs: int = 1, **attributes: Attribute
    ) -> Value:
        """Add a node; numbers among the inputs become constants. Returns its output, or a list of several."""
        while inputs and inputs[-1] is None:
            inputs = inputs[:-1]
        names = tuple(self.tensor(value) if value is not None else None for value in inputs)
        base = name or self._unique(self.current.name)
        results = (base,) if outputs == 1 else tuple(f"{base}.{i}" for i in range(outputs))
        given = {key: value for key, value in attributes.items() if value is not None}
        self.nodes.append(Node(self._node_name(op, base), op, names, results, given))
        self._names.add(base)
        return results[0] if outputs == 1 else list(results)

    def tensor(self, value: Any) -> str:
        """The name of a tensor, or of a new constant that holds a number or array."""
        if isinstance(value, str):
            return value
        array = np.asarray(value, dtype=np.float32 if isinstance(value, float) else None)
        return self.constant(array)

    def constant(self, array: Array) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants[name] = array
        return name

    def integers(self, values: Sequence[Any]) -> str:
        """A one-dimensional tensor of integers, some of which may be computed at run time."""
        if all(isinstance(v, int) for v in values):
            return self.constant(np.array(values, dtype=np.int64))
        parts = [
            self.emit("Unsqueeze", v, np.array([0])) if isinstance(v, str) else np.array([v]) for v in values
        ]
        return str(self.emit("Concat", *parts, axis=0))

    def integer(self, value: Any) -> str:
        return value if isinstance(value, str) else self.constant(np.array(value, dtype=np.int64))

    def example(self, index: int = 0) -> Any:
        """What torch knows of the argument at `index`: shape and element type."""
        argument = self.current.args[index]
        return argument.meta["val"]

    def result(self) -> Any:
        """What torch knows of the result."""
        return self.current.meta["val"]

    def output(self, value: Any, name: str) -> str:
        """A graph output: inputs, parameters and doubly used results go through an Identity of their own."""
        made = {output for node in self.nodes for output in node.outputs}
        if isinstance(value, str):
            value = self.values.get(value, value)
        if value in made and value not in self._outputs:
            self._outputs.add(value)
            return str(value)
        self.nodes.append(Node(name, "Identity", (self.tensor(value),), (name,)))
        return name

    def _unique(self, base: str) -> str:
        name, count = base, 0
        while name in self._names:
            count += 1
            name = f"{base}_{count}_"
        return name

    def _node_name(self, op: str, base: str) -> str:
        """The module's own path ("layer1.0.conv1") for what multiplies and accumulates, else the result's name."""
        stack = list((self.current.meta.get("nn_module_stack") or {}).values())
        path = str(stack[-1][0]) if stack else ""
        if op not in _LAYER_OPS or not path:
            return base
        return path if path not in {node.name for node in self.nodes} else f"{path}.{base}"


def _like(build: Builder, value: Any, index: int = 0) -> Any:
    """A number as a constant of the element type of the tensor argument at `index`."""
    if isinstance(value, str) or value is None:
        return value
    dtype = build.example(index).dtype
    if isinstance(value, float) and not dtype.is_floating_point:
        return np.array(value, dtype=np.float32)
    return np.array(
        value, dtype=np.dtype(str(dtype).removeprefix("torch.")) if dtype != torch.bfloat16 else np.float32
    )


# --- element by element

_SAME = {
    "relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh", "exp": "Exp", "log": "Log", "sqrt": "Sqrt", "abs": "Abs",
    "neg": "Neg", "sin": "Sin", "cos": "Cos", "tan": "Tan", "erf": "Erf", "floor": "Floor", "ceil": "Ceil",
    "round": "Round", "reciprocal": "Reciprocal", "sign": "Sign", "logical_not": "Not", "bitwise_not": "Not",
    "isnan": "IsNaN", "isinf": "IsInf", "asin": "Asin", "acos": "Acos", "atan": "Atan", "sinh": "Sinh", "cosh": "Cosh",
    "hardswish": "HardSwish", "mish": "Mish", "silu": "Swish", "selu": "Selu", "softsign": "Softsign",
    "detach": "Identity", "alias": "Identity", "clone": "Identity", "contiguous": "Identity",
    "lift_fresh_copy": "Identity",
}  # fmt: skip
_TWO = {
    "mul": "Mul", "maximum": "Max", "minimum": "Min", "eq": "Equal", "lt": "Less", "le": "LessOrEqual", "gt": "Greater",
    "ge": "GreaterOrEqual", "logical_and": "And", "logical_or": "Or", "bitwise_and": "And", "bitwise_or": "Or",
    "remainder": "Mod",
}  # fmt: skip


def _one_to_one(op: str) -> Converter:
    return lambda build, x, *rest, **options: build.emit(op, x)


def _binary(op: str) -> Converter:
    return lambda build, a, b: build.emit(op, a, _like(build, b))


for _name, _op in _SAME.items():
    aten(f"{_name}.default")(_one_to_one(_op))
for _name, _op in _TWO.items():
    aten(f"{_name}.Tensor", f"{_name}.Scalar", f"{_name}.default")(_binary(_op))


def _scaled(op: str) -> Converter:
    """a + alpha * b, a - alpha * b."""

    def convert(build: Builder, a: Value, b: Value, alpha: float = 1) -> Value:
        other = _like(build, b)
        return build.emit(op, a, other if alpha == 1 else build.emit("Mul", other, _like(build, alpha)))

    return convert


aten("add.Tensor", "add.Scalar")(_scaled("Add"))
aten("sub.Tensor", "sub.Scalar")(_scaled("Sub"))


@aten("rsub.Scalar", "rsub.Tensor")
def _rsub(build: Builder, a: Value, b: Value, alpha: float = 1) -> Value:
    scaled = a if alpha == 1 else build.emit("Mul", a, _like(build, alpha))
    return build.emit("Sub", _like(build, b), scaled)


@aten("div.Tensor", "div.Scalar", "div.Tensor_mode", "floor_divide.default", "div.Scalar_mode")
def _div(build: Builder, a: Value, b: Value, rounding_mode: str | None = None) -> Value:
    if not build.example().dtype.is_floating_point and rounding_mode is None:
        a = build.emit("Cast", a, to="float32")
    quotient = build.emit("Div", a, _like(build, b))
    if rounding_mode == "floor" and build.example().dtype.is_floating_point:
        return build.emit("Floor", quotient)
    return quotient


@aten("ne.Tensor", "ne.Scalar")
def _ne(build: Builder, a: Value, b: Value) -> Value:
    return build.emit("Not", build.emit("Equal", a, _like(build, b)))


@aten("pow.Tensor_Scalar", "pow.Tensor_Tensor")
def _pow(build: Builder, x: Value, exponent: Value) -> Value:
    return build.emit("Pow", x, np.array(exponent, np.float32) if not isinstance(exponent, str) else exponent)


@aten("rsqrt.default")
def _rsqrt(build: Builder, x: Value) -> Value:
    return build.emit("Reciprocal", build.emit("Sqrt", x))


@aten("square.default")
def _square(build: Builder, x: Value) -> Value:
    return build.emit("Mul", x, x)


@aten("clamp.default", "hardtanh.default")
def _clamp(build: Builder, x: Value, low: Any = None, high: Any = None) -> Value:
    if "hardtanh" in str(build.current.target):
        low, high = (-1.0 if low is None else low), (1.0 if high is None else high)
    return build.emit("Clip", x, _like(build, low), _like(build, high))


@aten("clamp_min.default")
def _clamp_min(build: Builder, x: Value, low: Any) -> Value:
    return build.emit("Clip", x, _like(build, low))


@aten("clamp_max.default")
def _clamp_max(build: Builder, x: Value, high: Any) -> Value:
    return build.emit("Clip", x, None, _like(build, high))


@aten("relu6.default")
def _relu6(build: Builder, x: Value) -> Value:
    return build.emit("Clip", x, _like(build, 0.0), _like(build, 6.0))


@aten("hardsigmoid.default")
def _hardsigmoid(build: Builder, x: Value) -> Value:
    return build.emit("HardSigmoid", x, alpha=1 / 6, beta=0.5)


@aten("gelu.default")
def _gelu(build: Builder, x: Value, approximate: str = "none") -> Value:
    return build.emit("Gelu", x, approximate=approximate)


@aten("leaky_relu.default")
def _leaky_relu(build: Builder, x: Value, slope: float = 0.01) -> Value:
    return build.emit("LeakyRelu", x, alpha=slope)


@aten("elu.default")
def _elu(build: Builder, x: Value, alpha: float = 1.0, scale: float = 1, input_scale: float = 1) -> Value:
    if scale != 1 or input_scale != 1:
        raise GraphError(f"node '{build.current.name}': elu with a scale is not supported")
    return build.emit("Elu", x, alpha=alpha)


@aten("celu.default")
def _celu(build: Builder, x: Value, alpha: float = 1.0) -> Value:
    return build.emit("Celu", x, alpha=alpha)


@aten("softplus.default")
def _softplus(build: Builder, x: Value, beta: float = 1, threshold: float = 20) -> Value:
    if beta == 1:
        return build.emit("Softplus", x)
    return build.emit(
        "Div", build.emit("Softplus", build.emit("Mul", x, _like(build, beta))), _like(build, beta)
    )


@aten("prelu.default")
def _prelu(build: Builder, x: Value, slope: Value) -> Value:
    rank, channels = build.example().dim(), build.example(1).numel()
    shape = [channels] + [1] * (rank - 2) if channels > 1 else [1]
    return build.emit("PRelu", x, build.emit("Reshape", slope, build.integers(shape)))


@aten("softmax.int", "_softmax.default")
def _softmax(build: Builder, x: Value, axis: int, *ignored: Any, **options: Any) -> Value:
    return build.emit("Softmax", x, axis=axis)


@aten("log_softmax.int", "_log_softmax.default")
def _log_softmax(build: Builder, x: Value, axis: int, *ignored: Any, **options: Any) -> Value:
    return build.emit("LogSoftmax", x, axis=axis)


@aten("glu.default")
def _glu(build: Builder, x: Value, axis: int = -1) -> Value:
    value, gate = build.emit("Split", x, axis=axis, outputs=2)
    return build.emit("Mul", value, build.emit("Sigmoid", gate))


@aten("where.self", "where.ScalarOther", "where.ScalarSelf")
def _where(build: Builder, condition: Value, a: Value, b: Value) -> Value:
    kind = np.dtype(str(build.result().dtype).removeprefix("torch."))
    a, b = (v if isinstance(v, str) else np.array(v, kind) for v in (a, b))
    return build.emit("Where", condition, a, b)


@aten("masked_fill.Scalar", "masked_fill.Tensor")
def _masked_fill(build: Builder, x: Value, mask: Value, value: Value) -> Value:
    return build.emit("Where", mask, _like(build, value), x)


@aten("dropout.default", "feature_dropout.default")
def _dropout(build: Builder, x: Value, p: float = 0.5, train: bool = False) -> Value:
    return build.emit("Identity", x)


@aten("_to_copy.default", "to.dtype", "to.dtype_layout", "to.device", "type_as.default", "to.other")
def _to(build: Builder, x: Value, *rest: Any, **options: Any) -> Value:
    before, after = build.example().dtype, build.result().dtype
    return (
        build.emit("Identity", x)
        if before == after
        else build.emit("Cast", x, to=str(after).removeprefix("torch."))
    )


# --- products


def _sizes(value: Any, rank: int) -> tuple[int, ...]:
    values = tuple(value) if isinstance(value, (list, tuple)) else (value,)
    return values * rank if len(values) == 1 else values


@aten(
    "conv1d.default", "conv2d.default", "conv3d.default", "conv1d.padding", "conv2d.padding", "conv3d.padding"
)
def _conv(
    build: Builder, x: Value, w: Value, bias: Value = None,
    stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1,
) -> Value:  # fmt: skip
    rank = build.example(1).dim() - 2
    attributes: dict[str, Any] = {
        "strides": _sizes(stride, rank),
        "dilations": _sizes(dilation, rank),
        "group": groups,
    }
    if padding == "same":
        kernel = build.example(1).shape[2:]
        total = [d * (k - 1) for d, k in zip(attributes["dilations"], kernel, strict=True)]
        attributes["pads"] = (*(t // 2 for t in total), *(t - t // 2 for t in total))
    else:
        attributes["pads"] = _sizes(0 if padding == "valid" else padding, rank) * 2
    if build.example().dim() == rank + 2:
        return build.emit("Conv", x, w, bias, **attributes)
    y = build.emit("Conv", build.emit("Unsqueeze", x, np.array([0])), w, bias, **attributes)
    return build.emit("Squeeze", y, np.array([0]))


@aten("conv_transpose1d.default", "conv_transpose2d.input", "conv_transpose3d.input")
def _conv_transpose(
    build: Builder, x: Value, w: Value, bias: Value = None,
    stride: Any = 1, padding: Any = 0, output_padding: Any = 0, groups: int = 1, dilation: Any = 1,
) -> Value:  # fmt: skip
    rank = build.example(1).dim() - 2
    return build.emit(
        "ConvTranspose", x, w, bias,
        strides=_sizes(stride, rank), pads=_sizes(padding, rank) * 2, dilations=_sizes(dilation, rank),
        output_padding=_sizes(output_padding, rank), group=groups,
    )  # fmt: skip


@aten("convolution.default")
def _convolution(
    build: Builder, x: Value, w: Value, bias: Value, stride: Any, padding: Any, dilation: Any,
    transposed: bool, output_padding: Any, groups: int,
) -> Value:  # fmt: skip
    if transposed:
        return _conv_transpose(build, x, w, bias, stride, padding, output_padding, groups, dilation)
    return _conv(build, x, w, bias, stride, padding, dilation, groups)


@aten("linear.default")
def _linear(build: Builder, x: Value, w: Value, bias: Value = None) -> Value:
    if build.example().dim() == 2:
        return build.emit("Gemm", x, w, bias, transB=1)
    y = build.emit("MatMul", x, build.emit("Transpose", w, perm=(1, 0)))
    return y if bias is None else build.emit("Add", y, bias)


@aten("addmm.default")
def _addmm(build: Builder, c: Value, a: Value, b: Value, beta: float = 1, alpha: float = 1) -> Value:
    return build.emit("Gemm", a, b, c, alpha=float(alpha), beta=float(beta))


@aten("mm.default", "bmm.default", "matmul.default", "mv.default", "dot.default")
def _matmul(build: Builder, a: Value, b: Value) -> Value:
    return build.emit("MatMul", a, b)


@aten("einsum.default")
def _einsum(build: Builder, equation: str, operands: Sequence[str], path: Any = None) -> Value:
    return build.emit("Einsum", *operands, equation=equation)


@aten("scaled_dot_product_attention.default")
def _attention(
    build: Builder, q: Value, k: Value, v: Value, mask: Value = None, dropout: float = 0.0, is_causal: bool = False,
    scale: float | None = None, enable_gqa: bool = False,
) -> Value:  # fmt: skip
    """softmax(q k^T * scale + mask) v; a boolean mask keeps what is true."""
    if enable_gqa:
        raise GraphError(f"node '{build.current.name}': attention with enable_gqa is not supported")
    rank, features = build.example().dim(), build.example().shape[-1]
    perm = (*range(rank - 2), rank - 1, rank - 2)
    scores = build.emit("MatMul", q, build.emit("Transpose", k, perm=perm))
    scores = build.emit(
        "Mul", scores, np.array(1 / math.sqrt(features) if scale is None else scale, np.float32)
    )
    if is_causal:
        rows, columns = (build.example(i).shape[-2] for i in (0, 1))
        if not isinstance(rows, int) or not isinstance(columns, int):
            raise GraphError(f"node '{build.current.name}': causal attention needs a fixed sequence length")
        scores = build.emit("Add", scores, np.triu(np.full((rows, columns), -np.inf, np.float32), 1))
    if mask is not None and build.example(3).dtype == torch.bool:
        scores = build.emit("Where", mask, scores, np.array(-np.inf, np.float32))
    elif mask is not None:
        scores = build.emit("Add", scores, mask)
    return build.emit("MatMul", build.emit("Softmax", scores, axis=-1), v)


@aten("embedding.default")
def _embedding(build: Builder, table: Value, index: Value, *ignored: Any) -> Value:
    return build.emit("Gather", table, index, axis=0)


# --- recurrent layers


def _gates(build: Builder, weights: Sequence[str], order: Sequence[int], directions: int) -> list[str | None]:
    """torch's weights of one layer as ONNX's W, R and B: gates reordered, directions stacked."""
    per = len(weights) // directions
    arrays = [[build.constants[name] for name in weights[d * per : (d + 1) * per]] for d in range(directions)]

    def reordered(array: Array) -> Array:
        parts = np.split(array, len(order))
        return np.concatenate([parts[i] for i in order])

    w, r = (np.stack([reordered(arrays[d][i]) for d in range(directions)]) for i in range(2))
    prefix = str(weights[0])
    names: list[str | None] = [f"{prefix}.W", f"{prefix}.R", None]
    build.constants[f"{prefix}.W"], build.constants[f"{prefix}.R"] = w, r
    if per == 4:
        names[2] = f"{prefix}.B"
        both = [np.concatenate([reordered(a[2]), reordered(a[3])]) for a in arrays]
        build.constants[f"{prefix}.B"] = np.stack(both)
    return names


def _recurrent(
    build: Builder, op: str, order: Sequence[int], x: Value, states: Sequence[Value], weights: Sequence[str],
    has_biases: bool, layers: int, bidirectional: bool, batch_first: bool, **attributes: Any,
) -> list[Value]:  # fmt: skip
    """A stack of recurrent layers -> [outputs, last states...], as torch lays them out."""
    directions = 2 if bidirectional else 1
    per = (4 if has_biases else 2) * directions
    hidden = build.constants[weights[1]].shape[1]
    y = build.emit("Transpose", x, perm=(1, 0, 2)) if batch_first else x
    finals: list[list[Value]] = []
    for layer in range(layers):
        w, r, b = _gates(build, weights[layer * per : (layer + 1) * per], order, directions)
        rows = [build.integers([v]) for v in (layer * directions, (layer + 1) * directions)]
        axis = build.integers([0])
        start = [s if layers == 1 else build.emit("Slice", s, *rows, axis) for s in states]
        direction = "bidirectional" if bidirectional else "forward"
        results = build.emit(
            op,
            y,
            w,
            r,
            b,
            None,
            *start,
            outputs=1 + len(states),
            hidden_size=hidden,
            direction=direction,
            **attributes,
        )
        finals.append(results[1:])
        y = build.emit("Transpose", results[0], perm=(0, 2, 1, 3))  # [time, batch, directions, hidden]
        y = build.emit("Reshape", y, build.integers([0, 0, directions * hidden]))
    y = build.emit("Transpose", y, perm=(1, 0, 2)) if batch_first else y
    last = [
        parts[0] if layers == 1 else build.emit("Concat", *parts, axis=0)
        for parts in zip(*finals, strict=True)
    ]
    return [y, *last]


@aten("lstm.input")
def _lstm(
    build: Builder, x: Value, states: Sequence[Value], weights: Sequence[str], has_biases: bool, layers: int,
    dropout: float, train: bool, bidirectional: bool, batch_first: bool,
) -> Value:  # fmt: skip
    """torch orders the gates i f g o, ONNX i o f c."""
    order = (0, 3, 1, 2)
    return _recurrent(
        build, "LSTM", order, x, states, weights, has_biases, layers, bidirectional, batch_first
    )


@aten("gru.input")
def _gru(
    build: Builder, x: Value, state: Value, weights: Sequence[str], has_biases: bool, layers: int,
    dropout: float, train: bool, bidirectional: bool, batch_first: bool,
) -> Value:  # fmt: skip
    """torch orders the gates r z n, ONNX z r h; torch resets after the product."""
    return _recurrent(
        build, "GRU", (1, 0, 2), x, [state], weights, has_biases, layers, bidirectional, batch_first,
        linear_before_reset=1,
    )  # fmt: skip


@aten("rnn_tanh.input", "rnn_relu.input")
def _rnn(
    build: Builder, x: Value, state: Value, weights: Sequence[str], has_biases: bool, layers: int,
    dropout: float, train: bool, bidirectional: bool, batch_first: bool,
) -> Value:  # fmt: skip
    name = "Tanh" if "tanh" in str(build.current.target) else "Relu"
    functions = (name,) * (2 if bidirectional else 1)
    return _recurrent(
        build,
        "RNN",
        (0,),
        x,
        [state],
        weights,
        has_biases,
        layers,
        bidirectional,
        batch_first,
        activations=functions,
    )


# --- normalisation


@aten("batch_norm.default", "_native_batch_norm_legit_no_training.default", "cudnn_batch_norm.default")
def _batch_norm(
    build: Builder, x: Value, w: Value, b: Value, mean: Value, variance: Value, *rest: Any
) -> Value:
    native = "native" in str(build.current.target)
    epsilon = float(rest[1] if native else rest[2])
    channels = build.example().shape[1]
    w = w if w is not None else np.ones(channels, np.float32)
    b = b if b is not None else np.zeros(channels, np.float32)
    if mean is None or variance is None:
        raise GraphError(
            f"node '{build.current.name}': batch normalisation without running statistics is not supported"
        )
    y = build.emit("BatchNormalization", x, w, b, mean, variance, epsilon=epsilon)
    return [y, None, None] if native else y


@aten("layer_norm.default", "native_layer_norm.default")
def _layer_norm(
    build: Builder,
    x: Value,
    shape: Sequence[int],
    w: Value = None,
    b: Value = None,
    eps: float = 1e-5,
    *ignored: Any,
) -> Value:
    w = w if w is not None else np.ones(shape, np.float32)
    y = build.emit("LayerNormalization", x, w, b, axis=-len(shape), epsilon=eps)
    return [y, None, None] if "native" in str(build.current.target) else y


@aten("rms_norm.default")
def _rms_norm(
    build: Builder, x: Value, shape: Sequence[int], w: Value = None, eps: float | None = None
) -> Value:
    w = w if w is not None else np.ones(shape, np.float32)
    smallest = float(torch.finfo(torch.float32).eps)
    return build.emit("RMSNormalization", x, w, axis=-len(shape), epsilon=smallest if eps is None else eps)


@aten("group_norm.default")
def _group_norm(
    build: Builder, x: Value, groups: int, w: Value = None, b: Value = None, eps: float = 1e-5, *ignored: Any
) -> Value:
    channels = build.example().shape[1]
    w = w if w is not None else np.ones(channels, np.float32)
    b = b if b is not None else np.zeros(channels, np.float32)
    return build.emit("GroupNormalization", x, w, b, num_groups=groups, epsilon=eps)


@aten("instance_norm.default")
def _instance_norm(
    build: Builder, x: Value, w: Value, b: Value, mean: Value, variance: Value, use_input: bool, momentum: float,
    eps: float, *ignored: Any,
) -> Value:  # fmt: skip
    if not use_input:
        return _batch_norm(build, x, w, b, mean, variance, False, momentum, eps)
    channels = build.example().shape[1]
    w = w if w is not None else np.ones(channels, np.float32)
    b = b if b is not None else np.zeros(channels, np.float32)
    return build.emit("InstanceNormalization", x, w, b, epsilon=eps)


# --- reductions


def _axes(axes: Any) -> npt.NDArray[np.int64] | None:
    if axes is None or axes == []:
        return None
    return np.array(axes if isinstance(axes, list) else [axes], dtype=np.int64)


def _reduction(op: str) -> Converter:
    def convert(build: Builder, x: Value, axes: Any = None, keep: bool = False, **options: Any) -> Value:
        return build.emit(op, x, _axes(axes), keepdims=int(keep))

    return convert


for _name, _op in {
    "mean": "ReduceMean",
    "sum": "ReduceSum",
    "amax": "ReduceMax",
    "amin": "ReduceMin",
}.items():
    aten(f"{_name}.default", f"{_name}.dim", f"{_name}.dim_IntList")(_reduction(_op))
aten("prod.default", "prod.dim_int")(_reduction("ReduceProd"))
aten("logsumexp.default")(_reduction("ReduceLogSumExp"))


@aten("max.default")
def _max_all(build: Builder, x: Value) -> Value:
    return build.emit("ReduceMax", x, keepdims=0)


@aten("max.dim", "min.dim")
def _extreme(build: Builder, x: Value, axis: int, keep: bool = False) -> Value:
    largest = "max" in str(build.current.target)
    values = build.emit("ReduceMax" if largest else "ReduceMin", x, _axes(axis), keepdims=int(keep))
    index = build.emit("ArgMax" if largest else "ArgMin", x, axis=axis, keepdims=int(keep))
    return [values, index]


@aten("argmax.default", "argmin.default")
def _arg_extreme(build: Builder, x: Value, axis: int | None = None, keep: bool = False) -> Value:
    op = "ArgMax" if "argmax" in str(build.current.target) else "ArgMin"
    if axis is None:
        return build.emit(op, build.emit("Reshape", x, build.integers([-1])), axis=0, keepdims=0)
    return build.emit(op, x, axis=axis, keepdims=int(keep))


@aten("var.correction", "std.correction", "var.dim", "std.dim")
def _variance(
    build: Builder, x: Value, axes: Any = None, correction: Any = 1, keepdim: bool = False, **o: Any
) -> Value:
    shape = build.example().shape
    listed = list(range(len(shape))) if axes is None else axes if isinstance(axes, list) else [axes]
    count = math.prod(int(shape[a]) for a in listed)
    centred = build.emit("Sub", x, build.emit("ReduceMean", x, _axes(listed), keepdims=1))
    mean = build.emit("ReduceMean", build.emit("Mul", centred, centred), _axes(listed), keepdims=int(keepdim))
    factor = count / (count - float(1 if correction is None else correction))
    variance = mean if factor == 1 else build.emit("Mul", mean, np.array(factor, np.float32))
    return build.emit("Sqrt", variance) if "std" in str(build.current.target) else variance


@aten("linalg_vector_norm.default")
def _norm(
    build: Builder, x: Value, order: float = 2, axes: Any = None, keep: bool = False, **options: Any
) -> Value:
    if order not in (1, 2):
        raise GraphError(f"node '{build.current.name}': a norm of order {order} is not supported")
    return build.emit(f"ReduceL{int(order)}", x, _axes(axes), keepdims=int(keep))


@aten("cumsum.default")
def _cumsum(build: Builder, x: Value, axis: int, **options: Any) -> Value:
    return build.emit("CumSum", x, build.integer(axis))


@aten("topk.default")
def _topk(
    build: Builder, x: Value, k: int, axis: int = -1, largest: bool = True, ordered: bool = True
) -> Value:
    return build.emit("TopK", x, build.integers([k]), axis=axis, largest=int(largest), outputs=2)
