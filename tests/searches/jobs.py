"""A small network as a main job sees it: groups, evaluator, calibrated builder and a ledger."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

import hwmodels
import qsim
from qsim.data import Dataset
from qsim.metrics import get_metric
from qsim.ptq import PlanBuilder
from searches.candidates import Candidates, make_candidates, make_choice
from searches.evaluate import Evaluator, Halves
from searches.ledger import Ledger
from tests.emulator.networks import inputs, small_cnn

INT, ACT = "int{}@channel:float32", "uint{}+zp@tensor:float32"
MENU = {
    f"w{w}a{a}": {"weights": INT.format(w), "activations": ACT.format(a)}
    for w, a in ((8, 8), (4, 8), (4, 4), (2, 4))
}


def menu_of(entries: dict = MENU) -> tuple:
    return tuple(make_choice(label, entry) for label, entry in entries.items())


def small_job(
    folder: Path, target: str = "fpga_zcu104", menu: dict = MENU, **options: object
) -> tuple[Ledger, tuple[Candidates, ...]]:
    """The residual network of tests.emulator.networks with 40 random samples, labelled by its float32 answers."""
    graph = qsim.load_model(small_cnn(folder))
    x = inputs(40, seed=3)
    labels = qsim.emulate(graph, None, x).output.argmax(1)
    name = next(iter(graph.inputs))
    data = Dataset(
        "random", {name: inputs(12, seed=4)}, {name: x}, labels, hashlib.sha256(x.tobytes()).hexdigest()
    )
    evaluator = Evaluator.create(graph, data, get_metric("top1"))
    builder = PlanBuilder.calibrate(graph, data.calibration)
    ledger = Ledger(evaluator, builder, hwmodels.load_target(target), Halves.split(len(x), 0))
    return ledger, make_candidates(graph, menu_of(menu), **options)


def random_choices(groups: tuple[Candidates, ...], seed: int) -> tuple[int, ...]:
    random = np.random.default_rng(seed)
    return tuple(int(random.integers(len(group.choices))) for group in groups)


def parts_of(groups: tuple[Candidates, ...], choices: tuple[int, ...]) -> list:
    return [(group, group.choices[i]) for group, i in zip(groups, choices, strict=True)]
