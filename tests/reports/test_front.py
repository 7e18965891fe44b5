"""The Pareto picture shows what the table says, and survives poor tables."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from qsim.errors import UserError
from reports.front import front_figure, save_front
from reports.quantities import cost_quantity
from reports.results import check_table, named_objectives

Results = Callable[..., pd.DataFrame]


def series(panel: Any) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Legend label -> the x and y that are drawn under it."""
    handles, labels = panel.get_legend_handles_labels()
    lines = [handle[0] if isinstance(handle, tuple) else handle for handle in handles]
    return {
        label: (np.asarray(x.get_xdata()), np.asarray(x.get_ydata()))
        for label, x in zip(labels, lines, strict=True)
    }


def test_points_are_the_reported_half_in_percent(results: Results) -> None:
    table = check_table(results())
    (panel,) = front_figure({"run": table}, named_objectives(table, ["weight_bytes"])).axes
    drawn = series(panel)
    uniform = table[table["search"] == "uniform"].sort_values("weight_bytes")
    np.testing.assert_allclose(drawn["uniform"][0], uniform["weight_bytes"] / 1e3)
    np.testing.assert_allclose(drawn["uniform"][1], 100 * uniform["report_value"])
    assert drawn["float32"][1][0] == pytest.approx(98.6)
    assert {text.get_text() for text in panel.texts} == {"int8", "int6", "int4", "int3", "int2"}
    assert panel.get_xlabel() == "Weight memory (kB)"
    assert panel.get_ylabel().startswith("Top-1 accuracy (%)")


def test_the_line_joins_what_was_best_on_the_half_the_search_chose_on(results: Results) -> None:
    table = check_table(results(searches=("ilp",), points=3))
    searched = table["search"] == "ilp"
    table.loc[searched, "choose_value"] = [0.90, 0.80, 0.95]  # the middle one is dominated there ...
    table.loc[searched, "report_value"] = [0.90, 0.99, 0.95]  # ... and lucky on the other half
    (panel,) = front_figure({"run": table}, named_objectives(table, ["lut"])).axes
    np.testing.assert_allclose(series(panel)["ilp"][1], [90, 95])
    np.testing.assert_allclose(series(panel)["searched, dominated"][1], [99])


def test_intervals_are_drawn_as_long_as_they_are(results: Results) -> None:
    table = check_table(results(searches=()))
    (panel,) = front_figure({"run": table}, named_objectives(table, ["lut"])).axes
    bars = panel.containers[0].lines[2][0].get_segments()
    rows = table[table["search"] == "uniform"].sort_values("lut")
    for bar, low, high in zip(bars, rows["report_low95"], rows["report_high95"], strict=True):
        np.testing.assert_allclose(bar[:, 1], [100 * low, 100 * high])


def test_runs_keep_their_name_and_colour_in_every_panel(results: Results) -> None:
    tables = {"fpga": check_table(results()), "mcu": check_table(results(seed=1)).drop(columns="lut")}
    tables = {"mcu": tables["mcu"], "fpga": tables["fpga"]}
    figure = front_figure(tables, named_objectives(tables["fpga"], ["weight_bytes", "lut"]))
    curves = [dict(zip(*reversed(panel.get_legend_handles_labels()), strict=True)) for panel in figure.axes]
    assert {"mcu", "fpga"} <= set(curves[0])
    assert "mcu" not in curves[1]
    assert curves[0]["fpga"][0].get_color() == curves[1]["fpga"][0].get_color()
    assert curves[0]["fpga"][0].get_color() != curves[0]["mcu"][0].get_color()


def test_perplexity_grows_downwards(results: Results) -> None:
    table = check_table(results().assign(metric="perplexity"))
    table["report_value"] = 3 / table["report_value"]
    figure = front_figure({"run": table})
    assert figure.axes[0].yaxis_inverted()
    assert "lower is better" in figure.axes[0].get_ylabel()


def test_a_cost_that_all_plans_share_gets_no_panel(results: Results) -> None:
    table = check_table(results().assign(latency_s=1e-3))
    figure = front_figure({"run": table}, named_objectives(table, ["latency_s", "lut"]))
    assert [panel.get_xlabel() for panel in figure.axes] == ["LUTs (thousands)"]
    figure = front_figure({"run": table}, named_objectives(table, ["latency_s"]))
    assert [panel.get_xlabel() for panel in figure.axes] == ["Latency per inference (ms)"]


def test_the_chosen_plan_is_ringed(results: Results) -> None:
    raw = results()
    raw["chosen"] = raw["label"] == "ilp 3/9"
    table = check_table(raw)
    (panel,) = front_figure({"run": table}, named_objectives(table, ["lut"])).axes
    x, y = series(panel)["chosen"]
    row = table[table["chosen"]].iloc[0]
    assert (x[0], y[0]) == (pytest.approx(row["lut"] / 1e3), pytest.approx(100 * row["report_value"]))


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7])
def test_every_objective_has_its_panel(results: Results, count: int) -> None:
    names = [f"cost{index}_j" for index in range(count)]
    table = check_table(results().assign(**{name: np.arange(24.0) for name in names}))
    figure = front_figure({"run": table}, [cost_quantity(name) for name in names])
    assert sum(panel.get_visible() for panel in figure.axes) == count


@pytest.mark.parametrize(
    "spoil",
    [
        lambda table: table.head(1),
        lambda table: table[table["search"] == "ilp"].head(1),
        lambda table: table.drop(columns=[name for name in table.columns if "low" in name or "high" in name]),
        lambda table: table.assign(report_low95=np.nan, report_high95=np.nan),
        lambda table: table.assign(report_value=np.nan),
        lambda table: table.assign(lut=np.nan),
        lambda table: table.assign(lut=np.inf),
        lambda table: table.assign(lut=0.0, latency_s=0.0),
        lambda table: table.assign(report_value=1.0, report_low95=1.0, report_high95=1.0),
        lambda table: table.assign(report_value=0.0, report_low95=0.0, report_high95=0.0),
        lambda table: table.assign(label="$\\frac{1}{0$ <b>&"),
        lambda table: table.drop(columns=["choose_value", "is_front", "report_difference"]),
    ],
)
def test_poor_tables_still_give_a_picture(
    results: Results, spoil: Callable[[pd.DataFrame], pd.DataFrame]
) -> None:
    table = check_table(spoil(results()))
    figure = front_figure({"run": table}, named_objectives(table, ["lut", "weight_bytes"]))
    figure.draw_without_rendering()
    assert 1 <= len(figure.axes) <= 2


def test_nothing_to_draw_is_said(results: Results) -> None:
    with pytest.raises(UserError, match="no results"):
        front_figure({})
    table = check_table(results().drop(columns=["lut", "latency_s", "energy_j", "weight_bytes"]))
    table = table[[name for name in table.columns if "90" not in name]]
    with pytest.raises(UserError, match="no cost column"):
        front_figure({"run": table})


def test_the_same_table_gives_the_same_files(results: Results, tmp_path: Path) -> None:
    table = check_table(results())
    objectives = named_objectives(table, ["lut"])
    first = save_front({"run": table}, tmp_path / "a", objectives)
    second = save_front({"run": table}, tmp_path / "b", objectives)
    assert first[1].read_text().rstrip().endswith("</svg>")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
