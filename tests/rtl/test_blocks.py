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
