"""Runs the command lines as a user does: a new process, in a folder of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from tests.emulator.networks import inputs, small_cnn


def run(command: str, *arguments: str, folder: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """`command` is the name of a console script; standard output and error come back as text."""
    script = Path(sys.executable).with_name(command)
    environment = os.environ | {"COLUMNS": "160", "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [script, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=600
    )
    if check and result.returncode:
        raise AssertionError(f"{command} {' '.join(arguments)} failed:\n{result.stdout}\n{result.stderr}")
    return result


def own_network(folder: Path) -> list[str]:
    """A network and data of one's own, as command-line options: labels are the float32 network's answers."""
    import qsim

    path = small_cnn(folder)
    x = inputs(60, seed=3)
    labels = qsim.emulate(qsim.load_model(path), None, x).output.argmax(1)
    np.savez(folder / "data.npz", x_calib=inputs(16, seed=4), x_eval=x, y_eval=labels)
    return ["model=onnx", f"model.path={path}", "data=npz", f"data.path={folder / 'data.npz'}"]


FEW = ["formats=integers", "measured_plans=3", "sensitivity.samples=20"]
