"""Function tables: exact with an entry for every input, and as wrong as they say with fewer."""

from __future__ import annotations

import numpy as np
import pytest

import qsim
from qsim.arithmetic import functions
from qsim.arithmetic.functions import FunctionTable, exact_table
from qsim.errors import UserError


@pytest.mark.parametrize("name", ["exp", "sigmoid", "tanh", "gelu", "silu"])
@pytest.mark.parametrize(
    ("source", "target"), [("fixed8.4", "fixed8.2"), ("fixed16.5", "fixed16.3"), ("int8", "float16")]
)
def test_a_full_table_is_the_function_rounded_once(name: str, source: str, target: str) -> None:
    table = exact_table(name, source, target)
    x = qsim.values(source)
    assert np.array_equal(table(x), functions.apply(name, x, target))
    assert table.maximum_error_ulp(source) <= 0.5 + 2.0**-20


def test_a_coarser_table_states_the_error_it_has() -> None:
    errors = [
        FunctionTable("sigmoid", -8.0, 8.0, bits, qsim.parse("ufixed16.0")).maximum_error_ulp("fixed16.4")
        for bits in (6, 8, 10)
    ]
    # Half a step of a slope of at most 1/4: 2^(16 - 2 - bits - 1 + 4) ulp of 2^-16, and half an ulp.
    for bits, error in zip((6, 8, 10), errors, strict=True):
        assert 0.9 * 2.0 ** (17 - bits) < error <= 2.0 ** (17 - bits) + 0.5


def test_arguments_outside_take_the_ends_and_nan_is_an_error() -> None:
    table = FunctionTable("tanh", -4.0, 4.0, 5, qsim.parse("fixed8.1"))
    assert table.bits == 8 * 32
    assert table([-np.inf, np.inf, 100.0]).tolist() == [
        table.entries[0],
        table.entries[-1],
        table.entries[-1],
    ]
    with pytest.raises(UserError, match="no entry for NaN"):
        table(np.nan)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"function": "sine"}, "unknown function"),
        ({"address_bits": 0}, "address bits"),
        ({"low": 4.0}, "finite interval"),
        ({"output": qsim.parse("int8@tensor:float32")}, "without a scale"),
    ],
)
def test_user_errors(changes: dict[str, object], message: str) -> None:
    facts = {
        "function": "exp",
        "low": -1.0,
        "high": 1.0,
        "address_bits": 4,
        "output": qsim.parse("int8"),
        **changes,
    }
    with pytest.raises(UserError, match=message):
        FunctionTable(**facts)  # type: ignore[arg-type]
