"""Random multiply-accumulate units and operands that fit them."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

import qsim
from qsim.arithmetic import Mac

OPERANDS = (
    "e4m3fn",
    "e5m2",
    "e2m1fn",
    "float16",
    "bfloat16",
    "float32",
    "int8",
    "uint4",
    "fixed8.3",
    "e3m2fn",
)
ROUNDINGS = (
    *("nearest_even", "nearest_away", "nearest_zero", "nearest_up", "nearest_down", "nearest_odd"),
    *("floor", "ceil", "toward_zero", "away_from_zero", "to_odd"),
    *("stochastic4", "stochastic8_even", "stochastic3_odd", "stochastic2_centered"),
)
FLOATS = (
    "float16",
    "bfloat16",
    "e5m2",
    "e4m3fn",
    "e6m9",
    "e4m3-inf-nan",
    "e5m10-subnormals",
    "float32",
    "e3m4fnuz",
)
FIXED = ("int8", "int16", "int32", "uint8", "fixed16.8", "fixed12.3", "ufixed10.4", "fixed20.12", "fixed24.2")


@st.composite
def casts(draw: st.DrawFn) -> str:
    """An element with a rounding and an overflow that it can have."""
    element = draw(st.sampled_from(FLOATS + FIXED))
    overflows = ["saturate", "saturate_finite", "saturate_symmetric", "saturate_zero"]
    if element in FIXED:
        overflows.append("wrap")
        overflows += [] if element.startswith("u") else ["wrap_sign_magnitude"]
    elif element != "e4m3-inf-nan":
        overflows.append("ieee")
    return f"{element}/{draw(st.sampled_from(ROUNDINGS))}/{draw(st.sampled_from(overflows))}"


@st.composite
def macs(draw: st.DrawFn) -> Mac:
    accumulator = draw(st.one_of(st.just("exact"), casts(), casts(), casts()))
    chunk = draw(st.one_of(st.none(), st.integers(1, 6)))
    return Mac(
        product=draw(st.one_of(st.just("exact"), st.just("exact"), casts())),
        accumulator=accumulator,
        lanes=draw(st.sampled_from((1, 1, 2, 3, 4, 8))),
        order=draw(st.sampled_from(("sequential", "sequential", "pairwise"))),
        chunk=chunk,
        chunk_accumulator=None if chunk is None else draw(st.one_of(st.none(), casts(), st.just("exact"))),
        align_bits=draw(st.one_of(st.none(), st.none(), st.integers(3, 24))),
        saturate=draw(st.sampled_from(("step", "step", "end"))),
    )


@st.composite
def operands(draw: st.DrawFn, rows: int = 2, columns: int = 2) -> tuple[Any, Any]:
    """a [rows, K] and b [K, columns]: random numbers of two formats, over their range or around 1, some zeros."""
    length = draw(st.integers(1, 13))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shapes = ((rows, length), (length, columns))
    return tuple(_numbers(rng, draw(st.sampled_from(OPERANDS)), shape) for shape in shapes)  # type: ignore[return-value]


def _numbers(rng: np.random.Generator, element: str, shape: tuple[int, int]) -> Any:
    spread = rng.choice([0.3, 1.0, 30.0, 3e4])
    values = rng.standard_normal(shape) * spread * np.exp2(rng.integers(-4, 4, shape) * rng.integers(0, 3))
    values[rng.random(shape) < 0.1] = 0.0
    return qsim.quantize(values * rng.choice([-1.0, 1.0], shape), element)
