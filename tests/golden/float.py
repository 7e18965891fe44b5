"""Family `float`, casts: the conversions between binary formats of Berkeley TestFloat."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

import qsim
from tests.golden.harness import Comparison, GoldenFile, compare

FORMATS = {"f16": "float16", "bf16": "bfloat16", "f32": "float32", "f64": "float64"}
ROUNDINGS = {
    "rnear_even": "nearest_even",
    "rnear_maxMag": "nearest_away",
    "rminMag": "toward_zero",
    "rmin": "floor",
    "rmax": "ceil",
    "rodd": "to_odd",
}


def decoded(bits: np.ndarray, name: str) -> np.ndarray:
    return qsim.decode(
        qsim.Quantized(bits, None, None, qsim.parse(FORMATS[name]), bits.shape, dtype="float64")
    )


def check_conversions(file: GoldenFile) -> Iterator[Comparison]:
    """Bits of the result; of a NaN only that it is one."""
    for name in file.names:
        found = re.fullmatch(r"(b?f\d+)_to_(b?f\d+)\.(\w+)\.z", name)
        if not found:
            continue
        source, target, rounding = found.groups()
        prefix = name.removesuffix(".z")
        file.skip(f"{prefix}.flags")
        spec = f"{FORMATS[target]}/{ROUNDINGS[rounding]}/ieee"
        ours = qsim.quantize(decoded(file[f"{prefix}.a"], source), spec)
        yield compare(prefix, ours, decoded(file[name], target))


FORMS = {"float/testfloat_*.npz": check_conversions}
