"""The Pareto plot: the metric on the report half against one hardware cost a panel, with 95 % intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from qsim.errors import UserError
from reports.labels import label_points
from reports.quantities import Quantity
from reports.results import (
    float_value,
    is_baseline,
    is_searched,
    metric_of,
    non_dominated,
    objectives_of,
)

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours (2008), told apart by colour-blind readers; markers differ too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "D", "^", "v", "P", "X")
BASELINE_COLOUR = "#333333"
FLOAT_COLOUR = "#777777"
DOMINATED = "searched, dominated"
PANEL_SIZE = (5.4, 4.1)  # inches
# Ticks of the axis whose error (1 - accuracy) is on a log scale.
ERROR_TICKS = (0.999, 0.998, 0.995, 0.99, 0.98, 0.95, 0.9, 0.8, 0.6, 0.3, 0.0)


def front_figure(tables: Mapping[str, pd.DataFrame], objectives: Sequence[Quantity] | None = None) -> Figure:
    """Draw checked result tables that share a metric, one panel for each objective.

    One table: a line for each search. Several: a line for each table, named by its key. The line joins the
    points that are non-dominated on the half the search chose on; what is drawn is their value on the other
    half, so it may fall here and there. UserError when there is nothing to draw.
    """
    from matplotlib.figure import Figure

    if not tables:
        raise UserError("no results to draw")
    everything = pd.concat(list(tables.values()), ignore_index=True)
    objectives = list(objectives) if objectives is not None else objectives_of(everything)
    if not objectives:
        raise UserError("the results have no cost column, so there is nothing to draw the metric against")
    # A cost that is the same for every plan has nothing to show, unless it is all there is.
    telling = [each for each in objectives if everything.get(each.name, pd.Series()).nunique() > 1]
    objectives = telling or objectives[:1]
    columns = min(len(objectives), 2 if len(objectives) in (2, 4) else 3)
    rows = math.ceil(len(objectives) / columns)
    figure = Figure(figsize=(PANEL_SIZE[0] * columns, PANEL_SIZE[1] * rows + 0.6), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for panel, objective in zip(panels.flat, objectives, strict=False):
        _draw_panel(panel, tables, objective)
    for panel in panels.flat[len(objectives) :]:
        panel.set_visible(False)
    # Shared axes: the scale of the first panel is that of all.
    _scale_metric_axis(panels.flat[0], everything)
    for row in panels:
        row[0].set_ylabel(_metric_label(everything), parse_math=False)
    handles, labels = _legend_entries(panels.flat)
    legend = figure.legend(
        handles,
        labels,
        loc="outside upper center",
        ncols=min(len(labels), 2 * columns, 5) or 1,
        frameon=False,
    )
    # Labels are the user's own text, in which a dollar sign is a dollar sign.
    for text in legend.get_texts():
        text.set_parse_math(False)
    figure.draw_without_rendering()  # settles where things are
    for panel, objective in zip(panels.flat, objectives, strict=False):
        _name_baselines(panel, everything, objective)
    return figure


def save_front(
    tables: Mapping[str, pd.DataFrame],
    folder: Path,
    objectives: Sequence[Quantity] | None = None,
    stem: str = "pareto",
) -> tuple[Path, Path]:
    """Write <stem>.png and <stem>.svg into a folder; the same tables give the same files."""
    import matplotlib

    folder.mkdir(parents=True, exist_ok=True)
    png, svg = folder / f"{stem}.png", folder / f"{stem}.svg"
    with matplotlib.rc_context({"svg.hashsalt": "qsim", "font.size": 10}):
        figure = front_figure(tables, objectives)
        figure.savefig(png, dpi=150, metadata={"Software": None})
        figure.savefig(svg, metadata={"Date": None, "Creator": None})
    return png, svg


def _draw_panel(panel: Axes, tables: Mapping[str, pd.DataFrame], objective: Quantity) -> None:
    name = objective.name
    shown = {key: table for key, table in tables.items() if name in table.columns}
    costs = pd.concat([table[name] for table in shown.values()]) if shown else pd.Series(dtype=float)
    factor, unit = objective.scale(costs)
    metric_factor = metric_of(next(iter(tables.values()))).scale([1.0])[0]
    finite = costs[np.isfinite(costs) & (costs > 0)]
    if len(finite) and finite.max() > 30 * finite.min():
        panel.set_xscale("log")
    for position, (label, points) in enumerate(_curves(tables)):
        if name not in points.columns:
            continue
        colour, marker = COLOURS[position % len(COLOURS)], MARKERS[position % len(MARKERS)]
        _draw_curve(panel, points, objective, (factor, metric_factor), (label, colour, marker))
    for table in shown.values():
        _draw_baselines(panel, table[is_baseline(table)], name, (factor, metric_factor))
    for table in shown.values():
        x, y, _ = _coordinates(table[table["chosen"] & table[name].notna()], name, (factor, metric_factor))
        panel.plot(
            x, y, linestyle="none", marker="o", markersize=13, markerfacecolor="none", color=BASELINE_COLOUR,
            label="chosen" if len(x) else None, zorder=5,
        )  # fmt: skip
    references = {value for value in map(float_value, tables.values()) if math.isfinite(value)}
    for value in references:
        panel.axhline(value / metric_factor, color=FLOAT_COLOUR, linestyle="--", linewidth=1, label="float32")
    panel.set_xlabel(objective.axis_label(unit), parse_math=False)
    panel.grid(alpha=0.25, linewidth=0.6)
    panel.spines[["top", "right"]].set_visible(False)
    _note_uncertainty(panel, shown, name)


def _curves(tables: Mapping[str, pd.DataFrame]) -> list[tuple[str, pd.DataFrame]]:
    """(label, searched rows): by search within one table, otherwise by table."""
    if len(tables) == 1:
        (table,) = tables.values()
        searched = table[is_searched(table)]
        return [(str(name), rows) for name, rows in searched.groupby("search", sort=True)]
    return [(key, table[is_searched(table)]) for key, table in tables.items()]


def _draw_curve(
    panel: Axes,
    rows: pd.DataFrame,
    objective: Quantity,
    factors: tuple[float, float],
    style: tuple[str, str, str],
) -> None:
    label, colour, marker = style
    rows = rows.dropna(subset=[objective.name, "report_value"]).sort_values(objective.name)
    if rows.empty:
        return
    chosen_by = rows["choose_value"] if "choose_value" in rows.columns else rows["report_value"]
    on_front = non_dominated(chosen_by, rows[objective.name], metric_of(rows), objective)
    rest, front = rows[~on_front], rows[on_front]
    x, y, errors = _coordinates(front, objective.name, factors)
    panel.errorbar(
        x, y, yerr=errors, label=label, color=colour, marker=marker,
        markersize=5, linewidth=1.6, elinewidth=0.8, capsize=2, zorder=3,
    )  # fmt: skip
    if len(rest):
        x, y, _ = _coordinates(rest, objective.name, factors)
        panel.plot(
            x, y, linestyle="none", marker=marker, markersize=4, markerfacecolor="none",
            color=colour, alpha=0.45, zorder=2, label=DOMINATED,
        )  # fmt: skip


def _draw_baselines(panel: Axes, rows: pd.DataFrame, name: str, factors: tuple[float, float]) -> None:
    rows = rows.dropna(subset=[name, "report_value"]).sort_values(name)
    if rows.empty:
        return
    x, y, errors = _coordinates(rows, name, factors)
    panel.errorbar(
        x, y, yerr=errors, label="uniform", color=BASELINE_COLOUR, marker="s", markersize=5.5,
        markerfacecolor="white", linestyle="none", elinewidth=0.8, capsize=2, zorder=4,
    )  # fmt: skip


def _name_baselines(panel: Axes, table: pd.DataFrame, objective: Quantity) -> None:
    name = objective.name
    if name not in table.columns:
        return
    rows = table[is_baseline(table)].dropna(subset=[name, "report_value"])
    # Runs that share model, data and hardware have the same baselines: named once.
    rows = rows[np.isfinite(rows[name])].drop_duplicates(["label", "report_value", name])
    if rows.empty:
        return
    factors = objective.scale(table[name])[0], metric_of(table).scale([1.0])[0]
    x, y, _ = _coordinates(rows, name, factors)
    lines = [np.asarray(line.get_xydata(), float) for line in panel.get_lines()[:-1]]  # the last is float32's
    obstacles = np.concatenate([*map(_along, lines), np.empty((0, 2))])
    texts = [label.removeprefix("uniform").strip() for label in rows["label"]]
    label_points(panel, np.stack([x, y], axis=1), texts, obstacles, BASELINE_COLOUR)


def _along(line: np.ndarray) -> np.ndarray:
    """Points [M, 2] on a line [N, 2]: its corners, and nine between each two of them."""
    if len(line) < 2:
        return line
    steps = np.linspace(0, len(line) - 1, 10 * (len(line) - 1) + 1)
    return np.stack([np.interp(steps, np.arange(len(line)), line[:, axis]) for axis in (0, 1)], axis=1)


def _coordinates(
    rows: pd.DataFrame, name: str, factors: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x, y and the lengths of the lower and upper error bars [2, N]; a missing interval has length 0."""
    cost_factor, metric_factor = factors
    value = rows["report_value"].to_numpy(float)
    bars = [np.zeros_like(value), np.zeros_like(value)]
    for index, (end, sign) in enumerate((("low95", -1), ("high95", 1))):
        if f"report_{end}" in rows.columns:
            length = sign * (rows[f"report_{end}"].to_numpy(float) - value)
            bars[index] = np.nan_to_num(np.maximum(length, 0), nan=0.0, posinf=0.0)
    return rows[name].to_numpy(float) / cost_factor, value / metric_factor, np.stack(bars) / metric_factor


def _note_uncertainty(panel: Axes, tables: Mapping[str, pd.DataFrame], name: str) -> None:
    """How sure the cost model is: one line, since the error is common to the points of a panel."""
    held = [table for table in tables.values() if {f"{name}_low90", f"{name}_high90"} <= set(table.columns)]
    if not held:
        return
    low, high = (
        100 * pd.concat([table[f"{name}_{end}"] / table[name] - 1 for table in held]).median()
        for end in ("low90", "high90")
    )
    if math.isfinite(low) and math.isfinite(high) and high > low:
        text = f"cost model: {low:+.0f} % to {high:+.0f} % (90 % interval)".replace("-", "\N{MINUS SIGN}")
        panel.set_title(text, fontsize=8.5, color="#555555", loc="right")


def _uses_error_axis(table: pd.DataFrame) -> bool:
    """Whether accuracies lie so far apart that differences near the top would vanish on a linear axis."""
    metric = metric_of(table)
    values = table["report_value"].dropna()
    if metric.unit != "%" or values.empty or values.min() < 0 or values.max() > 1:
        return False
    smallest = max(1 - values.max(), 1e-3)
    return bool((1 - values.min()) / smallest > 8)


def _scale_metric_axis(panel: Axes, table: pd.DataFrame) -> None:
    metric = metric_of(table)
    values = table["report_value"].dropna()
    if _uses_error_axis(table):
        best = pd.concat([values, table.get("report_high95", values)]).max()  # skips NaN
        # Half of the error of the best interval end, so that a perfect score still has a place.
        floor = max(100 * (1 - best), 0.1) / 2

        def forward(percent: np.ndarray) -> np.ndarray:
            return -np.log10(np.maximum(100 - percent, floor))

        def inverse(place: np.ndarray) -> np.ndarray:
            return 100 - 10.0 ** (-place)

        panel.set_yscale("function", functions=(forward, inverse))
        ticks = [100 * tick for tick in ERROR_TICKS if 100 * (1 - tick) >= floor]
        panel.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
        # Below 0 % there is nothing, only room for a marker and its label.
        panel.set_ylim(100 - 1.5 * 100 * (1 - values.min()), 100 - floor)
    elif not metric.higher_is_better:
        positive = values[np.isfinite(values) & (values > 0)]
        if len(positive) and positive.max() > 5 * positive.min():
            panel.set_yscale("log")
        panel.invert_yaxis()  # better is always up


def _metric_label(table: pd.DataFrame) -> str:
    metric = metric_of(table)
    notes = []
    if _uses_error_axis(table):
        notes.append("error on a log scale")
    if not metric.higher_is_better:
        notes.append("lower is better")
    label = metric.axis_label(metric.unit)
    return f"{label}\n{', '.join(notes)}" if notes else label


def _legend_entries(panels: np.flatiter[np.ndarray]) -> tuple[list[Artist], list[str]]:
    entries: dict[str, Artist] = {}
    for panel in panels:
        handles, labels = panel.get_legend_handles_labels()
        for handle, label in zip(handles, labels, strict=True):
            entries.setdefault(label, handle)
    last = (DOMINATED, "uniform", "float32", "chosen")
    order = sorted(entries, key=lambda label: last.index(label) if label in last else -1)
    return [entries[label] for label in order], order
