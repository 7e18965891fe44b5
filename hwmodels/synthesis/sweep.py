"""Synthesize many units: in parallel, each result kept on disk, into one table with the columns of golden/hw."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hwmodels.rtl.units import circuit_of
from hwmodels.synthesis.yosys import COLUMNS, ROWS, SynthesisError, Yosys, script, synthesize
from hwmodels.units.unit import Unit
from qsim.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

TABLE = "fpga_xilinx_yosys.csv"
PARAMETERS = ("n", "w", "a", "acc", "ew", "mw", "ea", "ma", "eo", "mo", "b", "k", "m", "ob", "terms")


@dataclass(frozen=True)
class Sweep:
    """How units are synthesized. folder: where results are kept; jobs: how many Yosys run at once."""

    yosys: Yosys
    folder: Path
    flow: str = "xcup_rows"
    jobs: int = 1
    timeout_s: float = 600.0


def unit_id(unit: Unit) -> str:
    """A name of a unit that can be a file's: family, then every width that applies."""
    widths = [f"{name}{getattr(unit, name)}" for name in PARAMETERS if getattr(unit, name)]
    return "_".join([unit.family, *widths, *filter(None, (unit.impl, unit.out))])


def synthesize_unit(unit: Unit, how: Sweep) -> dict[str, int]:
    """Cells of one unit, from the folder if the same Verilog went through the same script and Yosys before."""
    design = circuit_of(unit).design()
    verilog = design.verilog
    rows = (Path(__file__).parent / ROWS).read_text(encoding="utf-8")
    said = "\n".join((how.yosys.version, script(how.flow, design.name), rows, verilog))
    key = hashlib.sha256(said.encode()).hexdigest()
    kept = how.folder / f"{unit_id(unit)}_{how.flow}.json"
    known = _kept_cells(kept, key)
    if known is not None:
        return known
    cells = synthesize(how.yosys, verilog, design.name, how.flow, how.timeout_s)
    unfinished = kept.with_suffix(".part")
    unfinished.write_text(json.dumps({"key": key, "cells": cells}), encoding="utf-8")
    unfinished.replace(kept)
    return cells


def _kept_cells(path: Path, key: str) -> dict[str, int] | None:
    """Cells of a kept result of the same key; None where there is none or the file is damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["key"] == key:
            return {name: int(content["cells"][name]) for name in COLUMNS}
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def sweep(units: Sequence[Unit], how: Sweep, track: Callable[[str], None] = print) -> pd.DataFrame:
    """One row a unit with family, id, widths, flow and COLUMNS; written to the folder as fpga_xilinx_yosys.csv too.

    A unit that Yosys does not take is told and left out. Raises UserError if none is left.
    """
    how.folder.mkdir(parents=True, exist_ok=True)
    done: dict[Unit, dict[str, int]] = {}
    failures: list[str] = []
    with ThreadPoolExecutor(max_workers=max(1, how.jobs)) as pool:
        waiting = {pool.submit(synthesize_unit, unit, how): unit for unit in units}
        for future in as_completed(waiting):
            unit = waiting[future]
            try:
                done[unit] = future.result()
            except SynthesisError as error:
                failures.append(f"{unit_id(unit)}: {error}")
                track(f"left out: {failures[-1]}")
                continue
            cells = done[unit]
            track(
                f"{len(done):4d}/{len(units)} {unit_id(unit)}: {cells['lut']} LUT, {cells['carry4']} CARRY4"
            )
    if not done:
        raise UserError(
            f"no unit was synthesized; the first failure: {failures[0] if failures else 'no units'}"
        )
    table = as_table([unit for unit in units if unit in done], done, how.flow)
    table.to_csv(how.folder / TABLE, index=False)
    return table


def as_table(units: Sequence[Unit], cells: dict[Unit, dict[str, int]], flow: str) -> pd.DataFrame:
    """Rows with the columns of golden/hw; an empty cell means that a width does not apply."""
    import pandas as pd

    rows = []
    for unit in units:
        widths = {name: value or "" for name, value in asdict(unit).items() if name in PARAMETERS}
        labels = {"impl": unit.impl, "out": unit.out, "flow": flow}
        rows.append({"family": unit.family, "id": unit_id(unit), **widths, **labels, **cells[unit]})
    return pd.DataFrame(rows)
