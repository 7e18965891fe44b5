"""torch's operators that work element by element, in terms of ONNX's."""

from __future__ import annotations

from typing import Any

import numpy as np

from qsim.errors import GraphError
from qsim.graph.aten.builder import Builder, Converter, Value, aten, like

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
    return lambda build, a, b: build.emit(op, a, like(build, b))


for _name, _op in _SAME.items():
    aten(f"{_name}.default")(_one_to_one(_op))
for _name, _op in _TWO.items():
    aten(f"{_name}.Tensor", f"{_name}.Scalar", f"{_name}.default")(_binary(_op))


def _scaled(op: str) -> Converter:
    """a + alpha * b, a - alpha * b."""

    def convert(build: Builder, a: Value, b: Value, alpha: float = 1) -> Value:
        other = like(build, b)
        return build.emit(op, a, other if alpha == 1 else build.emit("Mul", other, like(build, alpha)))

    return convert


aten("add.Tensor", "add.Scalar")(_scaled("Add"))
aten("sub.Tensor", "sub.Scalar")(_scaled("Sub"))


@aten("rsub.Scalar", "rsub.Tensor")
def _rsub(build: Builder, a: Value, b: Value, alpha: float = 1) -> Value:
    scaled = a if alpha == 1 else build.emit("Mul", a, like(build, alpha))
    return build.emit("Sub", like(build, b), scaled)


@aten("div.Tensor", "div.Scalar", "div.Tensor_mode", "floor_divide.default", "div.Scalar_mode")
def _div(build: Builder, a: Value, b: Value, rounding_mode: str | None = None) -> Value:
    if not build.example().dtype.is_floating_point and rounding_mode is None:
        a = build.emit("Cast", a, to="float32")
    quotient = build.emit("Div", a, like(build, b))
    if rounding_mode == "floor" and build.example().dtype.is_floating_point:
        return build.emit("Floor", quotient)
    return quotient


@aten("ne.Tensor", "ne.Scalar")
def _ne(build: Builder, a: Value, b: Value) -> Value:
    return build.emit("Not", build.emit("Equal", a, like(build, b)))


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
    return build.emit("Clip", x, like(build, low), like(build, high))


@aten("clamp_min.default")
def _clamp_min(build: Builder, x: Value, low: Any) -> Value:
    return build.emit("Clip", x, like(build, low))


@aten("clamp_max.default")
def _clamp_max(build: Builder, x: Value, high: Any) -> Value:
    return build.emit("Clip", x, None, like(build, high))


@aten("relu6.default")
def _relu6(build: Builder, x: Value) -> Value:
    return build.emit("Clip", x, like(build, 0.0), like(build, 6.0))


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
        "Div", build.emit("Softplus", build.emit("Mul", x, like(build, beta))), like(build, beta)
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
    return build.emit("Where", mask, like(build, value), x)


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
