"""What a user gets who generates and simulates: files that stand alone, and one clear line for a mistake."""

from __future__ import annotations

import re

import numpy as np
import pytest

from hwmodels import rtl
from hwmodels.rtl.design import library_modules, module_text
from qsim import Mac
from qsim.errors import UserError

MULTIPLIER = rtl.Multiplier("int4", "int4")


def test_without_icarus_the_error_says_how_to_get_it(without_simulator: None) -> None:
    design = rtl.generate(MULTIPLIER)
    with pytest.raises(UserError, match="apt-get install iverilog"):
        rtl.simulate(design, {"weight": [1], "activation": [2]})


def test_generating_needs_no_simulator(without_simulator: None) -> None:
    design = rtl.generate(rtl.MacUnit("e4m3fn", "e4m3fn", Mac(accumulator="float32")))
    defined = re.findall(r"^module (\w+)", design.verilog, re.MULTILINE)
    assert defined[0] == design.name
    assert len(defined) == len(set(defined))
    assert {"float_add", "float_round", "normalize", "rounding"} <= set(defined)


def test_equal_circuits_give_equal_text(without_simulator: None) -> None:
    circuits = [rtl.MacUnit("int8", "uint8", Mac(accumulator="int32")) for _ in range(2)]
    assert circuits[0] == circuits[1] and hash(circuits[0]) == hash(circuits[1])
    assert rtl.generate(circuits[0]).verilog == rtl.generate(circuits[1]).verilog


@pytest.mark.parametrize("name", sorted(library_modules()))
def test_every_library_file_holds_its_module_and_says_what_it_is(name: str, without_simulator: None) -> None:
    text = module_text(name)
    assert re.findall(r"^module (\w+)", text, re.MULTILINE) == [name]
    assert text.startswith("// ")


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        ({"weight": [1]}, "takes inputs weight, activation"),
        ({"weight": [1], "activation": [2, 3]}, "different numbers of vectors"),
        ({"weight": [16], "activation": [2]}, "4 bits: 16 to 16 do not fit"),
        ({"weight": [-9], "activation": [2]}, "do not fit"),
        ({"weight": [0.5], "activation": [2]}, "integer codes"),
        ({"weight": [[1, 2]], "activation": [2]}, "1 lanes, the vectors 2"),
    ],
)
def test_vectors_that_do_not_fit_are_one_clear_error(vectors: dict[str, list[int]], message: str) -> None:
    with pytest.raises(UserError, match=message):
        rtl.simulate(rtl.generate(MULTIPLIER), vectors)


def test_no_vectors_give_no_outputs() -> None:
    out = rtl.simulate(rtl.generate(MULTIPLIER), {"weight": [], "activation": []})
    assert out["product"].shape == (0,)


def test_undefined_registers_are_an_error_not_a_number() -> None:
    design = rtl.generate(rtl.MacUnit("int4", "int4", Mac(accumulator="int8")))
    vectors = {"first": [0, 1], "weight": [1, 2], "activation": [3, 3]}
    with pytest.raises(UserError, match="undefined output bits"):
        rtl.simulate(design, vectors)
    assert np.array_equal(rtl.simulate(design, vectors, warmup=1)["acc"], [6])


def test_words_beyond_64_bits_are_python_integers() -> None:
    design = rtl.generate(rtl.MacUnit("float32", "float32", Mac(), terms=1))
    out = rtl.simulate(design, {"first": [1, 1], "weight": [1, 0x7F7FFFFF], "activation": [1, 0xFF7FFFFF]})
    # In steps of the smallest product 2^-298; the largest float is (2^24 - 1) * 2^253 of its own steps.
    assert out["acc"].tolist() == [1, -((2**24 - 1) ** 2) << 506]
