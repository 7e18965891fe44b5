"""MAC units in Icarus equal qsim.matmul with the same Mac, after every step of the accumulator."""

from __future__ import annotations

import numpy as np
import pytest

import qsim
from hwmodels import rtl
from qsim import Mac
from qsim.errors import UserError
from tests.rtl.vectors import Array, bits_of, element_of, hard_codes, unsigned_codes

GOLDEN_E4M3, GOLDEN_E5M10 = "e4m3-inf-nan", "e5m10-inf-nan"
MACS = [
    ("int8", "int8", Mac(accumulator="int32/floor/wrap")),
    ("int8", "uint8", Mac(accumulator="int16")),
    ("int8", "uint8", Mac(accumulator="int16/floor/wrap", lanes=3)),
    ("uint4", "uint4", Mac(accumulator="uint9")),
    ("int4", "bipolar2", Mac(accumulator="int8/saturate_symmetric")),
    ("fixed8.3", "fixed8.2", Mac(accumulator="fixed16.8/floor/wrap")),
    ("fixed8.3", "fixed8.2", Mac(accumulator="fixed10.5/nearest_even")),
    ("fixed8.3", "fixed8.2", Mac(product="fixed9.5/nearest_away", accumulator="fixed12.7/floor", lanes=2)),
    ("fixed6.3", "ufixed5.1", Mac(accumulator="fixed20.6/ceil/wrap_sign_magnitude")),
    ("int8", "int8", Mac()),
    ("pot3", "int8", Mac(accumulator="fixed20.12/floor/wrap")),
    ("apot2x2", "int4", Mac()),
    (GOLDEN_E4M3, GOLDEN_E4M3, Mac()),
    ("e5m2", "e5m2", Mac(lanes=4)),
    ("e2m1fn", "e3m2fn", Mac(accumulator="fixed12.8")),
    ("int4", "e4m3fn", Mac()),
    (GOLDEN_E4M3, GOLDEN_E4M3, Mac(product=GOLDEN_E5M10, accumulator=GOLDEN_E5M10)),
    ("e3m2fn", "e2m3fn", Mac(product="e3m2fn", accumulator="e4m3fn")),
    ("e4m3fn", "e5m2", Mac(accumulator="float16")),
    ("e4m3fn", "e4m3fn", Mac(accumulator="float32")),
    ("float16", "float16", Mac(product="float16", accumulator="float32")),
    ("bfloat16", "bfloat16", Mac(accumulator="float32")),
    ("e4m3fn", "e4m3fn", Mac(accumulator="bfloat16/toward_zero", lanes=4)),
    ("e5m2", "e5m2", Mac(accumulator="e5m2/floor", lanes=2)),
    ("e5m2", "e5m2", Mac(accumulator="float16/ieee")),
    ("e5m2", "e4m3fn", Mac(accumulator="e5m2/ieee", lanes=2)),
    ("int8", "int8", Mac(accumulator="e5m2/toward_zero/ieee")),
    ("e5m2", "e5m2", Mac(accumulator="e5m2/to_odd")),
    ("e5m2", "e3m2fn", Mac(accumulator="e4m3fnuz/nearest_up")),
    ("e4m3fn-subnormals", "e4m3fn", Mac(accumulator="e5m3-inf-nan-subnormals")),
    ("int4", "e4m3fn", Mac(accumulator="bfloat16")),
    ("int8", "int8", Mac(product="e5m7", accumulator="e6m9", lanes=2)),
    ("pot2", "e4m3fn", Mac(accumulator="float16/nearest_away")),
    ("float32", "float32", Mac(accumulator="float32")),
]
STEPS = 6
SEQUENCES = 120


def run(design: rtl.Design, weight: Array, activation: Array, **extra: Array) -> Array:
    """The accumulator after every step, [sequences, steps]; weight and activation [sequences, steps, lanes]."""
    sequences, steps, lanes = weight.shape
    first = np.tile(np.arange(steps) == 0, sequences).astype(int)
    vectors = {
        "first": first,
        "weight": weight.reshape(-1, lanes),
        "activation": activation.reshape(-1, lanes),
    }
    more = {name: np.repeat(values, steps) for name, values in extra.items()}
    return rtl.simulate(design, vectors | more)["acc"].reshape(sequences, steps)


def check(out: Array, expected: Array, design: rtl.Design, accumulator: str) -> None:
    if accumulator == "exact":
        assert np.array_equal(out.astype(float) * 2.0 ** design.outputs[0].step_exponent, expected)
    else:
        assert np.array_equal(
            bits_of(out, element_of(accumulator).bits), unsigned_codes(expected, accumulator)
        )


@pytest.mark.parametrize(
    ("weight", "activation", "mac"),
    [*MACS[::2], *(pytest.param(*point, marks=pytest.mark.slow) for point in MACS[1::2])],
)
def test_mac_unit_equals_matmul_after_every_step(weight: str, activation: str, mac: Mac) -> None:
    rng = np.random.default_rng(4)
    a, b = element_of(weight), element_of(activation)
    shape = (SEQUENCES, STEPS, mac.lanes)
    w, x = (hard_codes(e, SEQUENCES * STEPS * mac.lanes, rng).reshape(shape) for e in (a, b))
    design = rtl.generate(rtl.MacUnit(weight, activation, mac, terms=STEPS * mac.lanes))
    out = run(design, w, x)
    for step in range(STEPS):
        left, right = (e.decode(codes[:, : step + 1]).reshape(SEQUENCES, -1) for e, codes in ((b, x), (a, w)))
        expected = qsim.matmul(left[:, None, :], right[:, :, None], mac)[:, 0, 0]
        check(out[:, step], expected, design, mac.accumulator)


@pytest.mark.parametrize("accumulator", ["int32/floor/wrap", "fixed14.10", "float32", "e5m4/nearest_away"])
def test_the_bias_is_where_sums_start(accumulator: str) -> None:
    rng = np.random.default_rng(5)
    mac = Mac(accumulator=accumulator)
    spec = "int6" if "float" not in accumulator and "e5" not in accumulator else "e4m3fn"
    element, target = element_of(spec), element_of(accumulator)
    w, x = (hard_codes(element, SEQUENCES * STEPS, rng).reshape(SEQUENCES, STEPS, 1) for _ in range(2))
    start = hard_codes(target, SEQUENCES, rng)
    design = rtl.generate(rtl.MacUnit(spec, spec, mac, has_bias=True))
    out = run(design, w, x, start=start)[:, -1]
    left, right = element.decode(x[:, None, :, 0]), element.decode(w)
    expected = qsim.matmul(left, right, mac, bias=target.decode(start)[:, None, None])[:, 0, 0]
    check(out, expected, design, accumulator)


def test_a_wide_exact_register_holds_every_bit() -> None:
    """float16 squares span 80 bits, more than float64 holds: compare with sums of Python integers."""
    element = element_of("float16")
    rng = np.random.default_rng(6)
    w, x = (hard_codes(element, 200, rng).reshape(50, 4, 1) for _ in range(2))
    design = rtl.generate(rtl.MacUnit("float16", "float16", Mac(), terms=4))
    assert design.outputs[0].step_exponent == -48
    out = run(design, w, x)
    steps = [np.ldexp(element.decode(codes), 24).astype(np.int64).astype(object) for codes in (w, x)]
    assert (out == np.cumsum(steps[0] * steps[1], axis=1)[:, :, 0]).all()


@pytest.mark.parametrize(
    ("mac", "message"),
    [
        (Mac(product="float16/ieee", accumulator="float16"), "may be infinite"),
        (Mac(accumulator="e4m3-sign"), "signed float"),
        (Mac(accumulator="pot3"), "no circuit accumulates"),
        (Mac(accumulator="float16", order="pairwise"), "mac.order"),
        (Mac(accumulator="float16", align_bits=10), "mac.align_bits"),
    ],
)
def test_accumulators_without_a_circuit_are_one_clear_error(mac: Mac, message: str) -> None:
    with pytest.raises(UserError, match=message):
        rtl.generate(rtl.MacUnit("e4m3fn", "e4m3fn", mac))
