"""Tables for terminal and text: which rows, which words."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from reports.results import check_table, named_objectives
from reports.table import cells, fit_columns, markdown_table, rich_table, summary_rows

Results = Callable[..., pd.DataFrame]


def test_a_row_reads_as_measured(results: Results) -> None:
    table = check_table(results())
    header, rows = cells(
        table[table["label"] == "uniform int4"], named_objectives(table, ["lut", "energy_j"])
    )
    assert header == [
        *("configuration", "search", "Top-1 accuracy [95 %]", "change (points) [95 %]"),
        *("LUTs", "Energy"),
    ]
    assert rows == [
        ["uniform int4", "uniform", "91.0 % [88.5, 93.5]", "-7.6 [-8.9, -6.3]", "5.46 k", "211 nJ"]
    ]


def test_missing_numbers_are_dashes(results: Results) -> None:
    table = check_table(results().assign(report_low95=np.nan, report_difference=np.nan, lut=np.nan))
    _, rows = cells(table.head(1), named_objectives(table, ["lut"]))
    assert rows == [["float32", "float32", "98.6 %", "-", "-"]]


def test_summary_keeps_float_baselines_and_both_ends_of_the_front(results: Results) -> None:
    table = check_table(results(points=40))
    shown = summary_rows(table, per_search=5)
    assert shown["search"].tolist() == ["float32"] + ["uniform"] * 5 + ["ilp"] * 5 + ["nsga2"] * 5
    front = table[table["search"] == "ilp"]
    kept = shown[shown["search"] == "ilp"]["lut"]
    assert kept.is_monotonic_decreasing
    assert (kept.max(), kept.min()) == (front["lut"].max(), front["lut"].min())


def test_summary_of_one_row_is_that_row(results: Results) -> None:
    table = check_table(results())
    for row in (table.head(1), table.tail(1)):
        assert summary_rows(row)["plan_id"].tolist() == row["plan_id"].tolist()


def test_markdown_is_one_line_a_row_whatever_the_labels_hold(results: Results) -> None:
    table = check_table(results().assign(label="a|b\nc"))
    lines = markdown_table(table.head(3), named_objectives(table, ["lut"])).splitlines()
    assert len(lines) == 5
    assert {line.replace("\\|", "").count("|") for line in lines} == {6}


def test_a_chosen_row_is_shown_and_says_so(results: Results) -> None:
    raw = results(points=40)
    raw["chosen"] = raw["label"] == "nsga2 17/40"
    shown = summary_rows(check_table(raw), per_search=3)
    _, rows = cells(shown)
    assert [row[0] for row in rows if "(chosen)" in row[0]] == ["nsga2 17/40 (chosen)"]


@pytest.mark.parametrize("width", [60, 80, 100, 120, 160])
def test_a_narrow_terminal_gets_fewer_columns_and_whole_numbers(results: Results, width: int) -> None:
    table = check_table(results())
    out = io.StringIO()
    Console(file=out, width=width).print(rich_table(table, width=width))
    printed = out.getvalue()
    assert "…" not in printed
    assert max(map(len, printed.splitlines())) <= width
    assert "98.4 %" in printed
    if width in (60, 160):
        assert ("[97.3, 99.5]" in printed) == (width == 160)


def test_columns_that_never_fit_keep_name_and_metric() -> None:
    header, row = (
        ["configuration", "search", "metric [95 %]", "change [95 %]", "LUTs"],
        ["x", "y", "1 [0, 2]", "0", "9"],
    )
    assert fit_columns(header, [row], 5) == [["configuration", "x"], ["metric", "1"]]


def test_rich_takes_labels_as_they_are(results: Results) -> None:
    table = check_table(results().assign(label="[red]8 bits[/red]"))
    out = io.StringIO()
    Console(file=out, width=200).print(rich_table(table.head(2), title="digits"))
    assert "[red]8 bits[/red]" in out.getvalue()
    assert "98.6 %" in out.getvalue()
