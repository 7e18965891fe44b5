"""Format converters and floating adders in Icarus equal the emulator's casts: every code of 16-bit sources."""

from __future__ import annotations

import numpy as np
import pytest

from hwmodels import rtl
from qsim.arithmetic import add
from qsim.errors import UserError
from qsim.spec import ROUNDINGS
from tests.rtl.vectors import bits_of, element_of, hard_codes, pairs, unsigned_codes

CONVERSIONS = [
    ("e5m10-inf-nan", "e4m3-inf-nan"),
    ("float16", "e4m3fn"),
    ("float16", "e5m2/ieee"),
    ("float16", "e4m3fnuz/ieee"),
    ("float16", "binary8p3se/saturate_finite"),
    ("float16", "e3m0-inf-nan"),
    ("float16", "e4m3-subnormals"),
    ("float16", "e4m3-sign/saturate_zero"),
    ("float16", "bfloat16/ieee"),
    ("bfloat16", "float16/toward_zero/ieee"),
    ("bfloat16", "float16/floor/ieee"),
    ("e5m2fnuz", "float16"),
    ("binary8p4se", "e5m2/ieee"),
    ("e4m3-subnormals", "e5m3-inf-nan"),
    ("float32", "tf32/nearest_away/ieee"),
    ("float16", "int8"),
    ("float16", "uint4/saturate_zero"),
    ("bfloat16", "fixed12.3/ceil"),
    ("e4m3fnuz", "fixed10.4/nearest_odd/saturate_symmetric"),
    ("e4m3-inf-nan", "fixed6.3/floor/wrap"),
    ("e4m3-inf-nan", "fixed6.3/nearest_down/wrap_sign_magnitude"),
    ("int16", "e4m3fn"),
    ("uint16", "float16/ieee"),
    ("int16", "bfloat16/to_odd"),
    ("fixed12.-3", "e4m3fn-sign"),
    ("bipolar4", "e2m3fn"),
    ("int16", "int8"),
    ("fixed16.8", "fixed8.4/floor/wrap"),
    ("fixed16.8", "fixed8.4/nearest_away/wrap_sign_magnitude"),
    ("fixed12.4", "ufixed10.6/nearest_up/saturate_zero"),
    ("fixed9.9", "int12"),
]


def check(source: str, target: str) -> None:
    element = element_of(source)
    if element.bits <= 16:
        codes = np.arange(1 << element.bits)
    else:
        codes = hard_codes(element, 20000, np.random.default_rng(8))
    values = element.decode(codes)
    result = element_of(target)
    allowed = np.ones(len(codes), bool) if result.has_nan else np.isfinite(values) | np.isinf(values)
    codes, values = codes[allowed], values[allowed]
    out = rtl.simulate(rtl.generate(rtl.Converter(source, target)), {"x": codes})["y"]
    assert np.array_equal(bits_of(out, result.bits), unsigned_codes(values, target))


@pytest.mark.parametrize(
    ("source", "target"),
    [*CONVERSIONS[:2], *(pytest.param(*pair, marks=pytest.mark.slow) for pair in CONVERSIONS[2:])],
)
def test_converter_equals_the_emulators_cast(source: str, target: str) -> None:
    check(source, target)


@pytest.mark.slow
@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_every_rounding_of_floats_and_of_fixed_point(rounding: str) -> None:
    check("e4m6-inf-nan", f"e3m2fn/{rounding}")
    check("fixed10.5", f"fixed6.4/{rounding}")


@pytest.mark.slow
@pytest.mark.parametrize(
    "spec", ["e4m3-inf-nan", "e5m2/ceil", "e2m5-inf-nan/floor", "e4m3fnuz", "float16", "float32"]
)
def test_adder_equals_a_sum_rounded_once(spec: str) -> None:
    element = element_of(spec)
    a, b = pairs(element, element, np.random.default_rng(9), 5000)
    out = rtl.simulate(rtl.generate(rtl.Adder(spec)), {"a": a, "b": b})["sum"]
    expected = add(element.decode(a), element.decode(b), spec)
    assert np.array_equal(out, unsigned_codes(expected, spec))


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("float16", "e8m0", "e8m0"),
        ("float16", "nf4", "no circuit converts"),
        ("posit8.1", "float16", "no circuit converts"),
        ("int8@tensor:float32", "int4", "without scales"),
        ("float16", "e4m3fn/stochastic3", "stochastic"),
    ],
)
def test_conversions_without_a_circuit_are_one_clear_error(source: str, target: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        rtl.generate(rtl.Converter(source, target))
