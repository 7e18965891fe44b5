"""Family `onnx`, arithmetic: ONNX Runtime's quantized products, convolutions, sums and products of codes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from qsim.arithmetic.integer import Affine, elementwise, layers
from qsim.formats import Integer
from tests.golden.harness import Comparison, GoldenFile, compare

RULE = "onnx"


def affine(file: GoldenFile, letter: str, codes: np.ndarray, axis: int = 0) -> Affine:
    """Scale and zero point under the names of the file: xs and xz, or As and Az; 1 and 0 where it has none."""
    scale = file[f"{letter}s"] if f"{letter}s" in file else np.float32(1)
    zero_point = file[f"{letter}z"] if f"{letter}z" in file else np.int64(0)
    element = Integer(codes.dtype.itemsize * 8, codes.dtype.kind == "i")
    return Affine(element, np.squeeze(scale), np.squeeze(zero_point).astype(np.int64), axis)


def optional(file: GoldenFile, name: str) -> np.ndarray | None:
    return file[name] if name in file else None  # noqa: SIM401 (reading an array is noted)


def accumulators(file: GoldenFile, ours: np.ndarray) -> Iterator[Comparison]:
    if "acc_int32" in file:
        yield compare("acc_int32", ours, file["acc_int32"])


def check_matmulinteger(file: GoldenFile) -> Iterator[Comparison]:
    a, b = file["A"], file["B"]
    left, right = affine(file, "A", a, axis=-2), affine(file, "B", b, axis=-1)
    yield compare("y", layers.matmul_accumulator(a, b, left=left, right=right), file["y"])


def check_qlinearmatmul(file: GoldenFile) -> Iterator[Comparison]:
    x, w, y = file["x"], file["W"], file["y"]
    left, right, output = affine(file, "x", x), affine(file, "w", w, axis=-1), affine(file, "y", y)
    yield from accumulators(file, layers.matmul_accumulator(x, w, left=left, right=right))
    yield compare("y", layers.matmul(x, w, left=left, right=right, output=output, rule=RULE), y)


def check_qgemm(file: GoldenFile) -> Iterator[Comparison]:
    a, b, y = file["A"], file["B"], file["y"]
    if file.meta.get("alpha", 1.0) != 1.0:
        raise LookupError(f"{file.name}: only alpha = 1 is known")
    if file.meta.get("transA"):
        a = a.T
    if not file.meta.get("transB"):
        b = b.T
    facts = {"input": affine(file, "A", a), "weight": affine(file, "B", b)}
    bias = optional(file, "C")
    yield from accumulators(file, layers.linear_accumulator(a, b, bias, **facts))
    yield compare("y", layers.linear(a, b, bias, **facts, output=affine(file, "y", y), rule=RULE), y)


def check_qlinearconv(file: GoldenFile) -> Iterator[Comparison]:
    x, w, y = file["x"], file["W"], file["y"]
    attributes, ones = file.meta["attrs"], (1,) * (w.ndim - 2)
    window = layers.Window(
        tuple(attributes.get("strides", ones)),
        tuple(attributes.get("dilations", ones)),
        tuple(attributes.get("pads", (0,) * 2 * len(ones))),
        attributes.get("group", 1),
    )
    facts = {"input": affine(file, "x", x), "weight": affine(file, "w", w)}
    bias = optional(file, "B")
    yield from accumulators(file, layers.conv_accumulator(x, w, bias, window, **facts))
    yield compare("y", layers.conv(x, w, bias, window, **facts, output=affine(file, "y", y), rule=RULE), y)


def check_qlinearadd(file: GoldenFile) -> Iterator[Comparison]:
    a, b, y = file["A"], file["B"], file["y"]
    facts = {"left": affine(file, "A", a), "right": affine(file, "B", b), "output": affine(file, "C", y)}
    yield compare("y", elementwise.add(a, b, **facts, rule=RULE), y)


def check_qlinearmul(file: GoldenFile) -> Iterator[Comparison]:
    """README.md allows +-1 in at most 0.2 % of the elements; ours agrees with the x86 kernel without it."""
    a, b, y = file["A"], file["B"], file["y"]
    facts = {"left": affine(file, "A", a), "right": affine(file, "B", b), "output": affine(file, "C", y)}
    ours = elementwise.multiply(a, b, **facts, rule=RULE)
    off_by_one = np.abs(ours.astype(np.int64) - y.astype(np.int64)) == 1
    yield compare("y", ours, y, allow=off_by_one if off_by_one.mean() <= 0.002 else False)


FORMS = {
    "onnx/matmulinteger*.npz": check_matmulinteger,
    "onnx/qlinearmatmul*.npz": check_qlinearmatmul,
    "onnx/qgemm*.npz": check_qgemm,
    "onnx/qlinearconv*.npz": check_qlinearconv,
    "onnx/qlinearadd*.npz": check_qlinearadd,
    "onnx/qlinearmul*.npz": check_qlinearmul,
}
