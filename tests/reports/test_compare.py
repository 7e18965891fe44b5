"""qsim-report: several runs beside each other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from qsim.errors import UserError
from reports.app import main
from reports.compare import (
    cheapest,
    chosen_plan,
    common_objectives,
    compare,
    widest_baseline,
    with_telling_names,
)
from reports.results import Run, check_table, find_runs

Results = Callable[..., pd.DataFrame]


@pytest.fixture
def multirun(results: Results, tmp_path: Path) -> Path:
    """Three run folders as a sweep leaves them: two searches on an FPGA, one on a microcontroller."""
    fpga = results(searches=("ilp",))
    tables = {
        "0": fpga,
        "1": results(seed=1, searches=("nsga2",)).assign(seed=0),
        "2": fpga.drop(columns=[name for name in fpga.columns if name.startswith("lut")]).assign(
            hardware="mcu_cortex_m4", flash_bytes=fpga["weight_bytes"] * 2
        ),
    }
    for name, table in tables.items():
        (tmp_path / "sweep" / name).mkdir(parents=True)
        table.to_csv(tmp_path / "sweep" / name / "results.csv", index=False)
    return tmp_path / "sweep"


def test_runs_are_named_by_what_differs(multirun: Path) -> None:
    runs = with_telling_names(find_runs([multirun]))
    assert [run.name for run in runs] == ["fpga_zcu104 ilp", "fpga_zcu104 nsga2", "mcu_cortex_m4 ilp"]


def test_equal_runs_are_named_by_their_folders(results: Results) -> None:
    table = check_table(results())
    runs = [Run("x", Path(folder), table) for folder in ("a/0", "a/1", "b/0")]
    names = [run.name for run in with_telling_names(runs)]
    assert names[:2] == ["0", "1"]
    assert len(set(names)) == 3


def test_objectives_are_those_most_runs_share(multirun: Path) -> None:
    names = [objective.name for objective in common_objectives(find_runs([multirun]))]
    assert names == ["latency_s", "energy_j", "weight_bytes", "lut"]


def test_cheapest_plan_is_chosen_on_the_half_meant_for_choosing(results: Results) -> None:
    table = check_table(results(searches=("ilp",), points=3))
    table.loc[table["search"] == "float32", "choose_value"] = 0.99
    searched = table["search"] == "ilp"
    table.loc[searched, "choose_value"] = [0.97, 0.98, 0.99]
    table.loc[searched, "report_value"] = [0.99, 0.5, 0.99]
    assert cheapest(table)["label"].tolist() == ["ilp 2/3"]
    table.loc[searched, "choose_value"] = 0.5
    assert cheapest(table).empty
    assert widest_baseline(table)["label"].tolist() == ["uniform int8"]


def test_a_plan_that_the_run_chose_is_the_one_compared(results: Results) -> None:
    raw = results(searches=("ilp",), points=3)
    raw["chosen"] = raw["label"] == "ilp 3/3"
    assert chosen_plan(check_table(raw))["label"].tolist() == ["ilp 3/3"]
    assert chosen_plan(check_table(raw.drop(columns="chosen")))["label"].tolist() == ["ilp 2/3"]


def test_cheapest_plan_of_a_metric_that_should_be_low(results: Results) -> None:
    table = check_table(results(searches=("ilp",), points=3).assign(metric="perplexity"))
    table.loc[table["search"] == "float32", "choose_value"] = 10.0
    table.loc[table["search"] == "ilp", "choose_value"] = [11.0, 10.1, 9.9]
    assert cheapest(table)["label"].tolist() == ["ilp 2/3"]


def test_a_multirun_folder_becomes_one_comparison(
    multirun: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main([str(multirun), "--out", str(out)]) == 0
    names = {path.name for path in out.iterdir()}
    assert names == {f"comparison.{end}" for end in ("csv", "md", "html", "png", "svg")}
    joined = pd.read_csv(out / "comparison.csv")
    assert joined["run"].value_counts().to_dict() == dict.fromkeys(joined["run"].unique(), 15)
    assert joined["lut"].notna().sum() == 2 * 14
    printed = capsys.readouterr().out
    assert "uniform int8" in printed
    assert "comparison.html" in printed
    assert (out / "comparison.md").read_text().count("mcu_cortex_m4 ilp") == 3


def test_runs_with_different_metrics_get_a_picture_each(results: Results, tmp_path: Path) -> None:
    first = check_table(results(searches=("ilp",)))
    second = check_table(results(searches=("ilp",)).assign(metric="score.py:my score"))
    runs = [Run("a", tmp_path / "a", first), Run("b", tmp_path / "b", second)]
    written = {path.name for path in compare(runs, tmp_path).files}
    assert {"comparison_top1.png", "comparison_score_py_my_score.png"} <= written


def test_one_run_is_compared_with_its_baselines(results: Results, tmp_path: Path) -> None:
    run = Run("only", tmp_path, check_table(results().head(1)))
    assert [row[1] for row in compare([run], tmp_path).rows] == ["float32"]
    with pytest.raises(UserError, match="no runs"):
        compare([], tmp_path)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["/no/such/folder"], "/no/such/folder: no such folder"),
        ([], "required: FOLDER"),
        (["--outt", "x", "y"], "--outt"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("qsim-report: ")
    assert expected in error
    assert error.count("\n") == 1
