"""The table of a run, for a terminal (rich) and for a text file (Markdown): one row a configuration."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from reports.quantities import NONE, Quantity
from reports.results import is_baseline, is_float, is_searched, metric_of, objectives_of

if TYPE_CHECKING:
    from rich.table import Table

ROWS_PER_SEARCH = 8  # a terminal table shows at most so many points of one search


def summary_rows(table: pd.DataFrame, per_search: int = ROWS_PER_SEARCH) -> pd.DataFrame:
    """The rows worth showing: float32, every baseline, each search's front thinned evenly to `per_search`.

    A search of which no row is marked `is_front` is shown by all its rows, thinned alike. The dearest comes
    first.
    """
    objectives = objectives_of(table, 1)
    price = objectives[0].name if objectives else "report_value"
    parts = [table[is_float(table)], _dearest_first(table[is_baseline(table)], price)]
    for _, rows in table[is_searched(table)].groupby("search", sort=True):
        front = rows[rows["is_front"]] if rows["is_front"].any() else rows
        ordered = _dearest_first(front, price)
        kept = np.unique(np.linspace(0, len(ordered) - 1, min(per_search, len(ordered))).round().astype(int))
        parts.append(ordered.iloc[kept])
    return pd.concat(parts)


def _dearest_first(rows: pd.DataFrame, price: str) -> pd.DataFrame:
    return rows.sort_values(price, ascending=False, kind="stable")


def cells(
    table: pd.DataFrame, objectives: Sequence[Quantity] | None = None, metric: Quantity | None = None
) -> tuple[list[str], list[list[str]]]:
    """(header, rows) of text: configuration, search, metric with interval, change to float32, costs."""
    metric = metric or metric_of(table)
    objectives = list(objectives) if objectives is not None else objectives_of(table)
    change = "change (points)" if metric.unit == "%" else "change"
    header = ["configuration", "search", f"{metric.label} [95 %]", f"{change} [95 %]"]
    header += [objective.short_label for objective in objectives]
    rows = []
    for record in table.to_dict("records"):
        rows.append(
            [
                str(record["label"]) or str(record["plan_id"]),
                str(record["search"]),
                _value_cell(metric, record),
                _difference_cell(metric, record),
                *(objective.text(_number(record, objective.name)) for objective in objectives),
            ]
        )
    return header, rows


def rich_table(
    table: pd.DataFrame, objectives: Sequence[Quantity] | None = None, title: str | None = None
) -> Table:
    """The table for a terminal; print it with rich's Console."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    header, rows = cells(table, objectives)
    result = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
    for position, name in enumerate(header):
        # Headers may wrap, numbers with their intervals may not.
        result.add_column(Text(name), justify="left" if position < 2 else "right", no_wrap=1 < position < 4)
    sections = table["search"].to_list()
    for position, row in enumerate(rows):
        last_of_section = position + 1 < len(rows) and sections[position] != sections[position + 1]
        result.add_row(*(Text(cell) for cell in row), end_section=last_of_section)
    return result


def markdown_table(table: pd.DataFrame, objectives: Sequence[Quantity] | None = None) -> str:
    """The table as Markdown, numbers to the right."""
    header, rows = cells(table, objectives)
    return markdown(header, rows, left=2)


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """A Markdown table of texts; the first `left` columns are aligned to the left."""
    rule = ["---" if position < left else "---:" for position in range(len(header))]
    lines = [header, rule, *rows]
    return "\n".join("| " + " | ".join(_markdown_text(cell) for cell in line) + " |" for line in lines) + "\n"


def _markdown_text(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _number(record: Mapping[Hashable, object], name: str) -> float:
    value = record.get(name)
    return float(value) if isinstance(value, int | float) else math.nan


def _value_cell(metric: Quantity, record: Mapping[Hashable, object]) -> str:
    low, high = _number(record, "report_low95"), _number(record, "report_high95")
    text = metric.text(_number(record, "report_value"))
    if math.isnan(low) or math.isnan(high) or text == NONE:
        return text
    ends = [metric.text(end).removesuffix(" %") for end in (low, high)]
    return f"{text} [{', '.join(ends)}]"


def _difference_cell(metric: Quantity, record: Mapping[Hashable, object]) -> str:
    low = _number(record, "report_difference_low95")
    high = _number(record, "report_difference_high95")
    text = metric.difference_text(_number(record, "report_difference"))
    if math.isnan(low) or math.isnan(high) or text == NONE:
        return text
    return f"{text} [{metric.difference_text(low)}, {metric.difference_text(high)}]"
