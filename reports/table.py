"""The table of a run, for a terminal (rich) and for a text file (Markdown): one row a configuration."""

from __future__ import annotations

import math
import shutil
import textwrap
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from reports.quantities import NONE, Quantity
from reports.results import is_baseline, is_float, is_searched, metric_of, objectives_of

if TYPE_CHECKING:
    from rich.table import Table

LABEL_WIDTH = 30  # characters before a configuration's name wraps
ROWS_PER_SEARCH = 8  # a terminal table shows at most so many points of one search


def summary_rows(table: pd.DataFrame, per_search: int = ROWS_PER_SEARCH) -> pd.DataFrame:
    """The rows worth showing: float32, every baseline, each search's front thinned evenly to `per_search`.

    A search of which no row is marked `is_front` is shown by all its rows, thinned alike. A chosen row is
    always there. The dearest comes first.
    """
    objectives = objectives_of(table, 1)
    price = objectives[0].name if objectives else "report_value"
    parts = [table[is_float(table)], _dearest_first(table[is_baseline(table)], price)]
    for _, rows in table[is_searched(table)].groupby("search", sort=True):
        front = rows[rows["is_front"]] if rows["is_front"].any() else rows
        ordered = _dearest_first(front, price)
        kept = np.linspace(0, len(ordered) - 1, min(per_search, len(ordered))).round().astype(int)
        wanted = rows.index.isin(ordered.index[kept]) | rows["chosen"]
        parts.append(_dearest_first(rows[wanted], price))
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
                (str(record["label"]) or str(record["plan_id"])) + (" (chosen)" if record["chosen"] else ""),
                str(record["search"]),
                _value_cell(metric, record),
                _difference_cell(metric, record),
                *(objective.text(_number(record, objective.name)) for objective in objectives),
            ]
        )
    return header, rows


def rich_table(
    table: pd.DataFrame,
    objectives: Sequence[Quantity] | None = None,
    title: str | None = None,
    width: int | None = None,
) -> Table:
    """The table for a terminal `width` characters wide (default: this one); print it with rich's Console.

    Where it would not fit it leaves out the search, then the intervals, then the last costs.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    columns = fit_columns(*cells(table, objectives), width or shutil.get_terminal_size().columns)
    result = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
    for name, *texts in columns:
        is_text = name in ("configuration", "search")
        result.add_column(
            Text(textwrap.fill(name.replace(" %]", "\N{NO-BREAK SPACE}%]"), _column_width(name, texts))),
            justify="left" if is_text else "right",
            no_wrap=not is_text,  # long names may wrap, numbers with their intervals may not
            max_width=LABEL_WIDTH if is_text else None,
        )
    sections = table["search"].to_list()
    for position, row in enumerate(zip(*(texts for _, *texts in columns), strict=True)):
        last_of_section = position + 1 < len(sections) and sections[position] != sections[position + 1]
        result.add_row(*map(Text, row), end_section=last_of_section)
    return result


def fit_columns(header: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> list[list[str]]:
    """Columns (name first, then a text a row) of a table that fits into `width` characters, if any does."""
    columns = [[name, *(row[position] for row in rows)] for position, name in enumerate(header)]
    if _width(columns) > width:
        columns.pop(1)
    for position in (2, 1):
        if _width(columns) > width:
            columns[position] = [text.split(" [")[0] for text in columns[position]]
    while _width(columns) > width and len(columns) > 2:
        columns.pop()
    return columns


def _width(columns: Sequence[Sequence[str]]) -> int:
    """Characters that rich needs: a space on both sides of a column and one between two."""
    return 2 + sum(3 + min(_column_width(name, texts), LABEL_WIDTH) for name, *texts in columns)


def _column_width(name: str, texts: Sequence[str]) -> int:
    """The longest text, or the longest word of the name, which may wrap."""
    return max(map(len, (*texts, *name.split())), default=1)


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
