"""Block dot units (MX, NVFP4) in Icarus equal qsim.matmul of encoded operands, scales of every size included."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import qsim
from hwmodels import rtl
from qsim import Mac, Quantized
from qsim.errors import UserError
from tests.rtl.vectors import hard_codes, unsigned_codes

BLOCKS = [
    ("mxfp8_e4m3", "mxfp8_e4m3", "float32", None),
    ("mxfp8_e5m2", "mxfp8_e4m3", "float32", None),
    ("mxfp6_e2m3", "mxfp6_e3m2", "float32", None),
    ("mxfp4", "mxfp4", "float32", None),
    ("mxint8", "mxint8", "float32", None),
    ("mxfp4", "mxint8", "bfloat16", "float32"),
    ("e2m1fn@block8:e8m0", "int4@block8:e8m0", "float16", None),
    ("e2m1fn@block16:e4m3fn", "e2m1fn@block16:e4m3fn", "float32", None),
]
SEQUENCES, STEPS = 60, 4
EXPONENT_CODES = ((120, 135), (0, 60), (180, 254))


def random_operand(spec_text: str, rng: np.random.Generator) -> Quantized:
    """Hard codes [SEQUENCES, STEPS blocks] under random scales: a third each usual, tiny and huge."""
    spec = qsim.parse(spec_text)
    assert spec.granularity is not None and spec.scale is not None
    size = spec.granularity.block[0]
    shape = (SEQUENCES, STEPS * size)
    codes = hard_codes(spec.element, SEQUENCES * STEPS * size, rng).reshape(shape)
    if spec.scale.element.bits == 8 and str(spec.scale.element) == "e8m0":
        thirds = [rng.integers(low, high, (SEQUENCES // 3, STEPS)) for low, high in EXPONENT_CODES]
        scale_codes = np.concatenate(thirds)
    else:
        scale_codes = rng.integers(1, 0x7F, (SEQUENCES, STEPS))
    scale = spec.scale.element.decode(scale_codes)
    whole = Quantized(codes, scale, None, spec, shape, -1, (scale,), "float64")
    object.__setattr__(whole, "scale_codes", scale_codes)
    return whole


@pytest.mark.parametrize(
    ("weight", "activation", "partial", "register"),
    [
        *BLOCKS[::3],
        *(pytest.param(*point, marks=pytest.mark.slow) for i, point in enumerate(BLOCKS) if i % 3),
    ],
)
def test_block_dot_equals_matmul(weight: str, activation: str, partial: str, register: str | None) -> None:
    rng = np.random.default_rng(7)
    w, x = (random_operand(spec, rng) for spec in (weight, activation))
    size = w.shape[1] // STEPS
    mac = Mac(accumulator=partial, lanes=size, chunk=size, chunk_accumulator=register)
    design = rtl.generate(rtl.BlockDot(weight, activation, mac))
    first = np.tile(np.arange(STEPS) == 0, SEQUENCES).astype(int)
    vectors = {
        "first": first,
        "weight": w.codes.reshape(-1, size),
        "activation": x.codes.reshape(-1, size),
        "weight_scale": w.scale_codes.ravel(),
        "activation_scale": x.scale_codes.ravel(),
    }
    out = rtl.simulate(design, vectors)["acc"].reshape(SEQUENCES, STEPS)[:, -1]
    rows = replace(x, codes=x.codes[:, None], scale=x.scale[:, None], shape=(SEQUENCES, 1, x.shape[1]))
    columns = replace(
        w, codes=w.codes[:, :, None], scale=w.scale[:, :, None], shape=(SEQUENCES, w.shape[1], 1), axis=1
    )
    expected = np.asarray(qsim.matmul(rows, columns, mac))[:, 0, 0]
    assert np.array_equal(out, unsigned_codes(expected, register or partial))


@pytest.mark.parametrize(
    ("weight", "activation", "decoded"),
    [
        ("e2m1fn@block8:e8m0", "e2m1fn@block8:e8m0", False),
        ("e2m1fn@block8:e8m0", "e2m1fn@block8:e8m0", True),
        ("e2m3fn@block4:e8m0", "e3m2fn@block4:e8m0", True),
        ("int4@block8:e8m0", "int8@block8:e8m0", False),
    ],
)
def test_block_sum_and_scale_are_the_exact_dot_product(weight: str, activation: str, decoded: bool) -> None:
    w, x = (
        random_operand(spec, np.random.default_rng(seed)) for seed, spec in ((8, weight), (9, activation))
    )
    size = w.shape[1] // STEPS
    design = rtl.generate(rtl.BlockSum(weight, activation, decoded))
    vectors = {
        "weight": w.codes.reshape(-1, size),
        "activation": x.codes.reshape(-1, size),
        "weight_scale": w.scale_codes.ravel(),
        "activation_scale": x.scale_codes.ravel(),
    }
    out = rtl.simulate(design, vectors)
    elements = [e.spec.element.decode(e.codes).reshape(-1, size) for e in (x, w)]
    sums = qsim.matmul(elements[0][:, None, :], elements[1][:, :, None])[:, 0, 0]
    assert np.array_equal(np.ldexp(out["sum"].astype(float), design.outputs[0].step_exponent), sums)
    scales = np.ldexp(1.0, (w.scale_codes + x.scale_codes).ravel() - 254)
    assert np.array_equal(np.ldexp(1.0, out["scale"] - 254), scales)
    one_block = [
        replace(
            e, codes=e.codes.reshape(-1, 1, size), scale=e.scale.reshape(-1, 1, 1), shape=(len(sums), 1, size)
        )
        for e in (x, w)
    ]
    columns = replace(
        one_block[1], codes=one_block[1].codes.swapaxes(1, 2), shape=(len(sums), size, 1), axis=1
    )
    expected = np.asarray(qsim.matmul(one_block[0], columns))[:, 0, 0]
    assert np.array_equal(sums * scales, expected)


def test_a_block_dot_that_decodes_to_integers_gives_the_same_numbers() -> None:
    spec = "e2m1fn@block8:e8m0"
    w, x = (random_operand(spec, np.random.default_rng(seed)) for seed in (10, 11))
    mac = Mac(accumulator="float32", lanes=8, chunk=8)
    vectors = {
        "first": np.tile(np.arange(STEPS) == 0, SEQUENCES).astype(int),
        "weight": w.codes.reshape(-1, 8),
        "activation": x.codes.reshape(-1, 8),
        "weight_scale": w.scale_codes.ravel(),
        "activation_scale": x.scale_codes.ravel(),
    }
    ours = [
        rtl.simulate(rtl.generate(rtl.BlockDot(spec, spec, mac, decoded)), vectors)["acc"]
        for decoded in (False, True)
    ]
    assert np.array_equal(*ours)


@pytest.mark.parametrize(
    ("weight", "mac", "message"),
    [
        ("int8@tensor:float32", Mac(accumulator="float32", lanes=32, chunk=32), "no blocks"),
        ("mxfp4", Mac(accumulator="float32"), "common block size"),
        ("mxfp4", Mac(accumulator="int32", lanes=32, chunk=32), "floats"),
        ("e2m1fn@block32:uint8/amax", Mac(accumulator="float32", lanes=32, chunk=32), "no circuit"),
    ],
)
def test_blocks_without_a_circuit_are_one_clear_error(weight: str, mac: Mac, message: str) -> None:
    with pytest.raises(UserError, match=message):
        rtl.generate(rtl.BlockDot(weight, weight, mac))


def test_block_sums_take_powers_of_two_as_scales() -> None:
    with pytest.raises(UserError, match="must be e8m0"):
        rtl.generate(rtl.BlockSum("e2m1fn@block16:e4m3fn", "e2m1fn@block16:e4m3fn"))
