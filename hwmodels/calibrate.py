"""qsim-calibrate: synthesis results in, a versioned calibration of the unit models out.

    qsim-calibrate [--grid small] [--jobs 2]         Yosys over a grid of units, then a fit to what it gave
    qsim-calibrate results.csv --out cal.json        a fit to your own results (Vivado, Design Compiler, ...)
    qsim-calibrate ../shared/golden/hw --out hwmodels/calibration    what the package ships, from scratch

A calibration file names every quantity that it models, the tools and the data's hash, and errors of the fit and of
held-out bit widths by family. Hardware takes it as `hardware.calibration=cal.json`. It starts from the shipped
models: constants and families that the results say nothing of stay, scaled by the median ratio of the others.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hwmodels.fitting import (
    FOLDS,
    SOURCES,
    Source,
    coverage,
    coverage_of_estimates,
    cross_validate,
    error_table,
    fit,
    half_widths,
    read_samples,
    read_table,
)
from hwmodels.mcu.fit import calibrate_mcu
from hwmodels.units.model import KIN, SCHEMA, SCHEMA_VERSION, Family, UnitModel, calibrated
from qsim.errors import UserError

PRIOR_SPREAD = 1.0
"""Standard deviation of a constant around the shipped one, relative to it, before a user's results are seen."""
FEW = 10
"""Units of a family below which their errors say too little of an interval."""
OFFSET_PRIOR, SLOPE_PRIOR = 0.2, 0.03
"""The same of a family's factor and exponents, as log ratios: another tool's habits with one kind of circuit."""


def describe(path: Path, source: Source, shipped: UnitModel | None = None) -> dict[str, Any]:
    """Fit, cross-validate and describe one quantity; starting from a shipped model where one is given."""
    samples = read_samples(path, source)
    if not len(samples.values):
        raise UserError(f"{path}: column {source.column} has no value above zero")
    ratio = (
        1.0 if shipped is None else float(np.median(samples.values / shipped.predict(samples.units)[:, 0]))
    )
    start = source if shipped is None else recalibration(source, shipped, ratio)
    model = fit(samples, start)
    held_out = cross_validate(samples, start)
    fitted, validated = (error_table(samples, p) for p in (model.predict(samples.units)[:, 0], held_out))
    widths = half_widths(samples.families, np.log(samples.values / held_out))
    if shipped is not None:
        widths = _not_narrower_by_chance(widths, fitted, shipped)
    families = {
        name: {
            **_family(family, widths[name]),
            "units": int(fitted[name]["units"]),
            "fit_mape_percent": round(fitted[name]["mape_percent"], 3),
            "cv_mape_percent": round(validated[name]["mape_percent"], 3),
        }
        for name, family in model.families.items()
    }
    largest = max(widths.values())
    if shipped is not None:
        families |= _unmeasured(shipped, families, max(largest, abs(float(np.log(ratio)))))
    data = path / source.file if path.is_dir() else path
    return {
        "version": 1,
        "quantity": source.quantity,
        "unit": source.unit,
        "tool": source.tool,
        "flow": source.flow,
        "data": data.name,
        "data_sha256": hashlib.sha256(data.read_bytes()).hexdigest(),
        "folds": FOLDS,
        "units": len(samples.values),
        "median_ratio_to_shipped": round(ratio, 4),
        "fit_mape_percent": round(fitted["all"]["mape_percent"], 3),
        "cv_mape_percent": round(validated["all"]["mape_percent"], 3),
        "cv_coverage_of_90_percent_interval": round(coverage(samples, held_out), 3),
        "cv_coverage_of_inexact_families": round(coverage_of_estimates(samples, held_out), 3),
        "largest_interval_log": largest,
        "constants": model.constants,
        "families": families,
    }


def _family(family: Family, interval_log: float) -> dict[str, Any]:
    return {
        "offset": family.offset,
        "center": [round(v, 6) for v in family.center.tolist()],
        "slopes": [round(v, 6) for v in family.slopes.tolist()],
        "interval_log": interval_log,
    }


def recalibration(source: Source, shipped: UnitModel, ratio: float) -> Source:
    """The source with the shipped constants, scaled to the results' level, as what is expected of the fit."""
    return replace(
        source,
        known=(),
        prior=tuple((name, ratio * value) for name, value in shipped.constants.items()),
        prior_spread=PRIOR_SPREAD,
        offset_prior=max(source.offset_prior, OFFSET_PRIOR),
        slope_prior=max(source.slope_prior, SLOPE_PRIOR),
    )


def _not_narrower_by_chance(
    widths: Mapping[str, float], fitted: Mapping[str, Mapping[str, float]], shipped: UnitModel
) -> dict[str, float]:
    """Interval half-widths, at least the shipped ones where a family has fewer than FEW units."""
    known = {name: family.interval_log for name, family in shipped.families.items()}
    return {
        name: max(width, known.get(KIN.get(name, name), 0.0)) if fitted[name]["units"] < FEW else width
        for name, width in widths.items()
    }


def _unmeasured(shipped: UnitModel, measured: Iterable[str], least: float) -> dict[str, dict[str, Any]]:
    """Families without a result: as shipped, at least as uncertain as the worst family measured and as far as the
    results' level lies from the shipped one, since tools differ by kind of circuit (xcup_std against xcup_rows of
    ../shared/golden/hw: 0.92 to 1.45 times the LUTs).
    """
    return {
        name: {**_family(family, max(least, family.interval_log)), "units": 0}
        for name, family in shipped.families.items()
        if name not in measured
    }


def sources_of(path: Path) -> tuple[Source, ...]:
    """The quantities that a table, or the tables of a folder, hold. Raises UserError if there are none."""
    if path.is_dir():
        found = tuple(source for source in SOURCES if (path / source.file).is_file())
        if not found:
            raise UserError(f"{path}: none of {', '.join(dict.fromkeys(s.file for s in SOURCES))} is in it")
        return found
    columns = set(read_table(path).columns)
    found = tuple(source for source in SOURCES if source.column in columns)
    if not found:
        expected = ", ".join(source.column for source in SOURCES)
        raise UserError(f"{path}: no measured column; one or more of {expected}")
    return found


def write_file(path: Path, out: Path, tool: str) -> dict[str, Any]:
    """One calibration file from a user's table or folder of tables; `tool` says what made them."""
    from qsim import __version__

    models = {
        s.quantity: describe(path, replace(s, tool=tool), calibrated(s.quantity)) for s in sources_of(path)
    }
    content = {
        "schema": SCHEMA,
        "version": SCHEMA_VERSION,
        "qsim": __version__,
        "tool": tool,
        "models": models,
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return content


def write_folder(path: Path, out: Path) -> None:
    """What the package ships: one file a quantity, fitted from scratch, and the microcontrollers' constants."""
    out.mkdir(parents=True, exist_ok=True)
    for source in sources_of(path):
        content = describe(path, source)
        (out / f"{source.quantity}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        print(report(content))
    if (path / "mcu_cmsisnn_instr.csv").is_file():
        constants = calibrate_mcu(path)
        (out / "mcu.json").write_text(json.dumps(constants, indent=1) + "\n", encoding="utf-8")
        print(f"mcu instructions: held out {constants['cv_mape_percent']} %")
        for core, entry in constants["cores"].items():
            ranks = f"rank correlation {entry['rank_correlation']}"
            print(f"    {core:16s} held out {entry['cv_mape_percent']:6.2f} %, {ranks}")


def report(content: Mapping[str, Any]) -> str:
    """Errors of one quantity, by family, as lines."""
    lines = [
        f"{content['quantity']}: fit {content['fit_mape_percent']} %, held-out widths {content['cv_mape_percent']} %, "
        f"90 % interval holds {100 * content['cv_coverage_of_90_percent_interval']:.1f} % "
        f"({100 * content['cv_coverage_of_inexact_families']:.1f} % of families not counted exactly)"
    ]
    for name, family in content["families"].items():
        interval = f"interval {100 * family['interval_log']:5.1f} %"
        if family["units"]:
            errors = f"fit {family['fit_mape_percent']:6.2f} %, held out {family['cv_mape_percent']:6.2f} %"
            lines.append(f"    {name:16s} {family['units']:4d} units, {errors}, {interval}")
        else:
            lines.append(f"    {name:16s}    0 units, as shipped, {interval}")
    return "\n".join(lines)
