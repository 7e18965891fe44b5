"""The main job from the command line: what it writes, that it continues, and what it says of mistakes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import qsim
from searches.store import Store
from tests.end_to_end.command import FEW, own_network, run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[str]]:
    """(working folder, run folder, options) of one search on a user's own network."""
    folder = tmp_path_factory.mktemp("search")
    options = own_network(folder)
    run("qsim-search", *options, *FEW, "hydra.run.dir=runs/first", folder=folder)
    return folder, folder / "runs" / "first", options


def test_a_run_folder_holds_everything(finished: tuple[Path, Path, list[str]]) -> None:
    _, run_folder, _ = finished
    for name in ("results.csv", "pareto.png", "pareto.svg", "report.html", "run.log", ".hydra/config.yaml"):
        assert (run_folder / name).stat().st_size > 0, name
    table = pd.read_csv(run_folder / "results.csv")
    assert {"choose_value", "report_value", "report_low95", "report_difference", "lut", "lut_low90"} <= set(
        table
    )
    assert table["chosen"].sum() == 1 and table["is_front"].any()
    assert {"w8a8", "w4a4", "w2a2"} <= set(table.loc[table["search"] == "uniform", "label"])
    for plan_id in table.loc[table["plan_id"] != "float32", "plan_id"]:
        assert qsim.BitPlan.load(run_folder / "plans" / f"{plan_id}.json").id == plan_id


def test_reported_accuracy_is_what_the_emulator_measures(finished: tuple[Path, Path, list[str]]) -> None:
    folder, run_folder, _ = finished
    table = pd.read_csv(run_folder / "results.csv")
    row = table[table["label"] == "w3a3"].iloc[0]
    graph = qsim.load_model(folder / "small_cnn.onnx")
    plan = qsim.BitPlan.load(run_folder / "plans" / f"{row['plan_id']}.json")
    with np.load(folder / "data.npz") as data:
        hits = qsim.emulate(graph, plan, data["x_eval"]).output.argmax(1) == data["y_eval"]
    both_halves = (row["choose_value"] + row["report_value"]) / 2  # 30 samples each
    assert hits.mean() == pytest.approx(both_halves)


def test_nothing_is_measured_twice(finished: tuple[Path, Path, list[str]]) -> None:
    folder, _, options = finished
    before = len(Store(folder / "runs" / "evaluations.sqlite"))
    run("qsim-search", *options, *FEW, "hydra.run.dir=runs/second", folder=folder)
    assert len(Store(folder / "runs" / "evaluations.sqlite")) == before
    first, second = (pd.read_csv(folder / "runs" / name / "results.csv") for name in ("first", "second"))
    pd.testing.assert_frame_equal(first, second)


def test_a_killed_run_keeps_what_it_measured_and_continues(tmp_path: Path) -> None:
    options = own_network(tmp_path)
    store = tmp_path / "runs" / "evaluations.sqlite"
    script = str(Path(sys.executable).with_name("qsim-search"))
    process = subprocess.Popen(
        [script, *options, *FEW], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None:
        if store.exists() and store.stat().st_size and len(Store(store)) >= 5:
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = {str(question): answer for question, answer, _ in Store(store).records()}
    assert len(kept) >= 5
    run("qsim-search", *options, *FEW, folder=tmp_path)
    after = {str(question): answer for question, answer, _ in Store(store).records()}
    assert kept.items() <= after.items()


def test_a_sweep_over_hardware_and_search_becomes_one_comparison(tmp_path: Path) -> None:
    options = [*own_network(tmp_path), *FEW]
    hardware = "hardware=fpga_zcu104,asic_45nm,mcu_cortex_m4"
    run("qsim-search", "-m", hardware, *options, "hydra.sweep.dir=serial", folder=tmp_path)
    evolution = ["search=nsga2", "search.population=4", "search.generations=2", "hydra/launcher=joblib"]
    both = "hardware=fpga_zcu104,mcu_cortex_m4"
    run("qsim-search", "-m", both, *options, *evolution, "hydra.sweep.dir=parallel", folder=tmp_path)
    assert len(list(tmp_path.glob("serial/*/results.csv"))) == 3
    assert len(list(tmp_path.glob("parallel/*/results.csv"))) == 2
    run("qsim-report", "serial", "parallel", "--out", "comparison", folder=tmp_path)
    assert {path.suffix for path in (tmp_path / "comparison").iterdir()} >= {".csv", ".html", ".png"}


SOLVERS = ("greedy", "random", "exact", "hawq_v3", "vdqs")
WITH_OPTIONS = {
    "bisection": ["search.target=0.9"],
    "nsga3": ["search.population=4", "search.generations=2"],
}
QUICK = ["data.samples=40", "ptq=minmax", "formats=minifloats", "measured_plans=2", "sensitivity.samples=20"]


def test_every_solver_of_the_menu_runs_on_the_embedded_network(tmp_path: Path) -> None:
    """One process, one store: the sensitivities are measured once."""
    run("qsim-search", "-m", f"search={','.join(SOLVERS)}", *QUICK, "hydra.sweep.dir=all", folder=tmp_path)
    for job, solver in enumerate(SOLVERS):
        table = pd.read_csv(tmp_path / "all" / str(job) / "results.csv")
        assert table["found_by"].str.split().map(lambda names, solver=solver: solver in names).any(), solver
    for solver, options in WITH_OPTIONS.items():
        run("qsim-search", f"search={solver}", *QUICK, *options, f"hydra.run.dir={solver}", folder=tmp_path)
        assert solver in " ".join(pd.read_csv(tmp_path / solver / "results.csv")["found_by"])


def test_evolution_says_how_far_it_came_and_how_far_it_is_from_the_exact_front(
    finished: tuple[Path, Path, list[str]],
) -> None:
    folder, _, options = finished
    small = ["search=nsga2", "search.population=4", "search.generations=2", "hydra.run.dir=runs/nsga2"]
    said = run("qsim-search", *options, *FEW, *small, folder=folder).stdout
    assert "nsga2: hypervolume" in said and "above the exact front on average" in said
    result = json.loads((folder / "runs" / "nsga2" / "search.json").read_text())
    assert len(result["history"]) == 2 and {"mean", "worst", "hypervolume"} == set(result["details"]["gap"])


def test_budgets_that_conflict_are_named_with_what_they_lack(finished: tuple[Path, Path, list[str]]) -> None:
    folder, _, options = finished
    budgets = "search.budgets={weight_bytes: 60, peak_sram_bytes: 100000}"
    result = run("qsim-search", *options, *FEW, budgets, folder=folder, check=False)
    assert result.returncode == 2
    (line,) = (line for line in result.stderr.splitlines() if line.startswith("error:"))
    assert "weight_bytes <= 60 (at least" in line and "raise weight_bytes by" in line


def test_emulate_and_export_take_the_plans_of_a_run(finished: tuple[Path, Path, list[str]]) -> None:
    folder, run_folder, options = finished
    table = pd.read_csv(run_folder / "results.csv")
    row = table[table["label"] == "w8a8"].iloc[0]
    plan = f"plan={run_folder / 'plans' / row['plan_id']}.json"
    output = run("qsim-emulate", *options, plan, folder=folder).stdout
    assert f"{(row['choose_value'] + row['report_value']) / 2:.4f} on 60 samples" in output
    assert "exact (float32)" in output
    path = run("qsim-export", *options[:2], plan, folder=folder).stdout.strip()
    assert (folder / path).is_file()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["hardware=fpga_zcu140"], "did you mean fpga_zcu104"),
        (["hardwar=fpga_zcu104"], "hardwar"),
        (["search.generation=3", "search=nsga2"], "did you mean generations"),
        (["model=onnx", "model.path=nowhere.onnx"], "nowhere.onnx"),
        (["model=onnx"], "model.path"),
        (["formats.menu.w8a8.weights=int8@chanel:float32"], "chanel"),
        (["+formats.rules=[{layers: nothing, spec: w8a8}]"], "matches no layer"),
        (["metric=top5"], "metric can be"),
        (["objective=luts"], "lut"),
        (["formats.groups=[['*', nothing]]"], "formats.groups: pattern 'nothing' matches no layer"),
        (["fpga_zcu104"], "is not an option"),
        (["-m", "hardware=fpga_zcu104,fpga_zcu140"], "did you mean fpga_zcu104"),
    ],
)
def test_a_mistake_is_one_helpful_line(tmp_path: Path, arguments: list[str], message: str) -> None:
    result = run("qsim-search", *arguments, folder=tmp_path, check=False)
    assert result.returncode == 2
    lines = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    assert len(lines) == 1 and message in lines[0]
    assert "Traceback" not in result.stderr
