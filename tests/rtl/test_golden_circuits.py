"""Our circuits beside the measured ones of ../shared/golden/hw/rtl: same inputs, same numbers out."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hwmodels import rtl
from hwmodels.rtl.design import Design, Port
from hwmodels.units.unit import Unit, unit_from_row
from qsim.errors import UserError
from tests.rtl.vectors import Array, element_of

COUNT = 2000
# file, then our port for each of theirs; outputs are compared as numbers
FILES = {
    "mul_int__mul_s4_s2": {"w": "weight", "a": "activation", "p": "product"},
    "mul_int_su__mul_s2_u2": {"w": "weight", "a": "activation", "p": "product"},
    "mac_int__mac_s2_s2_acc16": {"clr": "first", "w": "weight", "a": "activation", "acc": "acc"},
    "dot_int__dot4_s2_s2": {"w": "weight", "a": "activation", "y": "sum"},
    "addtree__addtree4_s4": {"x": "words", "y": "sum"},
    "max__max2_s4": {"x": "words", "y": "largest"},
    "threshold__thr_s8_k1": {"x": "x", "th": "thresholds", "y": "level"},
    "mac_fp_kulisch__fmac_E4M3_E4M3_kul": {"clr": "first", "w": "weight", "a": "activation", "acc": "acc"},
    "mac_fp_float__fmac_E4M3_E4M3_accE5M10": {"clr": "first", "w": "weight", "a": "activation", "acc": "acc"},
    "fp_add__fpadd_E4M3": {"x": "a", "y": "b", "z": "sum"},
    "fp_mul__fpmul_E4M3": {"x": "weight", "y": "activation", "z": "product"},
    "cvt_fp__cvt_E5M10_E4M3": {"x": "x", "z": "y"},
    "requant__rq_dy_16x8_4": {
        "x": "acc",
        "mult": "multiplier",
        "sh": "shift",
        "zp": "zero_point",
        "y": "code",
    },
    "bitserial__bs1_s4_w4": {"first": "first", "wb": "weight_bits", "a": "activation", "acc": "acc"},
}


@dataclass(frozen=True)
class Measured(Design):
    """A Verilog file taken as it is."""

    text: str = ""

    @property
    def verilog(self) -> str:
        return self.text


def read_measured(path: Path) -> Measured:
    text = path.read_text()
    header = re.search(r"module top\((.*?)\);", text, re.DOTALL)
    assert header is not None
    ports: dict[str, list[Port]] = {"input": [], "output": []}
    for declaration in header[1].split(","):
        match = re.fullmatch(r"\s*(input|output)\s+(?:reg )?(signed )?(?:\[(\d+):0\] )?(\w+)", declaration)
        assert match is not None, declaration
        if match[4] != "clk":
            ports[match[1]].append(Port(match[4], int(match[3] or 0) + 1, signed=bool(match[2])))
    inputs, outputs = tuple(ports["input"]), tuple(ports["output"])
    return Measured("top", path.stem, inputs, outputs, "", "input clk" in header[1], text=text)


def unit_of(shared: Path, name: str) -> Unit:
    """The row of a measured circuit in the tables of ../shared/golden/hw."""
    for table in ("fpga_xilinx_yosys.csv", "asic_nangate45.csv"):
        rows = pd.read_csv(shared / "golden" / "hw" / table, dtype=str, keep_default_na=False)
        found = rows[rows["id"] == name]
        if len(found):
            return unit_from_row(found.iloc[0].to_dict())
    pytest.skip(f"{name} is in no table")


@pytest.mark.parametrize("stem", FILES)
def test_our_circuit_computes_what_the_measured_one_does(shared: Path, stem: str) -> None:
    path = shared / "golden" / "hw" / "rtl" / f"{stem}.v"
    if not path.exists():
        pytest.skip(f"no file {path}")
    theirs = read_measured(path)
    unit = unit_of(shared, stem.split("__")[1])
    ours = rtl.generate(rtl.circuit_of(unit))
    rng = np.random.default_rng(30)
    words = {port.name: rng.integers(0, 1 << port.bits, COUNT) for port in theirs.inputs}
    for clear in {"clr", "first"} & set(words):
        words[clear] = (rng.integers(0, 6, COUNT) == 0).astype(int)
        words[clear][0] = 1
    if "sh" in words:  # their rounding bit is undefined at shift 0
        words["sh"] = np.maximum(words["sh"] % 25, 1)
    expected = rtl.simulate(theirs, words)
    names = FILES[stem]
    vectors = {}
    for port in ours.inputs:
        word = words[next(name for name, our in names.items() if our == port.name)]
        lanes = [word >> lane * port.bits & (1 << port.bits) - 1 for lane in range(port.lanes)]
        vectors[port.name] = np.stack(lanes, axis=1) if port.lanes > 1 else lanes[0]
    out = rtl.simulate(ours, vectors)
    result = theirs.outputs[0].name
    assert np.array_equal(values(out[names[result]], unit), values(expected[result], unit))


def values(codes: Array, unit: Unit) -> Array:
    """Numbers of a float result, whose zero has a sign here and none there; other codes as they are."""
    if unit.eo:
        return element_of(f"e{unit.eo}m{unit.mo}-inf-nan").decode(codes)
    return codes


@pytest.mark.parametrize("table", ["fpga_xilinx_yosys.csv", "asic_nangate45.csv"])
def test_every_measured_unit_has_a_circuit(shared: Path, table: str, without_simulator: None) -> None:
    path = shared / "golden" / "hw" / table
    rows = pd.read_csv(path, dtype=str, keep_default_na=False).drop_duplicates("id")
    families = set()
    for row in rows.to_dict("records"):
        unit = unit_from_row({str(key): value for key, value in row.items()})
        design = rtl.generate(rtl.circuit_of(unit))
        assert design.top.startswith("//")
        families.add(unit.family)
    assert len(families) > 3


def test_units_without_a_circuit_are_one_clear_error(without_simulator: None) -> None:
    with pytest.raises(UserError, match="family 'registers' has no circuit"):
        rtl.circuit_of(Unit("registers", b=8))
