"""The result table of a run: read, checked, and asked for its float reference, baselines and searched plans.

A run folder holds results.csv (a row per evaluated configuration) and plans/*.json. The functions below take
the table (pandas) and never change it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from qsim.errors import UserError
from reports.quantities import Quantity, cost_quantity, metric_quantity

REQUIRED = ("plan_id", "search", "label", "metric", "report_value")
VALUES = tuple(
    f"{half}{end}"
    for half in ("choose_value", "report_value", "report_difference")
    for end in ("", "_low95", "_high95")
)
_INTERVALS = (
    *("choose_low95", "choose_high95", "report_low95", "report_high95"),
    *("report_difference_low95", "report_difference_high95"),
)
PROVENANCE = (
    *("model", "model_hash", "data_hash", "hardware", "formats", "ptq", "seed"),
    *("qsim_version", "seconds", "agreement", "arithmetic", "objective", "found_by"),
)
MARKS = ("is_front", "chosen")  # true or false; a table without them has them false
FLOAT_SEARCHES = frozenset({"float", "float32"})
BASELINE_SEARCHES = frozenset({"uniform", "baseline"})
# What people look at first, where a table does not say.
PREFERRED_COSTS = (
    *("lut", "area_um2", "area_nand2", "latency_s", "energy_j", "flash_bytes", "weight_bytes"),
    *("sram_bytes", "dsp", "bram18k", "bops"),
)


@dataclass(frozen=True)
class Run:
    """One finished run: its folder, its table, and the files of the plans it kept by file stem."""

    name: str
    folder: Path
    table: pd.DataFrame
    plans: Mapping[str, Path] = field(default_factory=dict)

    def plan_path(self, plan_id: str) -> Path | None:
        """The plan.json of a row, or None where the run kept none."""
        return next((path for stem, path in self.plans.items() if plan_id and plan_id in stem), None)


def check_table(table: pd.DataFrame, source: str = "the result table") -> pd.DataFrame:
    """A copy with numbers as float64 and the marks as bool; UserError when it is no table of results."""
    missing = [name for name in REQUIRED if name not in table.columns]
    if missing:
        raise UserError(f"{source}: no column {', '.join(missing)}; a results.csv of qsim-search has them")
    if table.empty:
        raise UserError(f"{source}: holds no configuration, so there is nothing to show")
    table = table.reset_index(drop=True).copy()
    for name in ("plan_id", "search", "label", "metric"):
        table[name] = table[name].fillna("").astype(str)
    for name in [*VALUES, *_INTERVALS, *_cost_columns(table, table.columns)]:
        if name in table.columns:
            table[name] = _as_numbers(table[name], f"{source}: column {name}")
    for name in MARKS:
        mark = table[name] if name in table.columns else pd.Series(False, index=table.index)
        table[name] = mark.astype(str).str.lower().isin(["true", "1", "1.0"])
    metrics = sorted(set(table["metric"]))
    if len(metrics) > 1:
        raise UserError(f"{source}: mixes the metrics {', '.join(metrics)}; one table holds one metric")
    return table


def _as_numbers(column: pd.Series, where: str) -> pd.Series:
    try:
        return pd.to_numeric(column).astype("float64")
    except (ValueError, TypeError) as error:
        raise UserError(f"{where}: {error}") from None


def load_run(folder: Path, name: str | None = None) -> Run:
    """Read one run folder; UserError (naming the file) when results.csv is absent, unreadable or empty."""
    path = folder / "results.csv"
    if not path.is_file():
        raise UserError(f"{folder}: no results.csv there, so it is not the folder of a finished run")
    try:
        table = pd.read_csv(path, dtype={"plan_id": str, "model_hash": str, "data_hash": str, "label": str})
    except (ValueError, OSError) as error:  # pandas' parser errors are ValueErrors
        raise UserError(f"{path}: not a readable table ({error})") from None
    plans = {plan.stem: plan for plan in sorted((folder / "plans").glob("*.json"))}
    return Run(name or folder.name or str(folder), folder, check_table(table, str(path)), plans)


def find_runs(folders: Sequence[Path]) -> list[Run]:
    """Runs in the given folders; a folder without results.csv is searched for run folders below it."""
    found: dict[Path, None] = {}
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder")
        if (folder / "results.csv").is_file():
            found[folder] = None
            continue
        below = sorted(path.parent for path in folder.rglob("results.csv"))
        if not below:
            raise UserError(f"{folder}: no results.csv in it or below it; give folders of finished runs")
        found |= dict.fromkeys(below)
    return [load_run(folder) for folder in found]


def _cost_columns(table: pd.DataFrame, names: Sequence[str] | pd.Index) -> list[str]:
    known = {*REQUIRED, *VALUES, *_INTERVALS, *PROVENANCE, *MARKS, "run"}
    return [str(name) for name in names if name not in known and not str(name).startswith("Unnamed")]


def cost_names(table: pd.DataFrame) -> list[str]:
    """Columns that hold a cost, without their intervals, in the table's order."""
    names = _cost_columns(table, table.columns)
    return [
        name
        for name in names
        if not name.endswith(("_low90", "_high90")) and pd.api.types.is_numeric_dtype(table[name])
    ]


def objectives_of(table: pd.DataFrame, limit: int = 4) -> list[Quantity]:
    """The costs worth a plot: those that differ between rows, the well-known ones first, at most `limit`."""
    varying = [name for name in cost_names(table) if table[name].nunique(dropna=True) > 1]
    known = [name for name in PREFERRED_COSTS if name in varying]
    others = [name for name in varying if name not in known]
    chosen = [*known, *others][:limit] or cost_names(table)[:1]
    return [cost_quantity(name) for name in chosen]


def named_objectives(table: pd.DataFrame, names: Sequence[str]) -> list[Quantity]:
    """Quantities for cost columns given by name; UserError for a name that the table does not have."""
    available = cost_names(table)
    for name in names:
        if name not in available:
            raise UserError(f"no cost '{name}' in the results; there are {', '.join(available) or 'none'}")
    return [cost_quantity(name) for name in names]


def metric_of(table: pd.DataFrame) -> Quantity:
    """What `report_value` and `choose_value` are."""
    return metric_quantity(str(table["metric"].iloc[0]))


def is_float(table: pd.DataFrame) -> pd.Series:
    """Rows of the unquantized network."""
    return table["search"].isin(FLOAT_SEARCHES)


def is_baseline(table: pd.DataFrame) -> pd.Series:
    """Rows where every layer has the same format."""
    return table["search"].isin(BASELINE_SEARCHES)


def is_searched(table: pd.DataFrame) -> pd.Series:
    """Rows that a search proposed."""
    return ~is_float(table) & ~is_baseline(table)


def float_value(table: pd.DataFrame, half: str = "report") -> float:
    """The metric of the unquantized network on one half of the data; NaN where the table does not tell."""
    if f"{half}_value" in table.columns and is_float(table).any():
        return float(table.loc[is_float(table), f"{half}_value"].iloc[0])
    if half == "report" and "report_difference" in table.columns:
        implied = (table["report_value"] - table["report_difference"]).dropna()
        return float(implied.median()) if len(implied) else math.nan
    return math.nan


def non_dominated(values: pd.Series, costs: pd.Series, metric: Quantity, cost: Quantity) -> pd.Series:
    """Which rows no other row beats in both; a row with a NaN never counts. Equal rows all count."""
    value = values if metric.higher_is_better else -values
    price = -costs if cost.higher_is_better else costs
    keep = pd.Series(False, index=values.index)
    best = -math.inf
    usable = value.notna() & price.notna()
    frame = pd.DataFrame({"price": price[usable], "value": value[usable]})
    for _, group in frame.groupby("price", sort=True):
        top = group["value"].max()
        if top > best:
            keep[group.index[group["value"] == top]] = True
            best = top
    return keep
