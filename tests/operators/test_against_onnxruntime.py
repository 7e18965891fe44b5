"""Every operator computes what onnxruntime computes: one model of one node each."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from onnx import helper

from tests.operators.reference import check, make_model

RNG = np.random.default_rng(7)


def real(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def positive(*shape: int) -> np.ndarray:
    return (RNG.uniform(0.1, 3.0, shape)).astype(np.float32)


def i64(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def scalar(value: float, dtype: str = "float32") -> np.ndarray:
    return np.array(value, dtype=dtype)


class Case(NamedTuple):
    """One node: data inputs first, then constants ("" leaves an input out)."""

    op: str
    data: tuple[np.ndarray, ...]
    constants: tuple[np.ndarray | None, ...] = ()
    attributes: dict[str, Any] = {}  # noqa: RUF012 - never changed
    opset: int = 17
    outputs: int = 1
    label: str = ""

    def id(self) -> str:
        stated = "-".join(f"{k}={v}" for k, v in self.attributes.items())
        return f"{self.op}{self.opset}-{self.label or stated or len(self.constants)}"


X1, X2, X3 = real(2, 4, 11), real(2, 4, 9, 7), real(1, 2, 5, 6, 4)

CONVOLUTIONS = [
    Case("Conv", (X1,), (real(6, 4, 3), real(6)), {"pads": [1, 1]}),
    Case("Conv", (X1,), (real(4, 1, 3),), {"group": 4, "dilations": [2], "pads": [2, 0]}),
    Case("Conv", (X2,), (real(6, 4, 3, 3), real(6)), {"pads": [1, 1, 1, 1], "strides": [2, 2]}),
    Case("Conv", (X2,), (real(6, 4, 3, 3),), {"pads": [0, 0, 1, 1], "strides": [2, 2]}, label="asymmetric"),
    Case("Conv", (X2,), (real(6, 4, 4, 3),), {"pads": [2, 1, 1, 1]}, label="half_asymmetric"),
    Case("Conv", (X2,), (real(6, 4, 3, 2),), {"auto_pad": "SAME_UPPER", "strides": [2, 3]}),
    Case("Conv", (X2,), (real(6, 4, 3, 2),), {"auto_pad": "SAME_LOWER", "strides": [2, 2]}),
    Case("Conv", (X2,), (real(6, 4, 3, 2),), {"auto_pad": "VALID"}),
    Case("Conv", (X2,), (real(6, 2, 3, 3),), {"group": 2, "dilations": [2, 1]}),
    Case("Conv", (X3,), (real(3, 2, 2, 3, 2), real(3)), {"pads": [1, 0, 0, 0, 1, 1]}),
    Case("ConvTranspose", (X1,), (real(4, 3, 4), real(3)), {"strides": [2], "pads": [1, 1]}),
    Case("ConvTranspose", (X2,), (real(4, 3, 3, 3),), {"strides": [2, 2], "output_padding": [1, 1]}),
    Case("ConvTranspose", (X2,), (real(4, 3, 3, 3),), {"strides": [2, 2], "pads": [0, 1, 1, 0]}),
    Case("ConvTranspose", (X2,), (real(4, 2, 3, 3), real(4)), {"group": 2, "dilations": [2, 2]}),
    Case("ConvTranspose", (X2,), (real(4, 3, 3, 3),), {"strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    Case("ConvTranspose", (X2,), (real(4, 3, 3, 3),), {"strides": [2, 2], "output_shape": [18, 14]}),
    Case("ConvTranspose", (X3,), (real(2, 3, 2, 2, 2),), {"strides": [2, 1, 2]}),
]

WINDOW = {"kernel_shape": [3, 2], "strides": [2, 2]}
POOLING = [
    Case("MaxPool", (X2,), (), WINDOW),
    Case("MaxPool", (X2,), (), {**WINDOW, "pads": [1, 0, 2, 1]}),
    Case("MaxPool", (X2,), (), {**WINDOW, "ceil_mode": 1}),
    Case("MaxPool", (X2,), (), {**WINDOW, "ceil_mode": 1, "pads": [1, 1, 1, 1]}),
    Case("MaxPool", (X2,), (), {"kernel_shape": [2, 2], "dilations": [2, 3]}),
    Case("MaxPool", (X2,), (), {**WINDOW, "auto_pad": "SAME_UPPER"}),
    Case("MaxPool", (X2,), (), {**WINDOW, "pads": [1, 0, 1, 1]}, outputs=2, label="indices"),
    Case("MaxPool", (X1,), (), {"kernel_shape": [3]}),
    Case("MaxPool", (X3,), (), {"kernel_shape": [2, 2, 2], "strides": [1, 2, 2]}),
    Case("AveragePool", (X2,), (), WINDOW),
    Case("AveragePool", (X2,), (), {**WINDOW, "pads": [1, 0, 1, 1]}),
    Case("AveragePool", (X2,), (), {**WINDOW, "pads": [1, 0, 1, 1], "count_include_pad": 1}),
    Case("AveragePool", (X2,), (), {**WINDOW, "ceil_mode": 1}),
    Case(
        "AveragePool", (X2,), (), {**WINDOW, "ceil_mode": 1, "pads": [1, 1, 1, 1], "count_include_pad": 1}, 19
    ),
    Case("AveragePool", (X2,), (), {"kernel_shape": [2, 2], "dilations": [2, 2]}, 19),
    Case("AveragePool", (X2,), (), {**WINDOW, "auto_pad": "SAME_LOWER"}),
    Case("AveragePool", (X1,), (), {"kernel_shape": [4], "strides": [3]}),
    Case("LpPool", (X2,), (), {**WINDOW, "p": 2}),
    Case("GlobalAveragePool", (X2,)),
    Case("GlobalMaxPool", (X1,)),
    Case("GlobalLpPool", (X2,)),
]

LINEAR = [
    Case("MatMul", (real(2, 3, 4),), (real(4, 5),)),
    Case("MatMul", (real(2, 1, 3, 4), real(5, 4, 2))),
    Case("MatMul", (real(4), real(4, 3)), label="vector"),
    Case("Gemm", (real(3, 4),), (real(4, 5), real(5))),
    Case(
        "Gemm", (real(4, 3),), (real(5, 4), real(3, 1)), {"transA": 1, "transB": 1, "alpha": 0.5, "beta": 2.0}
    ),
    Case("Gemm", (real(3, 4),), (real(4, 5),)),
    Case("Einsum", (real(2, 3, 4), real(2, 4, 5)), (), {"equation": "bij,bjk->bik"}),
    Case("Einsum", (real(2, 3, 4), real(2, 5, 4)), (), {"equation": "b h d, b k d -> b h k"}),
    Case("Einsum", (real(3, 3),), (), {"equation": "ii->i"}),
]

UNARY = [
    *(Case(op, (real(3, 4),)) for op in (
        "Abs Neg Sign Ceil Floor Round Exp Erf Sin Cos Tan Atan Sinh Cosh Asinh Reciprocal Relu Sigmoid Tanh "
        "Softplus Softsign Elu Selu Celu LeakyRelu HardSigmoid HardSwish ThresholdedRelu Softmax LogSoftmax Hardmax"
    ).split()),
    *(Case(op, (positive(3, 4),)) for op in "Sqrt Log".split()),
    *(Case(op, (RNG.uniform(-0.9, 0.9, (3, 4)).astype(np.float32),)) for op in "Asin Acos Atanh".split()),
    Case("Acosh", (positive(3, 4) + 1,)),
    Case("Mish", (real(3, 4),), opset=18),
    Case("Gelu", (real(3, 4),), opset=20),
    Case("Gelu", (real(3, 4),), (), {"approximate": "tanh"}, 20),
    Case("LeakyRelu", (real(3, 4),), (), {"alpha": 0.3}),
    Case("HardSigmoid", (real(3, 4),), (), {"alpha": 1 / 6, "beta": 0.5}),
    Case("Shrink", (real(3, 4),), (), {"bias": 0.1, "lambd": 0.3}),
    Case("Softmax", (real(2, 3, 4),), (), {"axis": 1}),
    Case("Softmax", (real(2, 3, 4),), (), {"axis": 1}, 11),
    Case("LogSoftmax", (real(2, 3, 4),), (), {}, 12),
    Case("Softmax", (real(2, 3, 4),), (), {"axis": 2}, 11),
    Case("PRelu", (X2,), (real(4, 1, 1),)),
    Case("PRelu", (X2,), (real(1),)),
    Case("Round", (np.array([0.5, 1.5, 2.5, -0.5, -1.5], np.float32),)),
    Case("IsNaN", (np.array([1, np.nan, np.inf], np.float32),)),
    Case("IsInf", (np.array([1, np.nan, np.inf, -np.inf], np.float32),), (), {"detect_negative": 0}),
    Case("Not", (np.array([True, False]),)),
]  # fmt: skip

INTEGERS = np.array([[7, -7, 3], [-3, 9, -8]], np.int64)
BINARY = [
    *(
        Case(op, (real(2, 1, 4), real(3, 1)))
        for op in "Add Sub Mul Div Less Greater Max Min Mean Sum".split()
    ),
    *(
        Case(op, (INTEGERS, i64(2, -2, 3)))
        for op in "Add Sub Mul Div Mod Equal LessOrEqual GreaterOrEqual".split()
    ),
    *(Case(op, (INTEGERS > 0, np.array([True, False, True]))) for op in "And Or Xor".split()),
    Case("Pow", (positive(2, 3),), (scalar(2.0),)),
    Case("Pow", (positive(2, 3),), (i64(3),), label="integer_exponent"),
    Case("Mod", (real(2, 3), positive(3)), (), {"fmod": 1}),
    Case("Clip", (real(3, 4),), (scalar(-0.5), scalar(0.5))),
    Case("Clip", (real(3, 4),), (None, scalar(0.5)), label="no_min"),
    Case("Clip", (real(3, 4) * 9,), (), {"min": 0.0, "max": 6.0}, 10, label="attributes"),
    Case("Clip", (INTEGERS,), (scalar(-2, "int64"), scalar(5, "int64")), label="integers"),
    Case("Where", (INTEGERS > 0, real(2, 3), real(3))),
    Case("Cast", (real(3, 4) * 4,), (), {"to": 7}),
    Case("Cast", (INTEGERS,), (), {"to": 1}),
    Case("Cast", (INTEGERS,), (), {"to": 9}),
    Case(
        "BitShift", (np.array([1, 2, 8], np.uint8), np.array([1, 2, 3], np.uint8)), (), {"direction": "LEFT"}
    ),
    Case("BitwiseAnd", (INTEGERS, i64(6)), opset=18),
]

REDUCTIONS = [
    *(
        Case(f"Reduce{kind}", (positive(2, 3, 4),), (), {"axes": [-1, 0], "keepdims": keep}, 13)
        for kind in "Mean Prod Max Min L1 L2 SumSquare LogSum LogSumExp".split()
        for keep in (0, 1)
    ),
    Case("ReduceSum", (real(2, 3, 4),), (i64(1),), {"keepdims": 0}, 13),
    Case("ReduceSum", (real(2, 3, 4),), (), {"axes": [1]}, 11),
    Case("ReduceSum", (INTEGERS,), (i64(0),), {}, 13, label="integers"),
    Case("ReduceMean", (real(2, 3, 4),), (i64(-2),), {}, 18),
    Case("ReduceMean", (real(2, 3, 4),)),
    Case("ReduceMax", (real(2, 3, 4),), (), {"noop_with_empty_axes": 1}, 18),
    Case("ReduceMean", (INTEGERS,), (), {"axes": [1]}, 13, label="integers"),
    Case("CumSum", (real(2, 5),), (scalar(1, "int64"),)),
    Case("CumSum", (real(2, 5),), (scalar(-1, "int64"),), {"exclusive": 1, "reverse": 1}),
    Case("ArgMax", (real(3, 4),), (), {"axis": 1}),
    Case("ArgMax", (np.array([[1, 3, 3], [2, 2, 1]], np.float32),), (), {"axis": -1, "select_last_index": 1}),
    Case("ArgMin", (np.array([[1, 3, 1], [2, 2, 1]], np.float32),), (), {"axis": 0, "keepdims": 0}),
    Case("TopK", (np.array([[1, 3, 3, 0], [2, 2, 1, 5]], np.float32),), (i64(2),), {}, 11, 2),
    Case("TopK", (real(3, 6),), (i64(2),), {"axis": 0, "largest": 0}, 11, 2),
]

SHAPES = [
    Case("Reshape", (X2,), (i64(0, -1, 7),)),
    Case("Flatten", (X2,), (), {"axis": 2}),
    Case("Flatten", (X2,), (), {"axis": 0}),
    Case("Flatten", (X2,), (), {"axis": -1}),
    Case("Transpose", (X2,), (), {"perm": [0, 2, 3, 1]}),
    Case("Transpose", (X2,)),
    Case("Squeeze", (real(1, 3, 1),), (i64(0, -1),)),
    Case("Squeeze", (real(1, 3, 1),), (), {"axes": [2]}, 11),
    Case("Squeeze", (real(1, 3, 1),)),
    Case("Unsqueeze", (real(3, 4),), (i64(-1, 0),)),
    Case("Unsqueeze", (real(3, 4),), (), {"axes": [1, 3]}, 11),
    Case("Expand", (real(3, 1),), (i64(2, 1, 4),)),
    Case("Tile", (real(2, 3),), (i64(2, 2),)),
    Case("Concat", (real(2, 3), real(2, 1)), (), {"axis": -1}),
    Case("Split", (real(2, 7),), (i64(3, 4),), {"axis": 1}, 13, 2),
    Case("Split", (real(2, 6),), (), {"axis": -1, "split": [1, 5]}, 11, 2),
    Case("Split", (real(2, 6),), (), {"axis": 1}, 13, 3),
    Case("Split", (real(2, 7),), (), {"axis": 1, "num_outputs": 3}, 18, 3),
    Case("Slice", (X2,), (i64(1, 0), i64(9, 2**62), i64(2, 3), i64(2, 3))),
    Case("Slice", (X2,), (i64(-1), i64(-(2**62)), i64(2), i64(-2)), label="backwards"),
    Case("Slice", (X2,), (i64(0, -3), i64(1, 100)), label="no_axes"),
    Case("Slice", (X2,), (), {"starts": [1], "ends": [-1], "axes": [3]}, 9),
    *(Case("Pad", (real(2, 5),), (i64(1, 2, 0, 3),), {"mode": m}) for m in ("constant", "edge", "reflect")),
    Case("Pad", (real(2, 5),), (i64(1, 2, 0, 3),), {"mode": "wrap"}, 19),
    Case("Pad", (real(2, 5),), (i64(0, -1, 1, 2), scalar(1.5)), label="crop"),
    Case("Pad", (real(2, 5),), (i64(2, 1), None, i64(-1)), {}, 18),
    Case("Pad", (real(2, 5),), (), {"pads": [0, 1, 0, 2], "value": 2.0}, 10),
    Case("Shape", (X2,), (), {"start": 1, "end": -1}),
    Case("Size", (X2,)),
    Case(
        "ConstantOfShape", (i64(2, 3),), (), {"value": helper.make_tensor("v", 1, [1], [4.5])}, label="float"
    ),
    Case("ConstantOfShape", (i64(2, 3),)),
    Case("Range", (scalar(2, "int64"), scalar(11, "int64"), scalar(3, "int64"))),
    Case("Range", (scalar(1.0), scalar(-1.0), scalar(-0.5)), label="float"),
    Case("EyeLike", (real(3, 4),), (), {"k": 1, "dtype": 7}),
    Case("Trilu", (real(2, 4, 4),), (scalar(1, "int64"),), {"upper": 1}),
    Case("Trilu", (real(4, 5),), (), {"upper": 0}),
    Case("DepthToSpace", (real(1, 8, 2, 3),), (), {"blocksize": 2}),
    Case("DepthToSpace", (real(1, 8, 2, 3),), (), {"blocksize": 2, "mode": "CRD"}),
    Case("SpaceToDepth", (real(1, 2, 4, 6),), (), {"blocksize": 2}),
    Case("ReverseSequence", (real(4, 3, 2),), (i64(1, 4, 2),), {"batch_axis": 1, "time_axis": 0}),
    Case("Identity", (X1,)),
    Case("Dropout", (X1,)),
]

INDEXING = [
    Case("Gather", (real(5, 3),), (np.array([[0, -1], [2, 4]]),)),
    Case("Gather", (real(5, 3),), (scalar(1, "int64"),), {"axis": 1}),
    Case("GatherElements", (real(3, 3),), (np.array([[0, -1, 2]]),), {"axis": 0}),
    Case("GatherND", (real(2, 3, 4),), (np.array([[0, 1], [1, -1]]),)),
    Case("GatherND", (real(2, 3, 4),), (np.array([[1], [2]]),), {"batch_dims": 1}),
    Case("ScatterElements", (real(3, 4),), (np.array([[1, 0, 2, -1]]), real(1, 4)), {"axis": 0}),
    Case(
        "ScatterElements",
        (real(3, 4),),
        (np.array([[1], [0]]), real(2, 1)),
        {"axis": 1, "reduction": "add"},
        18,
    ),
    Case("ScatterND", (real(4, 3),), (np.array([[1], [3]]), real(2, 3))),
    Case("ScatterND", (real(4, 3),), (np.array([[1, 2], [1, 2]]), real(2)), {"reduction": "add"}, 18),
    Case("OneHot", (np.array([[0, 3], [-1, 9]]),), (scalar(4, "int64"), np.array([-1.0, 2.0], np.float32))),
    Case("OneHot", (np.array([1, 0]),), (i64(3), np.array([0, 1], np.float32)), {"axis": 0}),
    Case("NonZero", (np.array([[1, 0], [3, 4]], np.float32),)),
    Case("Compress", (real(3, 4),), (np.array([True, False, True]),), {"axis": 0}),
]

NORMALIZATIONS = [
    Case("BatchNormalization", (X2,), (real(4), real(4), real(4), positive(4)), {"epsilon": 1e-3}),
    Case("BatchNormalization", (real(5, 4),), (real(4), real(4), real(4), positive(4))),
    Case("LayerNormalization", (real(2, 3, 8),), (real(8), real(8)), {"epsilon": 1e-6}),
    Case("LayerNormalization", (real(2, 3, 8),), (real(3, 8),), {"axis": 1}, outputs=1, label="no_bias"),
    Case("LayerNormalization", (real(2, 3, 8),), (real(8), real(8)), outputs=3),
    Case("InstanceNormalization", (X2,), (real(4), real(4))),
    Case("GroupNormalization", (X2,), (real(2), real(2)), {"num_groups": 2}, 18),
    Case("GroupNormalization", (X2,), (real(4), real(4)), {"num_groups": 2}, 21),
    Case("LpNormalization", (real(3, 4),), (), {"axis": 1, "p": 2}),
    Case("LRN", (real(1, 6, 3, 3),), (), {"size": 3, "alpha": 0.1}),
    Case("MeanVarianceNormalization", (X2,)),
]

HALF = np.array([1, 1, 2.0, 1.5], np.float32)
RESIZES = [
    *(
        Case("Resize", (X2,), (None, np.array([1, 1, 2.0, 1.6], np.float32)), {
            "mode": mode, "coordinate_transformation_mode": coordinates,
        })
        for mode in ("nearest", "linear", "cubic")
        for coordinates in ("half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel")
    ),
    *(
        Case("Resize", (X2,), (None, np.array([1, 1, 0.6, 0.4], np.float32)), {"mode": "nearest", "nearest_mode": n})
        for n in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
    ),
    Case("Resize", (X2,), (None, None, i64(2, 4, 18, 5)), {"mode": "linear"}, label="sizes"),
    Case("Resize", (X2,), (None, None, i64(18, 5)), {"mode": "linear", "axes": [2, 3]}, 18, label="axes"),
    Case("Resize", (X2,), (np.array([1, 1, 2, 2], np.float32),), {"mode": "nearest"}, 10),
    Case("Upsample", (X2,), (np.array([1, 1, 2, 3], np.float32),), {"mode": "nearest"}, 9),
    Case("Upsample", (X2,), (), {"mode": "nearest", "scales": [1.0, 1.0, 2.0, 2.0]}, 8),
    Case("Resize", (X2,), (None, HALF), {"mode": "cubic", "cubic_coeff_a": -0.5, "exclude_outside": 1}),
]  # fmt: skip

ALL = [
    *CONVOLUTIONS, *POOLING, *LINEAR, *UNARY, *BINARY, *REDUCTIONS, *SHAPES, *INDEXING, *NORMALIZATIONS, *RESIZES,
]  # fmt: skip


@pytest.mark.parametrize("case", ALL, ids=Case.id)
def test_operator_equals_onnxruntime(case: Case, tmp_path: Path) -> None:
    inputs = {f"x{i}": array for i, array in enumerate(case.data)}
    constants = {f"c{i}": array for i, array in enumerate(case.constants) if array is not None}
    names = [*inputs, *("" if array is None else f"c{i}" for i, array in enumerate(case.constants))]
    outputs = [f"y{i}" for i in range(case.outputs)]
    node = helper.make_node(case.op, names, outputs, **case.attributes)
    check(make_model([node], inputs, outputs, constants, case.opset), inputs, tmp_path, tolerance=2e-6)
