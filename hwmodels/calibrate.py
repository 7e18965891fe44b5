"""Fit the constants of the unit models to synthesis results and write versioned calibration files.

    python -m hwmodels.calibrate FOLDER [--out hwmodels/calibration]

FOLDER holds asic_nangate45.csv, fpga_xilinx_yosys.csv and fpga_ice40_fmax.csv with the columns of
../shared/golden/hw/README.md. The fit is deterministic; cross-validation leaves whole bit widths and formats out, in
all families at once.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import nnls

from hwmodels.mcu.fit import calibrate_mcu
from hwmodels.units.gates import FJ_PER_NAND2, NAND2_PER_GATE, PS_PER_LEVEL
from hwmodels.units.model import STRUCTURES, Array, Family, UnitModel, features
from hwmodels.units.unit import Unit, unit_from_row
from qsim.errors import UserError

FOLDS = 10
COVERAGE = 0.90
NARROWEST_INTERVAL = 0.015
"""Half-width, as a log ratio, where structure alone is exact: another version of the same tool differs by more."""


@dataclass(frozen=True)
class Source:
    """Where a quantity is measured: file, column, the rows of one flow, and how strongly a family may deviate.

    offset_prior and slope_prior are standard deviations (as log ratios) of a family's factor and of its exponents;
    0 switches the correction off. noise is the standard deviation of one synthesis result: Yosys 0.23 against 0.70
    differ by 3 %, Nangate 45 against OSU 180 by 6 % (../shared/golden/hw/README.md). known: constants that need no fit.
    prior: expected constants (1 where a term has none: the structure counts the very cells that are measured), and
    prior_spread their standard deviation relative to that; 0 switches the prior off.
    """

    quantity: str
    file: str
    column: str
    unit: str
    tool: str
    flow: str = ""
    offset_prior: float = 0.0
    slope_prior: float = 0.0
    noise: float = 0.04
    known: tuple[tuple[str, float], ...] = ()
    prior: tuple[tuple[str, float], ...] = ()
    prior_spread: float = 0.0


YOSYS = "Yosys 0.23 (Debian 12), synth_xilinx -family xcup -noiopad -noclkbuf -nowidelut, rows techmap"
NEXTPNR = "nextpnr-ice40 0.4, HX8K ct256, median of 3 seeds"
NANGATE = "Yosys 0.23, ABC 1.01 (2022-10-19), Nangate 45 nm typical, 1.1 V, 20 ns"
DFF_NAND2 = (("register", 4.522 / 0.798),)
"""Area of DFF_X1 over NAND2_X1 in the Nangate 45 nm library; area_nand2 - comb_nand2 per flip-flop in the data."""
AREA_PRIOR = tuple(NAND2_PER_GATE.items())
ENERGY_PRIOR = tuple((name, FJ_PER_NAND2 * gates) for name, gates in NAND2_PER_GATE.items())
DELAY_PRIOR = tuple(PS_PER_LEVEL.items())
SOURCES = (
    Source("lut", "fpga_xilinx_yosys.csv", "lut", "LUT1-6", YOSYS, "xcup_rows", prior_spread=1.0),
    Source("carry", "fpga_xilinx_yosys.csv", "carry4", "CARRY4", YOSYS, "xcup_rows", prior_spread=1.0),
    Source(
        "area_nand2", "asic_nangate45.csv", "area_nand2", "NAND2", NANGATE, "", 0.3, 0.05, 0.04, DFF_NAND2
    ),
    Source(
        "energy_fj",
        "asic_nangate45.csv",
        "e_total_fj",
        "fJ a cycle",
        NANGATE,
        "",
        0.3,
        0.05,
        0.04,
        (),
        ENERGY_PRIOR,
        0.3,
    ),
    Source(
        "delay_ps", "asic_nangate45.csv", "delay_ps", "ps", NANGATE, "", 0.3, 0.08, 0.04, (), DELAY_PRIOR, 0.3
    ),
    Source("ice40_period_ns", "fpga_ice40_fmax.csv", "fmax_median_mhz", "ns", NEXTPNR, "", 0.2, 0.03, 0.1),
)


@dataclass(frozen=True)
class Samples:
    """Measured units: [N] units and their values, both sorted as in the file."""

    units: tuple[Unit, ...]
    values: Array

    def subset(self, mask: NDArray[np.bool_]) -> Samples:
        return Samples(tuple(u for u, keep in zip(self.units, mask) if keep), self.values[mask])

    @property
    def families(self) -> NDArray[np.str_]:
        return np.array([unit.family for unit in self.units])


def read_samples(folder: Path, source: Source) -> Samples:
    """The rows of a source with a positive value. Raises UserError on a missing file or column."""
    path = folder / source.file
    if not path.is_file():
        raise UserError(f"{path}: no such file; a calibration folder holds {source.file}")
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    missing = {"family", source.column} - set(table.columns)
    if missing:
        raise UserError(f"{path}: column {', '.join(sorted(missing))} is missing")
    if source.flow:
        table = table[table["flow"] == source.flow]
    values = pd.to_numeric(table[source.column], errors="coerce").to_numpy(dtype=np.float64)
    if source.column == "fmax_median_mhz":
        values = 1e3 / values
    units = tuple(unit_from_row({str(k): v for k, v in row.items()}) for row in table.to_dict("records"))
    return Samples(units, values).subset(values > 0)


def fit(samples: Samples, source: Source) -> UnitModel:
    """Non-negative constants that minimise the squared relative error, then each family's shrunk power law."""
    structure = STRUCTURES[source.quantity]
    terms = [structure(unit) for unit in samples.units]
    names = sorted({name for term in terms for name in term})
    matrix = np.array([[term.get(name, 0.0) for name in names] for term in terms])
    known = np.array([dict(source.known).get(name, 0.0) for name in names])
    open_terms = matrix * (known == 0)
    left = (samples.values - matrix @ known) / samples.values
    weights = _constants(names, open_terms / samples.values[:, None], left, source) + known
    residuals = np.log(samples.values / np.maximum(matrix @ weights, 1e-9))
    families = {}
    for family in dict.fromkeys(samples.families):
        of_family = samples.families == family
        points = np.array([features(u) for u in samples.subset(of_family).units])
        families[str(family)] = _power_law(points, residuals[of_family], source)
    return UnitModel(source.quantity, dict(zip(names, weights.tolist())), families)


def _constants(names: Sequence[str], terms: Array, target: Array, source: Source) -> Array:
    """Non-negative least squares, with one extra equation a constant where a prior is stated."""
    if source.prior_spread > 0:
        means = np.array([dict(source.prior).get(name, 1.0) for name in names])
        weights = source.noise / (source.prior_spread * means)
        terms = np.vstack([terms, np.diag(weights)])
        target = np.concatenate([target, weights * means])
    return np.asarray(nnls(terms, target, maxiter=100 * terms.shape[1])[0])


def _power_law(points: Array, residuals: Array, source: Source) -> Family:
    """Ridge regression of log residuals on log widths: posterior mean under normal priors on offset and slopes."""
    center = points.mean(axis=0)
    centered = points - center
    if source.offset_prior == 0:
        return Family(0.0, center, np.zeros(points.shape[1]))
    design = np.hstack([np.ones((len(points), 1)), centered])
    variances = np.array([source.offset_prior**2] + [source.slope_prior**2] * points.shape[1])
    kernel = (design * variances) @ design.T + source.noise**2 * np.eye(len(points))
    posterior = variances * (design.T @ np.linalg.solve(kernel, residuals))
    return Family(float(posterior[0]), center, posterior[1:])


def group_of(unit: Unit) -> str:
    """Units of one group share their operand widths or formats; a fold holds whole groups."""
    if unit.ew or unit.mw:
        return repr((unit.ew, unit.mw, unit.ea, unit.ma))
    if unit.family == "requant":
        return repr((unit.acc, unit.m))
    return repr((unit.w, unit.a, unit.b, unit.eo, unit.mo, unit.n if unit.family == "dot_xnor" else 0))


def cross_validate(samples: Samples, source: Source) -> Array:
    """[N] predictions, each by a model that has not seen the unit's widths in any family."""
    folds = np.array([zlib.crc32(group_of(unit).encode()) % FOLDS for unit in samples.units])
    predictions = np.zeros(len(folds))
    for fold in np.unique(folds):
        model = fit(samples.subset(folds != fold), source)
        held_out = samples.subset(folds == fold)
        predictions[folds == fold] = model.predict(held_out.units)[:, 0]
    return predictions


def half_widths(families: NDArray[np.str_], log_errors: Array) -> dict[str, float]:
    """The half-width of each family's 90 % interval: the conformal quantile of its held-out errors.

    Families with fewer than ten errors borrow from all families: the quantile of their errors scaled to the
    family's mean error, widened because so few errors say little about their own mean.
    """
    size = np.abs(log_errors)
    typical = {str(f): max(float(size[families == f].mean()), 1e-4) for f in dict.fromkeys(families)}
    scaled = np.array([s / typical[str(f)] for s, f in zip(size, families)])
    inexact = np.array([typical[str(f)] > 2e-3 for f in families])
    shared = float(np.quantile(scaled[inexact], COVERAGE)) if inexact.any() else 2.0
    widths = {}
    for family, mean in typical.items():
        own = np.sort(size[families == family])
        rank = int(np.ceil((len(own) + 1) * COVERAGE)) - 1
        width = float(own[rank]) if len(own) >= 10 and rank < len(own) else mean * shared * (1 + 1 / len(own))
        widths[family] = max(width, NARROWEST_INTERVAL)
    return widths


def coverage(samples: Samples, predictions: Array) -> float:
    """Share of held-out values inside intervals whose width was set without the value's own group."""
    errors = np.log(samples.values / predictions)
    groups = np.array([group_of(unit) for unit in samples.units])
    inside = np.zeros(len(errors), dtype=bool)
    for group in np.unique(groups):
        mine = groups == group
        widths = half_widths(samples.families[~mine], errors[~mine])
        largest = max(widths.values())
        for index in np.flatnonzero(mine):
            inside[index] = abs(errors[index]) <= widths.get(samples.units[index].family, largest)
    return float(inside.mean())


def error_table(samples: Samples, predictions: Array) -> dict[str, dict[str, float]]:
    """Mean, signed mean and largest error in per cent by family, then over all units as "all"."""
    errors = 100 * (predictions - samples.values) / samples.values
    rows: dict[str, dict[str, float]] = {}
    for family in [*dict.fromkeys(samples.families), "all"]:
        mine = errors if family == "all" else errors[samples.families == family]
        rows[str(family)] = {
            "units": len(mine),
            "mape_percent": float(np.abs(mine).mean()),
            "bias_percent": float(mine.mean()),
            "largest_percent": float(np.abs(mine).max()),
        }
    return rows


def calibrate(folder: Path, source: Source) -> dict[str, Any]:
    """Fit, cross-validate and describe one quantity as the content of its calibration file."""
    samples = read_samples(folder, source)
    model = fit(samples, source)
    fitted = error_table(samples, model.predict(samples.units)[:, 0])
    held_out = cross_validate(samples, source)
    validated = error_table(samples, held_out)
    widths = half_widths(samples.families, np.log(samples.values / held_out))
    families = {
        name: {
            "offset": family.offset,
            "center": [round(v, 6) for v in family.center.tolist()],
            "slopes": [round(v, 6) for v in family.slopes.tolist()],
            "interval_log": widths[name],
            "units": int(fitted[name]["units"]),
            "fit_mape_percent": round(fitted[name]["mape_percent"], 3),
            "cv_mape_percent": round(validated[name]["mape_percent"], 3),
        }
        for name, family in model.families.items()
    }
    return {
        "version": 1,
        "quantity": source.quantity,
        "unit": source.unit,
        "tool": source.tool,
        "flow": source.flow,
        "data": source.file,
        "data_sha256": hashlib.sha256((folder / source.file).read_bytes()).hexdigest(),
        "folds": FOLDS,
        "fit_mape_percent": round(fitted["all"]["mape_percent"], 3),
        "cv_mape_percent": round(validated["all"]["mape_percent"], 3),
        "cv_coverage_of_90_percent_interval": round(coverage(samples, held_out), 3),
        "largest_interval_log": max(widths.values()),
        "constants": model.constants,
        "families": families,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Write one calibration file a quantity and print the errors by family."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "calibration")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    for source in SOURCES:
        content = calibrate(options.folder, source)
        text = json.dumps(content, indent=1)
        (options.out / f"{source.quantity}.json").write_text(text + "\n", encoding="utf-8")
        print(
            f"{source.quantity}: fit {content['fit_mape_percent']} %, held out {content['cv_mape_percent']} %, "
            f"90 % interval holds {100 * content['cv_coverage_of_90_percent_interval']:.1f} %"
        )
        for name, family in content["families"].items():
            print(
                f"    {name:16s} {family['units']:4d} units, fit {family['fit_mape_percent']:6.2f} %, "
                f"held out {family['cv_mape_percent']:6.2f} %, interval {100 * family['interval_log']:5.1f} %"
            )
    content = calibrate_mcu(options.folder)
    (options.out / "mcu.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(f"mcu instructions: held out {content['cv_mape_percent']} %")
    for core, entry in content["cores"].items():
        print(
            f"    {core:16s} held out {entry['cv_mape_percent']:6.2f} %, rank correlation {entry['rank_correlation']}"
        )


if __name__ == "__main__":
    main()
