"""Yosys: what is asked of it, what is read from it, and that the same unit is not synthesized twice."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from hwmodels.rtl.units import circuit_of
from hwmodels.synthesis.grid import GRIDS, Grid, parse_format, units_of
from hwmodels.synthesis.sweep import TABLE, Sweep, sweep, unit_id
from hwmodels.synthesis.yosys import COLUMNS, SynthesisError, Yosys, count_cells, find_yosys, script
from hwmodels.units.model import calibrated
from hwmodels.units.unit import Unit, unit_from_row
from qsim.errors import UserError

STATISTICS = """Some text before.
{"creator": "Yosys 0.23", "modules": {}, "design": {"num_cells": 30, "num_cells_by_type":
  {"LUT2": 3, "LUT6": 10, "CARRY4": 2, "CARRY8": 1, "FDRE": 8, "FDSE": 1, "INV": 4, "DSP48E2": 1, "MUXF7": 2}}}
"""
FAKE = """#!/bin/sh
if [ "$1" = "-V" ]; then echo "Yosys 9.9 (a stand-in)"; exit 0; fi
echo run >> {log}
{body}
"""


def stand_in(folder: Path, body: str) -> Yosys:
    """A program that answers as Yosys does and notes every run in folder/log."""
    program = folder / "yosys"
    program.write_text(FAKE.format(log=folder / "log", body=body))
    program.chmod(program.stat().st_mode | stat.S_IEXEC)
    return find_yosys(str(program))


def test_cells_are_counted_by_kind() -> None:
    cells = count_cells(STATISTICS)
    assert set(cells) == set(COLUMNS)
    assert (cells["lut"], cells["lut2"], cells["lut6"], cells["carry4"]) == (13, 3, 10, 4)
    assert (cells["ff"], cells["inv"], cells["dsp48e2"], cells["muxf7"]) == (9, 4, 1, 2)


@pytest.mark.parametrize("text", ["", "no json", '{"design": 3}', '{"modules": {}}', "{"])
def test_other_statistics_are_one_clear_error(text: str) -> None:
    with pytest.raises(SynthesisError, match="no statistics of cells"):
        count_cells(text)


def test_the_script_is_that_of_the_measured_circuits() -> None:
    rows = script("xcup_rows", "top")
    assert "synth_xilinx -family xcup -noiopad -noclkbuf -nowidelut" in rows
    assert rows.index("wreduce; techmap -map") < rows.index("synth_xilinx")
    assert "techmap" not in script("xcup_dsp", "top") and "-nodsp" not in script("xcup_dsp", "top")
    with pytest.raises(UserError, match="unknown flow 'abc'"):
        script("abc", "top")


def test_every_family_of_a_grid_has_circuits_and_prices() -> None:
    for name, grid in GRIDS.items():
        units = units_of(grid)
        assert len({unit_id(unit) for unit in units}) == len(units) > 80, name
    for unit in units_of(Grid()):
        assert circuit_of(unit).design().verilog
        assert calibrated("lut").predict_one(unit)[0] > 0


def test_a_grid_is_cut_down_by_families_widths_and_formats() -> None:
    units = units_of(Grid(widths=(3,), formats=((2, 1),), lanes=(4,)), ("mul_int", "mul_fp_exact"))
    assert units == (Unit("mul_int", w=3, a=3), Unit("mul_fp_exact", ew=2, mw=1, ea=2, ma=1))
    assert parse_format("e4m3") == (4, 3)


def test_mistakes_in_a_grid_are_one_clear_error() -> None:
    with pytest.raises(UserError, match="family 'table' has no circuit"):
        units_of(Grid(), ("table",))
    with pytest.raises(UserError, match="between 1 and 64"):
        units_of(Grid(widths=(0,)))
    with pytest.raises(UserError, match="at least one width"):
        units_of(Grid(lanes=()))
    with pytest.raises(UserError, match="must look like e4m3"):
        parse_format("float16")


def test_no_yosys_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'qsim\[synth\]'"):
        find_yosys()
    with pytest.raises(UserError, match="no Yosys at 'somewhere'"):
        find_yosys("somewhere")


def test_another_program_is_no_yosys() -> None:
    with pytest.raises(UserError, match="is no Yosys"):
        find_yosys("/bin/true")


def test_synthesized_units_are_kept(tmp_path: Path) -> None:
    yosys = stand_in(tmp_path, f"cat > cells.json <<'X'\n{STATISTICS}\nX")
    assert yosys.version == "Yosys 9.9"
    units = (Unit("mul_int", w=4, a=4), Unit("dot_int", n=4, w=2, a=2))
    how = Sweep(yosys, tmp_path / "kept", jobs=2)
    lines: list[str] = []
    table = sweep(units, how, lines.append)
    assert len(lines) == 2 and "2/2" in lines[1]
    assert [unit_from_row(row) for row in table.to_dict("records")] == list(units)
    assert (table["lut"] == 13).all() and (table["flow"] == "xcup_rows").all()
    assert (tmp_path / "kept" / TABLE).is_file()
    assert sweep(units, how, lines.append).equals(table)
    runs = (tmp_path / "log").read_text().count("run")
    assert runs == 2, "the second sweep read what the first one kept"
    damaged = tmp_path / "kept" / f"{unit_id(units[0])}_xcup_rows.json"
    damaged.write_text("{")
    sweep(units, how, lines.append)
    assert (tmp_path / "log").read_text().count("run") == 3, "a damaged result is made again"


def test_a_unit_that_fails_is_told_and_left_out(tmp_path: Path) -> None:
    body = f"""case "$4$3$2" in *dot*) echo "ERROR: too wide" >&2; exit 1;; esac
cat > cells.json <<'X'\n{STATISTICS}\nX"""
    yosys = stand_in(tmp_path, body)
    units = (Unit("mul_int", w=4, a=4), Unit("dot_int", n=4, w=2, a=2))
    lines: list[str] = []
    table = sweep(units, Sweep(yosys, tmp_path / "kept"), lines.append)
    assert list(table["family"]) == ["mul_int"]
    assert any("left out: dot_int" in line and "too wide" in line for line in lines)
    with pytest.raises(UserError, match="no unit was synthesized"):
        sweep(units[1:], Sweep(yosys, tmp_path / "kept"), lines.append)


def test_an_endless_synthesis_is_stopped(tmp_path: Path) -> None:
    yosys = stand_in(tmp_path, "exec sleep 20")
    with pytest.raises(UserError, match=r"longer than 0\.2 s"):
        sweep((Unit("mul_int", w=2, a=2),), Sweep(yosys, tmp_path / "kept", timeout_s=0.2), lambda line: None)


@pytest.mark.slow
@pytest.mark.consumer
def test_yosys_counts_our_circuits_as_the_measured_ones(tmp_path: Path) -> None:
    """Integer circuits take the LUTs of golden/hw exactly (rows of the same parameters, Yosys 0.23 and later)."""
    try:
        yosys = find_yosys()
    except UserError as error:
        pytest.skip(str(error))
    units = (Unit("mul_int", w=3, a=3), Unit("addtree", n=4, b=4), Unit("mac_int", w=2, a=2, acc=16))
    table = sweep(units, Sweep(yosys, tmp_path), lambda line: None)
    predicted = calibrated("lut").predict(units)[:, 0]
    assert (abs(table["lut"] / predicted - 1) <= 0.1).all(), json.dumps(table["lut"].tolist())
    if yosys.version == "Yosys 0.23":
        assert table["lut"].tolist() == [round(value) for value in predicted]
        assert table["ff"].tolist() == [0, 0, 16]
