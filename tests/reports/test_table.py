"""Tables for terminal and text: which rows, which words."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pandas as pd
from rich.console import Console

from reports.results import check_table, named_objectives
from reports.table import cells, markdown_table, rich_table, summary_rows

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


def test_rich_takes_labels_as_they_are(results: Results) -> None:
    table = check_table(results().assign(label="[red]8 bits[/red]"))
    out = io.StringIO()
    Console(file=out, width=200).print(rich_table(table.head(2), title="digits"))
    assert "[red]8 bits[/red]" in out.getvalue()
    assert "98.6 %" in out.getvalue()
