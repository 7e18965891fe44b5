"""Family `numfmt`: tables of number formats and casts to them, by gfloat, ml_dtypes and torch."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

import qsim
from tests.golden.harness import Comparison, GoldenFile, compare

ROUNDINGS = {
    "TiesToEven": "nearest_even",
    "TiesToAway": "nearest_away",
    "TowardZero": "toward_zero",
    "TowardPositive": "ceil",
    "TowardNegative": "floor",
    "ToOdd": "to_odd",
    "ToOdd_own": "to_odd",
}
STOCHASTIC = {
    "Stochastic": "stochastic{k}_even",
    "StochasticOdd": "stochastic{k}_odd",
    "StochasticFast": "stochastic{k}_centered",
    "StochasticFastest": "stochastic{k}",
}
OVERFLOWS = {"sat": "saturate", "nosat": "ieee"}
OCP = {
    "e4m3": "e4m3fn",
    "e5m2": "e5m2",
    "e2m1": "e2m1fn",
    "e2m3": "e2m3fn",
    "e3m2": "e3m2fn",
    "int8": "fixed8.2",
}
CONVENTIONS = {"ieee": "", "fn": "-inf", "fin": "-inf-nan", "fnuz": "fnuz"}
IEEE = {"binary16": "float16", "binary32": "float32", "binary64": "float64"}


def element_of(name: str, facts: Mapping[str, Any] | None = None) -> str:
    """Our expression for a format name of gfloat or ml_dtypes, or for the facts of a format with another name."""
    if name.startswith("ocp_"):
        return OCP.get(name[4:], name[4:])
    if found := re.fullmatch(r"(e\d+m\d+)_(ieee|fn|fin|fnuz)", name):
        return found[1] + CONVENTIONS[found[2]]
    name = IEEE.get(name, name)
    return name if facts is None or is_spec(name) else element_with(facts)


def element_with(facts: Mapping[str, Any]) -> str:
    """Our expression for gfloat's facts of a format (`__meta__["format"]`)."""
    has_inf, has_nan = facts["domain"] == "extended", facts["num_nans"] > 0
    suffix = "fnuz" if has_nan and not has_inf and not facts["has_nz"] else ""
    modifiers = "" if has_inf or suffix else "-inf" if has_nan else "-inf-nan"
    sign = "" if facts["signed"] else "-sign"
    return f"e{facts['expBits']}m{facts['precision'] - 1}{suffix}+bias{facts['bias']}{modifiers}{sign}"


def is_spec(name: str) -> bool:
    try:
        qsim.parse(name)
    except qsim.SpecError:
        return False
    return True


def decoded(element: str, codes: np.ndarray) -> np.ndarray:
    spec = qsim.parse(element)
    return qsim.decode(qsim.Quantized(codes, None, None, spec, codes.shape, dtype="float64"))


def check_tables(file: GoldenFile) -> Iterator[Comparison]:
    for name in file.names:
        yield compare(name, decoded(element_of(name), np.arange(len(file[name]))), file[name])


def cast_of(mode: str) -> tuple[str, str | None]:
    """("/rounding/overflow", name of the random bits) of an array name "<Mode>[.k<k>].<sat|nosat>"."""
    rounding, *k, overflow = mode.split(".")
    if k:
        return f"/{STOCHASTIC[rounding].format(k=k[0][1:])}/{OVERFLOWS[overflow]}", f"srbits_{k[0]}"
    return f"/{ROUNDINGS[rounding]}/{OVERFLOWS[overflow]}", None


def check_round(file: GoldenFile) -> Iterator[Comparison]:
    """Values of every mode, and codes where the value is not NaN."""
    element, x, table = element_of(file.meta["format"]["name"], file.meta["format"]), file["x"], file["table"]
    yield compare("table", decoded(element, np.arange(len(table))), table)
    for mode in file.names:
        if mode in ("x", "table") or mode.startswith("srbits_"):
            continue
        cast, bits = cast_of(mode)
        options = {} if bits is None else {"random_bits": file[bits].astype(np.int64)}
        spec = element + cast
        golden = table[file[mode]]
        yield compare(mode, qsim.decode(qsim.encode(x, spec, **options)), golden.astype(np.float32))
        is_number = ~np.isnan(golden)
        codes = compare(
            f"{mode} codes", qsim.encode(x, spec, **options).codes[is_number], file[mode][is_number]
        )
        ours = compare(f"{mode} quantize", qsim.quantize(x, spec, **options), golden.astype(np.float32))
        yield from (
            replace(result, vectors=0) for result in (codes, ours)
        )  # the same vectors in two more ways


def check_mldtypes(file: GoldenFile) -> Iterator[Comparison]:
    """ml_dtypes and torch each have one cast: to nearest even, and an overflow read from their code of infinity.

    NaN in a format without NaN is an error of ours and a zero of theirs: those inputs are left out.
    """
    name, table = re.sub("^mldtypes_", "", file.path.stem), file["table"]
    yield compare("table", decoded(name, np.arange(len(table))), table)
    has_nan = np.isnan(table).any()
    for source in ("code_ml_dtypes_f32", "code_torch_f32"):
        if source not in file:
            continue
        golden, x = table[file[source]], file["x"]
        overflow = "saturate" if np.isfinite(golden[np.isposinf(x)]).all() or not has_nan else "ieee"
        known = ~np.isnan(x) | has_nan
        yield compare(source, qsim.quantize(x[known], f"{name}/{overflow}"), golden[known].astype(np.float32))
    file.skip("code_ml_dtypes_f64")  # rounds twice, through float32
    overflow = "ieee" if has_nan else "saturate"
    yield compare("float64", qsim.quantize(file["x64"], f"{name}/{overflow}"), file["value_exact_f64"])


FORMS = {
    "numfmt/tables_*.npz": check_tables,
    "numfmt/round_*.npz": check_round,
    "numfmt/mldtypes_*.npz": check_mldtypes,
}
