"""Reading result tables: what is refused, and what is asked of a table."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qsim.errors import UserError
from reports.quantities import cost_quantity, metric_quantity
from reports.results import (
    check_table,
    cost_names,
    find_runs,
    float_value,
    load_run,
    named_objectives,
    non_dominated,
    objectives_of,
)

Results = Callable[..., pd.DataFrame]


def one_line(error: pytest.ExceptionInfo[UserError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


def test_a_table_survives_the_trip_through_csv(results: Results, tmp_path: Path) -> None:
    table = check_table(results())
    table.to_csv(tmp_path / "results.csv", index=False)
    pd.testing.assert_frame_equal(load_run(tmp_path).table, table, check_dtype=False)


def test_hashes_that_look_like_numbers_stay_text(results: Results, tmp_path: Path) -> None:
    table = results().assign(plan_id="0012e4", model_hash="00001")
    table.to_csv(tmp_path / "results.csv", index=False)
    assert set(load_run(tmp_path).table["plan_id"]) == {"0012e4"}


def test_costs_are_the_columns_that_are_nothing_else(results: Results) -> None:
    table = check_table(results())
    assert cost_names(table) == ["lut", "latency_s", "energy_j", "weight_bytes"]
    assert [objective.name for objective in objectives_of(table, 2)] == ["lut", "latency_s"]


def test_a_cost_that_never_changes_is_no_objective(results: Results) -> None:
    table = check_table(results().assign(dsp=0.0))
    assert "dsp" not in [objective.name for objective in objectives_of(table)]
    assert objectives_of(table.head(1)), "one row still has a cost to show"


def test_float_reference_comes_from_its_row_or_from_the_differences(results: Results) -> None:
    table = check_table(results())
    assert float_value(table) == 0.986
    without = table[table["search"] != "float32"]
    assert float_value(without) == pytest.approx(0.986)
    assert math.isnan(float_value(without.drop(columns="report_difference")))


def test_mistakes_are_one_line_that_names_the_file(results: Results, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        find_runs([tmp_path / "absent"])
    assert "absent: no such folder" in one_line(error)
    with pytest.raises(UserError) as error:
        find_runs([tmp_path])
    assert "no results.csv" in one_line(error)
    path = tmp_path / "results.csv"
    for content, expected in (
        ("", "not a readable table"),
        ("a,b\n1,2\n", "no column plan_id"),
        ("plan_id,search,label,metric,report_value\n", "no configuration"),
        ("plan_id,search,label,metric,report_value\np,ilp,x,top1,high\n", "column report_value"),
        ("plan_id,search,label,metric,report_value\np,ilp,x,top1,1\nq,ilp,y,auc,1\n", "auc, top1"),
    ):
        path.write_text(content)
        with pytest.raises(UserError) as error:
            load_run(tmp_path)
        assert expected in one_line(error)
        assert str(path) in one_line(error)
    with pytest.raises(UserError) as error:
        named_objectives(check_table(results()), ["luts"])
    assert "lut, latency_s" in one_line(error)


def test_runs_are_found_below_a_multirun_folder(results: Results, tmp_path: Path) -> None:
    for name in ("0", "1", "10"):
        (tmp_path / name / "plans").mkdir(parents=True)
        results().to_csv(tmp_path / name / "results.csv", index=False)
    (tmp_path / "0" / "plans" / "best_plan00000003.json").write_text("{}")
    runs = find_runs([tmp_path, tmp_path / "1"])
    assert [run.folder.name for run in runs] == ["0", "1", "10"]
    assert runs[0].plan_path("plan00000003") == tmp_path / "0" / "plans" / "best_plan00000003.json"
    assert runs[0].plan_path("plan00000004") is None
    assert runs[0].plan_path("") is None


@given(
    st.lists(
        st.tuples(st.sampled_from([0.1, 0.2, 0.5, math.nan]), st.sampled_from([1.0, 2.0, 3.0, math.nan])),
        min_size=1,
        max_size=12,
    ),
    st.booleans(),
)
def test_non_dominated_rows_are_those_that_nobody_beats(
    points: list[tuple[float, float]], lower_is_better: bool
) -> None:
    metric = metric_quantity("perplexity" if lower_is_better else "top1")
    frame = pd.DataFrame(points, columns=["value", "cost"], dtype=float)
    kept = non_dominated(frame["value"], frame["cost"], metric, cost_quantity("lut"))
    sign = -1 if lower_is_better else 1
    for (value, cost), is_kept in zip(points, kept, strict=True):
        beaten = any(
            sign * other >= sign * value and price <= cost and (other, price) != (value, cost)
            for other, price in points
        )
        assert is_kept == (not beaten and not math.isnan(value) and not math.isnan(cost))
