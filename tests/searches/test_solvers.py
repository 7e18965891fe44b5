"""Every config names a solver that runs with the options it lists."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from qsim.errors import UserError
from searches import solvers
from searches.problem import Problem, Selection
from tests.searches.instances import two_layer_problem

FOLDER = Path(__file__).parents[2] / "configs" / "search"
CONFIGS = sorted(path for path in FOLDER.glob("*.yaml") if path.stem != "uniform")  # which asks no solver
FILLED = {"cost": "size", "compute": "size", "entropy_loss": "loss", "target": -1e13, "n_objectives": 2}


def measured(selection: Selection) -> tuple[float, float]:
    return float(selection.totals["loss"]), float(selection.totals["size"])


@pytest.fixture
def problem() -> Problem:
    return two_layer_problem(size=60).with_objectives("loss", "size")


@pytest.mark.parametrize("path", CONFIGS, ids=[path.stem for path in CONFIGS])
def test_a_config_is_one_solver_with_its_options(path: Path, problem: Problem) -> None:
    text = path.read_text()
    options = yaml.safe_load(text)
    assert text.startswith("# ")
    assert options["name"] == path.stem
    options |= {key: value for key, value in FILLED.items() if key in options}
    result = solvers.solve(options["name"], problem, options, evaluate=measured)
    assert result.selections
    assert result.solver.split("/")[0] in (path.stem, "front")


def test_every_solver_has_a_config() -> None:
    assert {path.stem for path in CONFIGS} == {*solvers.ADDITIVE, *solvers.MEASURING}


def test_a_mistyped_name_or_option_is_one_line(problem: Problem) -> None:
    with pytest.raises(UserError, match="search 'nsga' is unknown; did you mean nsga"):
        solvers.solve("nsga", problem, {})
    with pytest.raises(
        UserError, match=r"search\.generation is no option of nsga2; it has generations, population"
    ):
        solvers.solve("nsga2", problem, {"generation": 3}, evaluate=measured)
    with pytest.raises(UserError, match="nsga2 measures selections"):
        solvers.solve("nsga2", problem, {})
