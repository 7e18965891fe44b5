"""Family `onnx`, casts: QuantizeLinear and DequantizeLinear of ONNX Runtime."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np

import qsim
from tests.golden.harness import Comparison, GoldenFile, compare


def element_of(name: str) -> str:
    """int8, uint4, ... as they are; f8e4m3 -> e4m3fn, f8e4m3fnuz -> e4m3fnuz, f8e5m2 -> e5m2."""
    name = re.sub(r"^(f|float)\d+_?(?=e\d)", "", name.lower())
    return {"e4m3": "e4m3fn", "e2m1": "e2m1fn"}.get(name, name)


def spec_and_options(file: GoldenFile, cast: str = "") -> tuple[str, dict[str, Any]]:
    meta, scale = file.meta, file["scale"]
    element, axis, block = element_of(meta["type"]), meta.get("axis"), meta.get("block_size", 0)
    options: dict[str, Any] = {"scale": scale, "axis": -1 if axis is None else axis}
    if "zero_point" in file and re.match("u?int", element):
        element += "+zp"
        options["zero_point"] = file["zero_point"]
    granularity = f"block{block}" if block else "tensor" if scale.size == 1 else "channel"
    return f"{element}{cast}@{granularity}:float32", options


def check_qdq(file: GoldenFile) -> Iterator[Comparison]:
    x = file["x"]
    if "dequant" in file:
        spec, options = spec_and_options(file)
        yield compare("dequant", qsim.quantize(x, spec, **options), file["dequant"])
        yield compare("q", qsim.encode(x, spec, **options).codes, file["q"])
    if "dequant_sat" in file:
        spec, options = spec_and_options(file)
        yield compare("dequant_sat", qsim.quantize(x, spec, **options), file["dequant_sat"])
    if "dequant_nosat" in file:
        # ONNX Runtime keeps the largest value for some overflows that ml_dtypes makes NaN; README.md compares with
        # ml_dtypes where that is finite.
        spec, options = spec_and_options(file, "/ieee")
        ours = qsim.quantize(x, spec, **options)
        yield compare("dequant_nosat", ours, file["dequant_nosat"], allow=~np.isfinite(ours))


def check_quantizelinear(file: GoldenFile) -> Iterator[Comparison]:
    spec, options = spec_and_options(file)
    yield compare("q", qsim.encode(file["x"], spec, **options).codes, file["q"])


FORMS = {"onnx/qdq_*.npz": check_qdq, "onnx/quantizelinear_*.npz": check_quantizelinear}
