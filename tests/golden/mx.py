"""Family `mx`, casts: block formats by microxcaling, torchao and gfloat."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

import qsim
from tests.golden.harness import Comparison, GoldenFile, compare

# microxcaling's names: its "nearest" is half away from zero, its "floor" drops the fraction.
ROUNDINGS = {"nearest": "/nearest_away", "even": "", "floor": "/toward_zero"}


def microxcaling_element(name: str) -> str:
    """fp8_e4m3 -> e4m3fn; its int<N> is sign and magnitude, which has a -0, so a float without exponent."""
    if found := re.fullmatch(r"int(\d+)", name):
        return f"e1m{int(found[1]) - 2}+bias1-inf-nan"
    name = "e2m1" if name == "fp4" else re.sub(r"^fp\d+_", "", name)
    return name if name == "e5m2" else f"{name}fn"


def scale_element(bits: int) -> str:
    """microxcaling's scale of `bits` bits: exponents from -(2^(bits-1) - 1) to 2^(bits-1) - 1."""
    return "e8m0" if bits in (0, 8) else f"e{bits}m0+bias{1 << bits - 1}-inf-nan-sign"


def microxcaling_input(x: np.ndarray) -> np.ndarray:
    """microxcaling multiplies by torch.sign(x) and so reads -0 as 0."""
    return np.where(x == 0, np.float32(0), x)


def flushed(x: np.ndarray, block: int, axis: int) -> np.ndarray:
    """`flush`: blocks whose largest magnitude is subnormal in float32 are read as zeros."""
    spec = (
        f"uint1@block{block}:float32"  # uint1 has the largest value 1, so its scale is the largest magnitude
    )
    q = qsim.encode(np.abs(x), spec, axis=axis)
    largest = np.repeat(q.scale, block, axis=axis).take(range(x.shape[axis]), axis=axis)
    return np.where(largest < np.finfo(np.float32).tiny, np.float32(0), x)


def patched(file: GoldenFile, name: str) -> np.ndarray:
    """The array with what the source's float32 log2 gets wrong put right, as README.md says."""
    golden = file[name].copy()
    if f"{name}.diff_idx" in file:
        golden.flat[file[f"{name}.diff_idx"]] = file[f"{name}.diff_exact"]
    return golden


def check_quantize(file: GoldenFile) -> Iterator[Comparison]:
    meta, axis = file.meta, file.meta["axis"]
    x = microxcaling_input(file["x"])
    scale = scale_element(meta.get("scale_bits", 8))
    for name in file.names:
        element, *mode = name.split(".")
        if mode == ["shared_exp_exact"]:
            spec = f"{microxcaling_element(element)}@block{meta['block_size']}:{scale}"
            exponents = np.frexp(qsim.encode(x, spec, axis=axis).scale)[1] - 1
            yield compare(name, exponents, file[name])
        elif len(mode) == 2:
            rounding, flush = mode
            spec = f"{microxcaling_element(element)}{ROUNDINGS[rounding]}@block{meta['block_size']}:{scale}"
            given = x if {"flush": False, "noflush": True}[flush] else flushed(x, meta["block_size"], axis)
            yield compare(name, qsim.quantize(given, spec, axis=axis), patched(file, name))


def check_elementwise(file: GoldenFile) -> Iterator[Comparison]:
    """bfloat<N>: 8 exponent bits, N - 9 mantissa bits, overflow to infinity."""
    x = microxcaling_input(file["x"])
    for name in file.names:
        if name == "x" or name.count(".") != 1:
            continue
        element, rounding = name.split(".")
        spec = f"e8m{int(element.removeprefix('bfloat')) - 9}{ROUNDINGS[rounding]}/ieee"
        yield compare(name, qsim.quantize(x, spec), patched(file, name))


def check_matmul_operands(file: GoldenFile) -> Iterator[Comparison]:
    """Both operands quantized along K; with bfloat=16 they are rounded to bfloat16 first."""
    meta = file.meta
    for operand, axis, kind in (("a", -1, "a_format"), ("b", -2, "w_format")):
        x = microxcaling_input(file[operand])
        rounding = ROUNDINGS[meta["round"]]
        if meta["bfloat"]:
            x = qsim.quantize(x, f"e8m{meta['bfloat'] - 9}{rounding}/ieee")
        spec = f"{microxcaling_element(meta[kind])}{rounding}@block{meta['block_size']}:e8m0"
        yield compare(f"q{operand}", qsim.quantize(x, spec, axis=axis), file[f"q{operand}"])


def check_gfloat(file: GoldenFile) -> Iterator[Comparison]:
    for name in file.names:
        if name != "x":
            element = "fixed8.2" if name == "int8" else microxcaling_element(name)
            spec = f"{element}@block{file.meta['block_size']}:e8m0/floor"
            yield compare(name, qsim.quantize(file["x"], spec), file[name])


def check_torchao(file: GoldenFile) -> Iterator[Comparison]:
    """Elements and scale bytes. Where the byte is 0 torchao divides by another scale (README.md)."""
    block = file.meta["block_size"]
    for name in file.names:
        if name == "x" or name.count(".") != 1:
            continue
        element, rule = name.split(".")
        q = qsim.encode(file["x"], f"{microxcaling_element(element)}@block{block}:e8m0/{rule}")
        golden_scale = file[f"{name}.scale_e8m0"]
        yield compare(f"{name} scale", qsim.encode(q.scale, "e8m0").codes, golden_scale)
        is_other = np.repeat(golden_scale == 0, block, axis=-1)[:, : file["x"].shape[-1]]
        yield compare(name, qsim.decode(q), file[name], allow=is_other)


def check_nvfp4(file: GoldenFile) -> Iterator[Comparison]:
    """Block scales are clamped to the normal numbers of E4M3, which is e4m3fn without subnormals; elements are
    multiplied by (1 / global) / block."""
    block, golden = file.meta["block_size"], file["global_scale"]
    smallest = file.meta.get("notes", {}).get("e4m3_scale_min", 2.0**-6)
    scale = "e4m3fn-subnormals" if smallest == 2.0**-6 else "e4m3fn"
    outer = "" if golden == 1 else "@tensor:float32"
    q = qsim.encode(file["x"], f"e2m1fn@block{block}:{scale}{outer}", affine="reciprocal")
    if outer:
        yield compare("global_scale", q.levels[1], golden)
    yield compare("scale_e4m3", q.levels[0], file["scale_e4m3"])
    yield compare("scale_e4m3_bits", qsim.encode(q.levels[0], scale).codes, file["scale_e4m3_bits"])
    yield compare("e2m1_codes", q.codes, file["e2m1_codes"])
    elements = qsim.decode(qsim.Quantized(q.codes, None, None, qsim.parse("e2m1fn"), q.shape))
    yield compare("e2m1_values", elements, file["e2m1_values"])
    yield compare("dequant", qsim.decode(q), file["dequant"])


FORMS = {
    "mx/quantize_*.npz": check_quantize,
    "mx/elementwise_*.npz": check_elementwise,
    "mx/matmul_*.npz": check_matmul_operands,
    "mx/gfloat_*.npz": check_gfloat,
    "mx/torchao_*.npz": check_torchao,
    "mx/nvfp4_*.npz": check_nvfp4,
}
