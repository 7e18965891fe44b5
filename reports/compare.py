"""Several finished runs beside each other: one table, one picture for each metric, one page, one CSV."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from qsim.errors import UserError
from reports.front import save_front
from reports.html import figure, html_table, page, provenance_table
from reports.quantities import Quantity, cost_quantity, metric_quantity
from reports.results import (
    PREFERRED_COSTS,
    Run,
    cost_names,
    float_value,
    is_baseline,
    is_searched,
    metric_of,
    objectives_of,
)
from reports.table import cells, markdown, summary_rows

# What a "cheapest" plan may lose on the half it was chosen on: a point of a percentage, or 2 %.
TOLERANCE = {"%": 0.01}
RELATIVE_TOLERANCE = 0.02


@dataclass(frozen=True)
class Comparison:
    """What a comparison says and where it was written."""

    header: list[str]
    rows: list[list[str]]
    files: list[Path]

    @property
    def markdown(self) -> str:
        """The table as Markdown."""
        return markdown(self.header, self.rows, left=2)


def compare(runs: Sequence[Run], folder: Path) -> Comparison:
    """Compare runs and write comparison.csv, .md, .html and a picture for each metric into `folder`."""
    if not runs:
        raise UserError("no runs to compare")
    runs = with_telling_names(runs)
    folder.mkdir(parents=True, exist_ok=True)
    joined = pd.concat([run.table.assign(run=run.name) for run in runs], ignore_index=True)
    joined.insert(0, "run", joined.pop("run"))
    csv = folder / "comparison.csv"
    joined.to_csv(csv, index=False)
    objectives = common_objectives(runs)
    header, rows = comparison_cells(runs, objectives)
    files, sections = [csv], [("Side by side", html_table(header, rows))]
    metrics = sorted({str(metric) for metric in joined["metric"]})
    for metric in metrics:
        tables = {run.name: run.table for run in runs if run.table["metric"].iloc[0] == metric}
        stem = "comparison" if len(metrics) == 1 else f"comparison_{metric_file_name(metric)}"
        png, svg = save_front(tables, folder, _drawable(tables, objectives), stem)
        files += [png, svg]
        sections.append((metric_quantity(metric).label, figure(svg.read_text(encoding="utf-8"))))
    for run in runs:
        sections.append((run.name, html_table(*cells(summary_rows(run.table))) + provenance_table(run.table)))
    result = Comparison(header, rows, files)
    for name, text in (
        ("comparison.md", result.markdown),
        ("comparison.html", page("qsim: comparison of runs", sections)),
    ):
        (folder / name).write_text(text, encoding="utf-8")
        files.append(folder / name)
    return result


def metric_file_name(metric: str) -> str:
    """A metric's name with only letters, digits and underscores, for a file."""
    return "".join(character if character.isalnum() else "_" for character in metric)


def with_telling_names(runs: Sequence[Run]) -> list[Run]:
    """Runs named by what differs between them (model, hardware, formats, search, seed) or by their folder."""
    columns = ("model", "hardware", "formats", "ptq", "search", "seed")
    described = [{column: _value_of(run, column) for column in columns} for run in runs]
    differing = [column for column in columns if len({each[column] for each in described}) > 1]
    names = [" ".join(each[column] for column in differing if each[column]) for each in described]
    folders = [run.folder.name or str(run.folder) for run in runs]
    result, taken = [], set()
    for name, folder, run in zip(names, folders, runs, strict=True):
        if not name or names.count(name) > 1:
            name = f"{name} ({folder})" if name else folder
        while name in taken:  # folders of different multiruns may be called alike
            name = f"{name}'"
        taken.add(name)
        result.append(Run(name, run.folder, run.table, run.plans))
    return result


def _value_of(run: Run, column: str) -> str:
    if column not in run.table.columns:
        return ""
    rows = run.table[is_searched(run.table)] if column == "search" else run.table
    return "+".join(sorted({str(value) for value in rows[column].dropna()}))


def common_objectives(runs: Sequence[Run], limit: int = 4) -> list[Quantity]:
    """Costs that most runs have, the well-known ones first; different hardware may share few."""
    counts: dict[str, int] = {}
    for run in runs:
        for name in cost_names(run.table):
            if run.table[name].nunique(dropna=True) > 1:
                counts[name] = counts.get(name, 0) + 1
    rank = {name: position for position, name in enumerate(PREFERRED_COSTS)}
    known = sorted((name for name in counts if name in rank), key=lambda name: (-counts[name], rank[name]))
    chosen = known[:limit] or list(counts)[:limit]
    if not chosen:
        return objectives_of(pd.concat([run.table for run in runs], ignore_index=True), limit)
    return [cost_quantity(name) for name in chosen]


def _drawable(tables: dict[str, pd.DataFrame], objectives: Sequence[Quantity]) -> list[Quantity]:
    held = {name for table in tables.values() for name in cost_names(table)}
    drawn = [objective for objective in objectives if objective.name in held]
    return drawn or objectives_of(pd.concat(list(tables.values()), ignore_index=True))


def comparison_cells(
    runs: Sequence[Run], objectives: Sequence[Quantity]
) -> tuple[list[str], list[list[str]]]:
    """For each run: float32, its widest uniform baseline, and the plan it chose."""
    header = ["run", "configuration", "search", "metric [95 %]", "change [95 %]"]
    header += [objective.short_label for objective in objectives]
    rows = []
    for run in runs:
        chosen = pd.concat([widest_baseline(run.table), chosen_plan(run.table)])
        float_text = metric_of(run.table).text(float_value(run.table))
        rows.append([run.name, "float32", "", float_text, "", *([""] * len(objectives))])
        rows += [[run.name, *row] for row in cells(chosen, objectives, metric_of(run.table))[1]]
    return header, rows


def widest_baseline(table: pd.DataFrame) -> pd.DataFrame:
    """The uniform baseline with the most weight memory (8 bits, say): one row, or none.

    Memory decides, not the objective: on a microcontroller three-bit weights may cost more energy than eight.
    """
    rows = table[is_baseline(table)]
    return rows.nlargest(1, "weight_bytes") if "weight_bytes" in rows.columns else rows.head(1)


def chosen_plan(table: pd.DataFrame) -> pd.DataFrame:
    """The row that the run marked as chosen; of a run that marked none, the cheapest that loses little."""
    marked = table[table["chosen"]]
    return marked.head(1) if len(marked) else cheapest(table)


def cheapest(table: pd.DataFrame) -> pd.DataFrame:
    """The searched plan with the lowest first objective among those that lose little: one row, or none.

    Loss is taken on the half of the data the search chose on, against float32 there (or, where the table
    does not have it, against the best row), so that the reported half stays untouched by the choice.
    """
    metric, objectives = metric_of(table), objectives_of(table, 1)
    half = "choose" if "choose_value" in table.columns and table["choose_value"].notna().any() else "report"
    sign = 1 if metric.higher_is_better else -1
    values, reference = sign * table[f"{half}_value"], sign * float_value(table, half)
    if math.isnan(reference):
        reference = float(values.max())
    allowed = TOLERANCE.get(metric.unit, RELATIVE_TOLERANCE * abs(reference))
    # The tolerance is meant as written, not less the rounding of a float subtraction.
    good = table[is_searched(table) & (values >= reference - allowed - 1e-12)]
    if not objectives:
        return good.head(0)
    return good.dropna(subset=[objectives[0].name]).nsmallest(1, objectives[0].name)
