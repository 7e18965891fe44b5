"""Reconstruction on a trained network: what is learned on calibration data holds on other data."""

from __future__ import annotations

from pathlib import Path

import pytest

import qsim
from qsim.data import Preprocessing, load_npz
from qsim.ptq import Calibration, PlanBuilder
from qsim.ptq.reconstruction import make_plan_steps
from tests.emulator.networks import uniform_specs

GPTQ = Calibration(activations="output", steps=["gptq", "coordinate_descent", "bias_correction"])


@pytest.mark.slow
def test_fine_tuning_brings_two_bits_closer(shared: Path) -> None:
    """The whole network fine-tuned from the GPTQ solution, judged on data that calibration has not seen."""
    folder = shared / "zoo" / "dscnn_kws"
    graph = qsim.load_model(folder / "model.onnx")
    data = load_npz(folder / "data.npz", graph, Preprocessing(reshape=(-1, 1, 49, 10))).head(400)
    specs = uniform_specs(graph, "int2@channel:float32", "uint8+zp@tensor:float32")
    builder = PlanBuilder.calibrate(graph, data.calibration, GPTQ)
    plan, inputs = builder.build(specs), dict(data.evaluation)
    (step,) = make_plan_steps([{"qat": {"iterations": 60}}])
    tuned = step(graph, plan, data.calibration, seed=0, track=None)
    reference = qsim.emulate(graph, None, inputs).output.argmax(1)
    before, after = (
        (qsim.emulate(graph, p, inputs, arithmetic="fast").output.argmax(1) == reference).mean()
        for p in (plan, tuned)
    )
    assert after > before
