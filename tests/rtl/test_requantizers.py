"""Requantizers of every rule, threshold units and maxima in Icarus equal the emulator's integer arithmetic."""

from __future__ import annotations

import numpy as np
import pytest

from hwmodels import rtl
from qsim.arithmetic import requantize
from qsim.errors import UserError
from qsim.formats import Integer
from tests.rtl.vectors import Array, bits_of, element_of, hard_codes

POINTS = [
    ("dyadic", "int8", 32, 31),
    ("dyadic", "int8", 32, 16),
    ("dyadic", "uint4", 16, 8),
    ("dyadic", "int4", 20, 1),
    ("dyadic_even", "int8", 32, 31),
    ("dyadic_even", "uint8", 24, 12),
    ("tflite_single", "int8", 32, 31),
    ("tflite_double", "int8", 32, 31),
    ("tflite_double", "uint8", 32, 31),
    ("tflite_double", "int16", 32, 31),
    ("shift", "int8", 32, 0),
    ("shift", "uint5", 16, 0),
    ("onnx", "int8", 32, 0),
    ("onnx", "uint8", 24, 0),
    ("float", "int8", 32, 0),
    ("tflite_float", "int8", 32, 0),
]
COUNT = 2400


def multipliers(rng: np.random.Generator, reach: int) -> Array:
    """Real multipliers that bring a `reach`-bit accumulator near the result's range, and some far beyond it."""
    usual = np.exp2(rng.uniform(-reach, -4, COUNT))
    special = rng.choice([0.0, 2.0**-31, 0.5, 2.0**-8, 0.75, 2.0**-40, 1.0, 1000.0], COUNT // 8)
    usual[:: COUNT // len(special)][: len(special)] = special
    return usual


def expected_values(rule: str, acc: Array, real: Array, bits: int) -> tuple[Array, dict[str, Array]]:
    """Rescaled accumulators by the emulator, and the values of the circuit's factor ports."""
    if rule == "shift":
        shift = np.clip(-np.frexp(np.maximum(real, 1e-18))[1], 0, 62)
        return requantize.dyadic(acc, np.ones_like(acc), shift), {"shift": shift}
    if rule in ("onnx", "float", "tflite_float"):
        dtype, code = (np.float32, np.uint32) if rule == "onnx" else (np.float64, np.uint64)
        real = real.astype(dtype)
        return requantize.rescale(acc, real, rule), {"multiplier": real.view(code)}
    mantissa, shift = requantize.fixed_point(np.minimum(real, 2.0 ** (bits - 1)), bits)
    return getattr(requantize, rule)(acc, mantissa, shift), {"multiplier": mantissa, "shift": shift}


@pytest.mark.parametrize(("rule", "output", "acc_bits", "multiplier_bits"), POINTS)
def test_requantizer_equals_its_rule(rule: str, output: str, acc_bits: int, multiplier_bits: int) -> None:
    rng = np.random.default_rng(10)
    accumulator, element = Integer(acc_bits), element_of(output)
    assert isinstance(element, Integer)
    acc = accumulator.decode(hard_codes(accumulator, COUNT, rng)).astype(np.int64)
    zero_point = element.decode(hard_codes(element, COUNT, rng)).astype(np.int64)
    value, factors = expected_values(rule, acc, multipliers(rng, acc_bits), multiplier_bits)
    design = rtl.generate(rtl.Requantizer(rule, output, acc_bits, multiplier_bits))
    out = rtl.simulate(design, {"acc": acc, **factors, "zero_point": zero_point})["code"]
    assert np.array_equal(out, requantize.saturate(value + zero_point, element))
    assert len(np.unique(out)) > 1 << min(element.bits, 9) - 1, (
        "the vectors saturate too often to tell anything"
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "rule", ["dyadic", "dyadic_even", "tflite_double", "tflite_single", "onnx", "float", "tflite_float"]
)
def test_every_rule_at_ties(rule: str) -> None:
    """acc / 8 for every acc of 12 bits: each eighth value is half way between two codes."""
    acc = np.arange(-2048, 2048)
    zero = np.zeros(len(acc), np.int64)
    value, factors = expected_values(rule, acc, np.full(len(acc), 0.125), 31)
    design = rtl.generate(rtl.Requantizer(rule, "int10", 32, 31))
    out = rtl.simulate(design, {"acc": acc, **factors, "zero_point": zero})["code"]
    assert np.array_equal(out, np.clip(value, -512, 511))


@pytest.mark.parametrize(
    ("spec", "output", "rule"), [("int12", "uint3", "dyadic"), ("int14", "uint4", "onnx")]
)
def test_thresholds_replace_a_requantizer(spec: str, output: str, rule: str) -> None:
    """Thresholds at the first accumulator of every code give what requantizing gives, for every accumulator."""
    accumulator, element = element_of(spec), element_of(output)
    assert isinstance(accumulator, Integer) and isinstance(element, Integer)
    acc = np.arange(accumulator.lowest_code, accumulator.largest_code + 1)
    codes = requantize.requantize(acc, 6.3 / 2**accumulator.bits, rule, element)
    thresholds = acc[np.searchsorted(codes, np.arange(1, codes.max() + 1))]
    design = rtl.generate(rtl.ThresholdUnit(spec, len(thresholds)))
    rows = np.broadcast_to(thresholds, (len(acc), len(thresholds)))
    out = rtl.simulate(design, {"x": acc, "thresholds": rows})["level"]
    assert np.array_equal(out, codes)


@pytest.mark.parametrize(("spec", "lanes"), [("int4", 4), ("uint5", 3), ("int8", 9)])
def test_maximum(spec: str, lanes: int) -> None:
    element = element_of(spec)
    codes = hard_codes(element, 500 * lanes, np.random.default_rng(11)).reshape(-1, lanes)
    out = rtl.simulate(rtl.generate(rtl.Maximum(spec, lanes)), {"words": codes})["largest"]
    assert np.array_equal(out, element.decode(codes).max(axis=1))


@pytest.mark.parametrize("spec", ["int8", "uint6", "fixed6.2"])
def test_threshold_unit_counts_for_any_order(spec: str) -> None:
    element, rng = element_of(spec), np.random.default_rng(12)
    x, thresholds = hard_codes(element, 2000, rng), hard_codes(element, 14000, rng).reshape(2000, 7)
    out = rtl.simulate(rtl.generate(rtl.ThresholdUnit(spec, 7)), {"x": x, "thresholds": thresholds})["level"]
    reached = element.decode(x)[:, None] >= element.decode(thresholds)
    assert np.array_equal(out, bits_of(reached.sum(axis=1), 3))


@pytest.mark.parametrize(
    ("circuit", "message"),
    [
        (rtl.Requantizer("nearest", "int8"), "unknown requantization rule"),
        (rtl.Requantizer("dyadic", "float16"), "int or uint"),
        (rtl.Requantizer("tflite_double", "int8", 24), "32-bit"),
        (rtl.ThresholdUnit("float16", 3), "threshold unit takes"),
    ],
)
def test_what_has_no_circuit_is_one_clear_error(circuit: rtl.Circuit, message: str) -> None:
    with pytest.raises(UserError, match=message):
        rtl.generate(circuit)
