"""torch's reductions and orderings in terms of ONNX's."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from qsim.errors import GraphError
from qsim.graph.aten.builder import Builder, Converter, Value, aten


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
