"""The numbers of each format, against published tables and ml_dtypes."""

from __future__ import annotations

import numpy as np
import pytest

import qsim
from qsim.errors import SpecError

ml_dtypes = pytest.importorskip("ml_dtypes")


@pytest.mark.parametrize(
    "name",
    [
        "float8_e4m3fn",
        "float8_e5m2",
        "float8_e4m3",
        "float8_e3m4",
        "float8_e4m3fnuz",
        "float8_e5m2fnuz",
        "float8_e4m3b11fnuz",
        "float8_e8m0fnu",
        "float6_e2m3fn",
        "float6_e3m2fn",
        "float4_e2m1fn",
        "bfloat16",
        "float16",
    ],
)
def test_decoding_is_that_of_ml_dtypes(name: str) -> None:
    """Every code, sign of zero included."""
    element = qsim.parse(name).element
    dtype = np.dtype(getattr(ml_dtypes, name, name))
    codes = np.arange(1 << element.bits, dtype=element.code_dtype)
    with np.errstate(invalid="ignore"):
        theirs = codes.view(dtype).astype(np.float64)
    ours = element.decode(codes)
    assert np.array_equal(ours, theirs, equal_nan=True)
    known = ~np.isnan(ours)
    assert (np.signbit(ours) == np.signbit(theirs))[known].all()


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("e2m1fn", [0, 0.5, 1, 1.5, 2, 3, 4, 6]),
        ("e3m0-inf-nan", [0, 0.25, 0.5, 1, 2, 4, 8, 16]),
        ("e2m1-subnormals-inf-nan", [0, 1, 1.5, 2, 3, 4, 6]),
        ("uint2", [0, 1, 2, 3]),
        ("log2_3", [0, 2**-6, 2**-5, 2**-4, 2**-3, 2**-2, 0.5, 1]),
        ("pot2", [0, 0.125, 0.25, 0.5, 1]),
        ("power4_0.5", [0, 1, 4, 9, 16, 25, 36, 49]),
        ("posit4.0", [0, 0.25, 0.5, 0.75, 1, 1.5, 2, 4]),
        ("posit3.1", [0, 0.25, 1, 4]),
        ("ternary", [0, 1]),
        ("binary", [1]),
        ("bipolar2", [1, 3]),
        ("ufixed3.5", [0, 4, 8, 12, 16, 20, 24, 28]),
    ],
)
def test_the_numbers_from_zero_up(name: str, values: list[float]) -> None:
    ours = qsim.values(name)
    assert ours[ours >= 0].tolist() == values


def test_negative_ends() -> None:
    assert qsim.values("int3").tolist() == [-4, -3, -2, -1, 0, 1, 2, 3]
    assert qsim.values("fixed3.1").tolist() == [-1, -0.75, -0.5, -0.25, 0, 0.25, 0.5, 0.75]
    assert qsim.values("binary").tolist() == [-1, 1] and qsim.values("bipolar2").tolist() == [-3, -1, 1, 3]
    assert len(qsim.values("nf4")) == 16 and qsim.values("nf4")[0] == -1


@pytest.mark.parametrize(
    ("name", "largest", "smallest", "bits"),
    [
        ("e4m3fn", 448, 2**-9, 8),
        ("e5m2", 57344, 2**-16, 8),
        ("e4m3-inf-nan", 480, 2**-9, 8),
        ("float16", 65504, 2**-24, 16),
        ("float32", float(np.finfo(np.float32).max), 2**-149, 32),
        ("float64", float(np.finfo(np.float64).max), 5e-324, 64),
        ("e8m0", 2.0**127, 2.0**-127, 8),
        ("binary8p3se", 49152, 2**-17, 8),
        ("binary8p1se", 2.0**62, 2.0**-63, 8),
        ("posit16.2", 2.0**56, 2.0**-56, 16),
        ("fixed16.6", 32 - 2**-10, 2**-10, 16),
    ],
)
def test_facts_that_follow(name: str, largest: float, smallest: float, bits: int) -> None:
    element = qsim.parse(name).element
    assert (element.largest, element.smallest, element.bits) == (largest, smallest, bits)


def test_apot_is_every_sum_of_its_terms() -> None:
    term = qsim.values("pot1")
    assert qsim.values("apot1x2").tolist() == sorted({a + b for a in term for b in term})


def test_a_table_gets_its_values_from_the_plan() -> None:
    spec = qsim.parse("table_mine@tensor:float32")
    with pytest.raises(qsim.SpecError, match="bind"):
        qsim.quantize(np.ones(3), spec)
    bound = spec.bind({"mine": [-1.0, 0.1, 0.4, 3.0]})
    assert str(bound) == str(spec) and bound.bits == 2
    assert qsim.quantize(np.array([0.2, 0.3, 9.0, -9.0]), bound, scale=1.0).tolist() == [0.1, 0.4, 3.0, -1.0]


def test_formats_too_wide_to_list_say_so() -> None:
    with pytest.raises(qsim.SpecError, match="24 bits"):
        qsim.values("float32")


def test_a_format_of_zeros_alone_is_refused() -> None:
    """Exponent 0 flushed to zero and exponent 1 reserved for infinity and NaN leave no number above zero."""
    with pytest.raises(SpecError, match="no code is left for a number above zero"):
        qsim.parse("e1m1-subnormals")
    assert qsim.values("e1m1").tolist() == [-1.0, 0.0, 1.0]
