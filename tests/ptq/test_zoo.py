"""On trained networks: low bits stay usable, from calibration data alone."""

from __future__ import annotations

from pathlib import Path

import pytest

import qsim
from qsim.data import Preprocessing, load_npz
from qsim.ptq import Calibration, PlanBuilder
from tests.emulator.networks import uniform_specs

GPTQ = Calibration(activations="output", steps=["gptq", "coordinate_descent", "bias_correction"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("folder", "preprocessing", "weights", "activations", "least"),
    [
        ("resnet8_cifar10", {"axes": (0, 3, 1, 2)}, "int4@channel:float32", "uint8+zp@tensor:float32", 0.91),
        ("dscnn_kws", {"reshape": (-1, 1, 49, 10)}, "int4@channel:float32", "uint4+zp@tensor:float32", 0.70),
    ],
)
def test_agreement_with_float32(
    shared: Path, folder: str, preprocessing: dict[str, object], weights: str, activations: str, least: float
) -> None:
    graph = qsim.load_model(shared / "zoo" / folder / "model.onnx")
    data = load_npz(shared / "zoo" / folder / "data.npz", graph, Preprocessing(**preprocessing)).head(500)  # type: ignore[arg-type]
    plan = PlanBuilder.calibrate(graph, data.calibration, GPTQ).build(
        uniform_specs(graph, weights, activations)
    )
    inputs = dict(data.evaluation)
    reference = qsim.emulate(graph, None, inputs).output.argmax(1)
    answer = qsim.emulate(graph, plan, inputs, arithmetic="fast").output.argmax(1)
    assert (answer == reference).mean() >= least


@pytest.mark.slow
def test_int8_keeps_up_with_the_official_keyword_result(shared: Path) -> None:
    """MLPerf Tiny's int8 model has 902 of its 1,000 samples right, 90 of the 96 that calibrate here among them."""
    folder = shared / "zoo" / "dscnn_kws"
    graph = qsim.load_model(folder / "model.onnx")
    data = load_npz(folder / "data.npz", graph, Preprocessing(reshape=(-1, 1, 49, 10)))
    specs = uniform_specs(graph, "int8@channel:float32", "uint8+zp@tensor:float32")
    plan = PlanBuilder.calibrate(graph, data.calibration, Calibration(activations="output")).build(specs)
    answer, exact = (qsim.emulate(graph, p, dict(data.evaluation)).output.argmax(1) for p in (plan, None))
    assert (answer == data.labels).sum() >= 902 - 90
    assert (answer == exact).mean() >= 0.98
