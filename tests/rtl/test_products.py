"""Multipliers and dot units in Icarus equal exact products, for every pair of codes of 16 bits or fewer in all."""

from __future__ import annotations

import numpy as np
import pytest

import qsim
from hwmodels import rtl
from qsim.arithmetic import multiply
from qsim.errors import UserError
from tests.rtl.vectors import bits_of, element_of, finite_codes, hard_codes, pairs, unsigned_codes

EXACT = [
    ("int2", "int2"),
    ("int8", "int8"),
    ("int4", "uint4"),
    ("uint8", "int3"),
    ("uint5", "uint5"),
    ("int16", "int16"),
    ("fixed8.2", "ufixed6.8"),
    ("ternary", "int8"),
    ("bipolar3", "uint4"),
    ("binary", "int6"),
    ("e4m3-inf-nan", "e4m3-inf-nan"),
    ("e5m2", "e3m0-inf-nan"),
    ("e2m1fn", "e3m2fn"),
    ("e4m3fn-subnormals", "e2m1fn"),
    ("float16", "bfloat16"),
    ("int4", "e4m3fn"),
    ("e5m2", "uint8"),
    ("pot3", "int8"),
    ("pot2", "e4m3fn"),
]
ROUNDED = [
    ("e4m3-inf-nan", "e4m3-inf-nan", "e4m3-inf-nan"),
    ("e3m4-inf-nan", "e3m4-inf-nan", "e3m4-inf-nan/toward_zero"),
    ("e4m3fn", "e5m2", "e5m10-inf-nan"),
    ("e5m2", "e5m2", "e4m3fn/nearest_away/ieee"),
    ("e4m3fn", "e4m3fn", "e4m3fnuz/to_odd"),
    ("float16", "float16", "float16/ieee"),
    ("int8", "int8", "bfloat16/ceil"),
    ("e4m3fn", "int6", "fixed8.6/nearest_zero"),
    ("fixed8.2", "fixed8.2", "fixed8.4/floor/wrap"),
]


@pytest.mark.parametrize(("weight", "activation"), EXACT)
def test_exact_multiplier(weight: str, activation: str) -> None:
    design = rtl.generate(rtl.Multiplier(weight, activation))
    a, b = element_of(weight), element_of(activation)
    w, x = pairs(a, b, np.random.default_rng(1))
    out = rtl.simulate(design, {"weight": w, "activation": x})
    expected = multiply(a.decode(w), b.decode(x), "float64")
    if "product" in out:
        port = design.outputs[0]
        assert np.array_equal(np.ldexp(out["product"].astype(float), port.step_exponent), expected)
        return
    magnitude = out["significand"].astype(float)
    unit = design.outputs[2].step_exponent
    assert np.array_equal(np.ldexp(magnitude, out["exponent"] + unit), np.abs(expected))
    assert np.array_equal(out["sign"], np.signbit(expected))


@pytest.mark.slow
@pytest.mark.parametrize(("weight", "activation", "product"), ROUNDED)
def test_rounded_multiplier(weight: str, activation: str, product: str) -> None:
    design = rtl.generate(rtl.Multiplier(weight, activation, product))
    a, b = element_of(weight), element_of(activation)
    w, x = pairs(a, b, np.random.default_rng(2))
    out = rtl.simulate(design, {"weight": w, "activation": x})["product"]
    expected = unsigned_codes(multiply(a.decode(w), b.decode(x), product), product)
    assert np.array_equal(bits_of(out, element_of(product).bits), expected)


@pytest.mark.parametrize(
    ("weight", "activation", "lanes"),
    [
        ("int2", "int2", 4),
        ("int8", "uint8", 9),
        ("uint4", "bipolar2", 3),
        ("fixed6.2", "fixed7.3", 5),
        ("binary", "binary", 8),
        ("binary", "binary", 37),
        ("ternary", "ternary", 4),
        ("e2m1fn", "e2m1fn", 2),
        ("e4m3fn", "e5m2", 8),
        ("e4m3fn", "int8", 4),
        ("pot2", "int8", 6),
        ("apot2x2", "int8", 3),
    ],
)
def test_dot_unit_equals_an_exact_matmul(weight: str, activation: str, lanes: int) -> None:
    design = rtl.generate(rtl.DotUnit(weight, activation, lanes))
    a, b = element_of(weight), element_of(activation)
    rng = np.random.default_rng(3)
    bits = lanes * (a.bits + b.bits)
    if bits <= 16 and len(finite_codes(a)) == 1 << a.bits and len(finite_codes(b)) == 1 << b.bits:
        every = np.arange(1 << bits)
        w = np.stack([every >> i * a.bits & (1 << a.bits) - 1 for i in range(lanes)], 1)
        x = np.stack([every >> lanes * a.bits + i * b.bits & (1 << b.bits) - 1 for i in range(lanes)], 1)
    else:
        w, x = (hard_codes(e, 1500 * lanes, rng).reshape(-1, lanes) for e in (a, b))
    out = rtl.simulate(design, {"weight": w, "activation": x})["sum"]
    expected = qsim.matmul(b.decode(x)[:, None, :], a.decode(w)[:, :, None])[:, 0, 0]
    assert np.array_equal(np.ldexp(out.astype(float), design.outputs[0].step_exponent), expected)


@pytest.mark.parametrize(
    ("weight", "activation", "lanes"),
    [("e2m1fn", "e2m1fn", 2), ("e2m3fn", "e3m2fn", 8), ("e3m0-inf-nan", "e2m1fn", 5), ("pot2", "e2m1fn", 3)],
)
def test_a_dot_unit_that_decodes_to_integers_gives_the_same_sums(
    weight: str, activation: str, lanes: int
) -> None:
    a, b = element_of(weight), element_of(activation)
    rng = np.random.default_rng(31)
    w, x = (hard_codes(e, 1000 * lanes, rng).reshape(-1, lanes) for e in (a, b))
    design = rtl.generate(rtl.DotUnit(weight, activation, lanes, decoded=True))
    out = rtl.simulate(design, {"weight": w, "activation": x})["sum"]
    expected = qsim.matmul(b.decode(x)[:, None, :], a.decode(w)[:, :, None])[:, 0, 0]
    assert np.array_equal(np.ldexp(out.astype(float), design.outputs[0].step_exponent), expected)


@pytest.mark.parametrize(("spec", "lanes"), [("int4", 1), ("int4", 4), ("int8", 7), ("fixed6.2", 32)])
def test_an_adder_tree_is_a_sum(spec: str, lanes: int) -> None:
    element = element_of(spec)
    words = hard_codes(element, 500 * lanes, np.random.default_rng(32)).reshape(-1, lanes)
    design = rtl.generate(rtl.AdderTree(spec, lanes))
    out = rtl.simulate(design, {"words": words if lanes > 1 else words[:, 0]})["sum"]
    expected = element.decode(words).sum(axis=1)
    assert np.array_equal(np.ldexp(out.astype(float), design.outputs[0].step_exponent), expected)


@pytest.mark.parametrize(
    ("circuit", "message"),
    [
        (rtl.DotUnit("int4", "e2m1fn", 4, decoded=True), "only floats and powers of two are decoded"),
        (rtl.AdderTree("uint4", 4), "an adder tree takes int"),
        (rtl.Multiplier("nf4", "int8"), "no circuit multiplies nf4"),
        (rtl.Multiplier("int8", "apot2x2"), "can only be the weight"),
        (rtl.Multiplier("int8", "int8", "float16/stochastic4"), "stochastic"),
        (rtl.Multiplier("apot2x2", "int8"), "DotUnit"),
    ],
)
def test_what_has_no_circuit_is_one_clear_error(circuit: rtl.Circuit, message: str) -> None:
    with pytest.raises(UserError, match=message):
        rtl.generate(circuit)
