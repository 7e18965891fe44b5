"""Families `fixed`, `float`, `mx`: multiply-accumulate chains, dot products, single operations, matrix products."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np

import qsim
from qsim.arithmetic import Mac, add, matmul, multiply, multiply_add
from tests.golden.fixed import cast_of
from tests.golden.float import FORMATS, ROUNDINGS, decoded
from tests.golden.harness import Comparison, GoldenFile, compare


def fixed_type(type_: dict[str, Any]) -> str:
    """{"W": 10, "I": 4, "Q": "AP_TRN", "O": "AP_WRAP"} -> fixed10.4/floor/wrap."""
    sign = "" if type_.get("signed", True) else "u"
    cast = cast_of(type_["Q"], type_["O"]) if "Q" in type_ else ""
    return f"{sign}fixed{type_['W']}.{type_['I']}{cast}"


def values_of(codes: np.ndarray, spec: str) -> np.ndarray:
    parsed = qsim.parse(spec)
    stored = codes.astype(parsed.element.code_dtype)
    return qsim.decode(qsim.Quantized(stored, None, None, parsed, codes.shape, dtype="float64"))


def codes_of(values: np.ndarray, spec: str) -> np.ndarray:
    return qsim.encode(np.asarray(values, np.float64), spec).codes.astype(np.int64)


def check_mac_chains(file: GoldenFile) -> Iterator[Comparison]:
    """Every step: the first k products of a chain are a chain of length k."""
    types = {name: fixed_type(type_) for name, type_ in file.meta["types"].items()}
    x, w, bias = (
        values_of(file[name], types[kind]) for name, kind in (("x", "x"), ("w", "w"), ("bias", "acc"))
    )
    yield compare("prod", codes_of(multiply(x, w, types["prod"]), types["prod"]), file["prod"])
    for name, product in (("via_prod", types["prod"]), ("direct", "exact")):
        mac = Mac(product=product, accumulator=types["acc"])
        sums = np.stack([chain(x[:, :k], w[:, :k], mac, bias) for k in range(1, x.shape[1] + 1)], axis=1)
        yield compare(f"acc_{name}", codes_of(sums, types["acc"]), file[f"acc_{name}"])
        yield compare(f"out_{name}", codes_of(sums[:, -1], types["out"]), file[f"out_{name}"])


def chain(x: np.ndarray, w: np.ndarray, mac: Mac, bias: np.ndarray | None = None) -> np.ndarray:
    """The dot product of every row of x with the same row of w."""
    start = None if bias is None else bias[:, None, None]
    return np.asarray(matmul(x[:, None, :], w[:, :, None], mac, bias=start))[:, 0, 0]


DOT_ROUNDINGS = {
    "near_even": "nearest_even",
    "near_maxMag": "nearest_away",
    "minMag": "toward_zero",
    "min": "floor",
    "max": "ceil",
    "odd": "to_odd",
}


def dot_unit(name: str, rounding: str) -> tuple[Mac, str, str]:
    """The unit behind an array of a dot file, the cast of its result, and the format the array holds."""
    how = f"/{rounding}/ieee"
    if found := re.fullmatch(r"(acc|tree)_f32(?:_of_exact_products|_then_round_to_(b?f\d+))?", name):
        order, target = found.groups()
        unit = Mac(accumulator=f"float32{how}", order="pairwise" if order == "tree" else "sequential")
        return unit, f"{FORMATS[target or 'f32']}{how}", target or "f32"
    found = re.fullmatch(
        r"(acc|tree)_(b?f\d+)_(mul_then_add|fma|of_exact_products|products_rounded_to_\w+)", name
    )
    if not found:
        raise LookupError(f"no unit is known for the array {name}")
    order, target, products = found.groups()
    accumulator = f"{FORMATS[target]}{how}"
    is_rounded = products == "mul_then_add" or products.startswith("products_rounded")
    order = "pairwise" if order == "tree" else "sequential"
    return Mac(accumulator if is_rounded else "exact", accumulator, order=order), accumulator, target


def check_dots(file: GoldenFile) -> Iterator[Comparison]:
    """Dot products: the accumulator starts at +0, a tree at its leaves."""
    source = re.match(r"float/dot_(b?f\d+)_", file.name)
    assert source is not None
    rounding = DOT_ROUNDINGS[file.meta["rounding"]]
    a, b = (decoded(file[name], source[1]) for name in ("a", "b"))
    for name in file.names:
        if name not in ("a", "b"):
            unit, output, target = dot_unit(name, rounding)
            yield compare(name, qsim.quantize(chain(a, b, unit), output), decoded(file[name], target))


def check_operations(file: GoldenFile) -> Iterator[Comparison]:
    """TestFloat's add, mul and mulAdd; of a NaN only that it is one."""
    operations = {"add": add, "mul": multiply, "mulAdd": multiply_add}
    for name in file.names:
        found = re.fullmatch(r"(b?f\d+)_(add|mul|mulAdd)\.(\w+)\.z", name)
        if not found:
            continue
        source, operation, rounding = found.groups()
        prefix = name.removesuffix(".z")
        file.skip(f"{prefix}.flags")
        operands = [
            decoded(file[f"{prefix}.{letter}"], source) for letter in "abc" if f"{prefix}.{letter}" in file
        ]
        ours = operations[operation](*operands, f"{FORMATS[source]}/{ROUNDINGS[rounding]}/ieee")
        yield compare(prefix, ours, decoded(file[name], source))


def check_matmul(file: GoldenFile) -> Iterator[Comparison]:
    """Exact sums equal exact_f64; float32 sums lie within README.md's bound of it, as the source's do."""
    a, b = file["qa"], file["qb"]
    exact = file["exact_f64"]
    yield compare(
        "exact_f64",
        matmul(a.astype(np.float64), b.astype(np.float64)),
        exact,
        allow=rounding_of_dot(a, b, exact),
    )
    ours = matmul(a, b, Mac(accumulator="float32"))
    if file.meta["bfloat"]:
        ours = qsim.quantize(ours, f"e8m{file.meta['bfloat'] - 9}/ieee")
    bound = a.shape[1] * 2.0**-24 * (np.abs(a).astype(np.float64) @ np.abs(b).astype(np.float64))
    if file.meta["bfloat"]:
        bound = bound + 2.0 ** -(file.meta["bfloat"] - 9) * np.abs(exact)
    yield compare("y", ours, file["y"], allow=np.abs(ours.astype(np.float64) - file["y"]) <= bound)


def rounding_of_dot(a: np.ndarray, b: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """exact_f64 is a float64 BLAS product: right to its own rounding errors, where it has any."""
    ours = matmul(a.astype(np.float64), b.astype(np.float64))
    bound = a.shape[1] * 2.0**-53 * (np.abs(a).astype(np.float64) @ np.abs(b).astype(np.float64))
    return np.abs(ours - exact) <= bound


FORMS = {
    "fixed/mac_*.npz": check_mac_chains,
    "float/dot_*.npz": check_dots,
    "float/testfloat_*.npz": check_operations,
    "mx/matmul_*.npz": check_matmul,
}
