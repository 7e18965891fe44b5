"""The same sweep on other launchers: Ray on two workers of this machine, Slurm's submitit run locally."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pytest

from tests.end_to_end.command import FEW, own_network, run

pytestmark = pytest.mark.consumer
SWEEP = ["-m", "hardware=fpga_zcu104,mcu_cortex_m4", *FEW, "hydra.sweep.dir=sweep"]
ALONE = ["hardware=fpga_zcu104", *FEW, "hydra.run.dir=alone", "store=alone.sqlite"]
RAY = ["hydra/launcher=ray", "+hydra.launcher.ray.init.num_cpus=2", "+hydra.launcher.ray.remote.num_cpus=1"]
SUBMITIT = ["hydra/launcher=submitit_local", "hydra.launcher.timeout_min=20"]


def needs(plugin: str, extra: str) -> pytest.MarkDecorator:
    # Hydra finds its plugins by name; importing one here would start it.
    found = find_spec("hydra_plugins") is not None and find_spec(f"hydra_plugins.{plugin}") is not None
    return pytest.mark.skipif(not found, reason=f"pip install 'qsim[{extra}]' is not done")


@pytest.mark.parametrize(
    "launcher",
    [
        pytest.param(RAY, id="ray", marks=needs("hydra_ray_launcher", "ray")),
        pytest.param(SUBMITIT, id="submitit", marks=needs("hydra_submitit_launcher", "slurm")),
    ],
)
def test_a_sweep_gives_what_it_gives_one_after_the_other(tmp_path: Path, launcher: list[str]) -> None:
    options = own_network(tmp_path)
    run("qsim-search", *SWEEP, *options, *launcher, folder=tmp_path)
    found = [pd.read_csv(tmp_path / "sweep" / str(job) / "results.csv") for job in range(2)]
    assert [set(table["hardware"]) for table in found] == [{"fpga_zcu104"}, {"mcu_cortex_m4"}]
    run("qsim-search", *ALONE, *options, folder=tmp_path)
    alone = pd.read_csv(tmp_path / "alone" / "results.csv")
    pd.testing.assert_frame_equal(found[0].drop(columns="seconds"), alone.drop(columns="seconds"))


@needs("hydra_submitit_launcher", "slurm")
def test_a_slurm_job_is_composed(tmp_path: Path) -> None:
    slurm = [
        "hydra/launcher=submitit_slurm",
        "hydra.launcher.partition=cpu",
        "hydra.launcher.cpus_per_task=4",
    ]
    shown = run("qsim-search", *slurm, "--cfg", "hydra", "-p", "hydra.launcher", folder=tmp_path).stdout
    assert "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher" in shown
    assert "partition: cpu" in shown and "cpus_per_task: 4" in shown
