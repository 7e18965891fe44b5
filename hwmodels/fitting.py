"""Fit the constants of the unit models to synthesis results.

Tables have the columns of ../shared/golden/hw/README.md. The fit is deterministic; cross-validation leaves whole bit
widths and formats out, in all families at once. hwmodels/calibrate.py is the command line.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import nnls

from hwmodels.units.gates import FJ_PER_NAND2, NAND2_PER_GATE, PS_PER_LEVEL
from hwmodels.units.model import STRUCTURES, Array, Family, UnitModel, features
from hwmodels.units.unit import Unit, unit_from_row
from qsim.errors import UserError

FOLDS = 10
COVERAGE = 0.90
SMALLEST_PRIOR = 0.01
"""A constant expected to be zero may still become this share of the largest one."""
EXACT = 2e-3
"""Mean log error below which a family counts as exact: its counts round to the measured ones."""
FEW_UNITS_SPREAD = 1.5
"""Between 1 and 2, the choices whose intervals hold 85 to 95 % of held-out widths for every quantity (1.0: 93.9 % of
LUT counts, 2.0: 95.9 %)."""
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


FILES = tuple(dict.fromkeys(source.file for source in SOURCES))


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


def read_samples(path: Path, source: Source) -> Samples:
    """The rows of a source with a positive value, from a table or from the source's file in a folder.

    Raises UserError on a missing file or column, and where a table mixes flows and has none of the source's.
    """
    if path.is_dir():
        path = path / source.file
    table = read_table(path)
    if source.column not in table:
        raise UserError(f"{path}: column {source.column} is missing")
    if source.flow and "flow" in table and (table["flow"] != source.flow).any():
        flows = sorted(set(table["flow"]))
        if source.flow in flows:
            table = table[table["flow"] == source.flow]
        elif len(flows) > 1:
            raise UserError(f"{path}: several flows ({', '.join(flows)}), none is {source.flow}: keep one")
    values = pd.to_numeric(table[source.column], errors="coerce").to_numpy(dtype=np.float64)
    if source.column == "fmax_median_mhz":
        with np.errstate(divide="ignore"):
            values = 1e3 / values
    units = tuple(unit_from_row({str(k): v for k, v in row.items()}) for row in table.to_dict("records"))
    return Samples(units, values).subset((values > 0) & np.isfinite(values))


def read_table(path: Path) -> pd.DataFrame:
    """A CSV file as text cells. Raises UserError if it cannot be read or names no families."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; a calibration folder holds {', '.join(FILES)}")
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (ValueError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a readable CSV table: {' '.join(str(error).split())}") from None
    if "family" not in table:
        raise UserError(
            f"{path}: column family is missing; columns as in golden/hw: family, widths, lut, ..."
        )
    return table


def fit(samples: Samples, source: Source) -> UnitModel:
    """Non-negative constants that minimise the squared relative error, then each family's shrunk power law."""
    structure = STRUCTURES[source.quantity]
    terms = [structure(unit) for unit in samples.units]
    names = sorted({name for term in terms for name in term} | {name for name, _ in source.prior})
    matrix = np.array([[term.get(name, 0.0) for name in names] for term in terms]).reshape(
        len(terms), len(names)
    )
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
        weights = source.noise / (source.prior_spread * np.maximum(means, SMALLEST_PRIOR * means.max()))
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


def is_exact(families: NDArray[np.str_], log_errors: Array) -> NDArray[np.bool_]:
    """[N] whether structure alone counts a unit's family: its held-out errors are below EXACT on average."""
    size = np.abs(log_errors)
    return np.array([size[families == f].mean() < EXACT for f in families], dtype=bool)


def half_widths(families: NDArray[np.str_], log_errors: Array) -> dict[str, float]:
    """The half-width of each family's 90 % interval, as a log ratio.

    A family's mean held-out error times the 90 % quantile of all errors that are so scaled (exactly counted families
    left out): single families have too few units for a quantile of their own. n errors say their own mean roughly to
    FEW_UNITS_SPREAD / n, which widens the interval by that much.
    """
    if not len(log_errors):
        return {}
    size = np.abs(log_errors)
    typical = {str(f): max(float(size[families == f].mean()), 1e-4) for f in dict.fromkeys(families)}
    scaled = np.array([s / typical[str(f)] for s, f in zip(size, families)])
    estimated = ~is_exact(families, log_errors)
    shared = float(np.quantile(scaled[estimated], COVERAGE)) if estimated.any() else 2.0
    return {
        family: max(mean * shared * (1 + FEW_UNITS_SPREAD / np.sum(families == family)), NARROWEST_INTERVAL)
        for family, mean in typical.items()
    }


def inside(samples: Samples, predictions: Array) -> NDArray[np.bool_]:
    """[N] whether held-out values lie in intervals whose width was set without the value's own group."""
    errors = np.log(samples.values / predictions)
    groups = np.array([group_of(unit) for unit in samples.units])
    held = np.zeros(len(errors), dtype=bool)
    for group in np.unique(groups):
        mine = groups == group
        widths = half_widths(samples.families[~mine], errors[~mine])
        largest = max(widths.values(), default=0.0)
        for index in np.flatnonzero(mine):
            held[index] = abs(errors[index]) <= widths.get(samples.units[index].family, largest)
    return held


def coverage(samples: Samples, predictions: Array) -> float:
    """Share of held-out values inside their intervals; families that are counted exactly always are."""
    return float(inside(samples, predictions).mean())


def coverage_of_estimates(samples: Samples, predictions: Array) -> float:
    """The same over families that are not counted exactly (1 if all are)."""
    estimated = ~is_exact(samples.families, np.log(samples.values / predictions))
    return float(inside(samples, predictions)[estimated].mean()) if estimated.any() else 1.0


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
