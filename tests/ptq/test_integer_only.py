"""A tuned plan made integers throughout: the emulator runs its codes, and says what the tuned plan said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import qsim
from qsim.arithmetic.integer import affine_of, is_integer_only, run_integer
from qsim.data import Preprocessing, load_npz
from qsim.errors import PlanError, UserError
from qsim.graph import Graph
from qsim.ptq import Calibration, PlanBuilder
from tests.emulator.networks import inputs, small_cnn, uniform_specs

STEPS = ["gptq", "bias_correction"]
FORMATS = {"weights": "int4@channel:float32", "activations": "uint8+zp@tensor:float32"}


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    return qsim.load_model(small_cnn(tmp_path_factory.mktemp("integers")))


def build(graph: Graph, after: list[object], formats: dict[str, str] = FORMATS) -> qsim.BitPlan:
    how = Calibration(steps=STEPS, after=after)
    return PlanBuilder.calibrate(graph, {"x": inputs(60)}, how).build(uniform_specs(graph, **formats))


@pytest.mark.parametrize("rule", ["dyadic", "dyadic_even", "float"])
def test_emulation_is_the_integer_run_and_codes_stay_as_tuned(
    graph: Graph, rule: str, tmp_path: Path
) -> None:
    tuned = build(graph, [])
    plan = qsim.BitPlan.load(build(graph, [{"integer_only": {"rule": rule}}]).save(tmp_path / "plan.json"))
    assert is_integer_only(graph, plan)
    for name, tensor in tuned.tensors.items():
        if tensor.codes is not None:
            np.testing.assert_array_equal(plan.tensors[name].codes, tensor.codes)
            np.testing.assert_array_equal(plan.tensors[name].scale, tensor.scale)
    x = inputs(30, seed=5)
    run = qsim.emulate(graph, plan, x, batch_size=7)
    assert {layer.arithmetic for layer in run.layers} == {f"integer, requantized {rule}"}
    codes = run_integer(graph, plan, {"x": x})["y"]
    assert codes.dtype == np.int32
    np.testing.assert_array_equal(run.output, affine_of(plan, "y").dequantize(codes))
    fake = qsim.emulate(graph, tuned, x).output
    assert np.abs(run.output - fake).max() < 0.05 * np.abs(fake).max()


def test_a_tuned_bias_of_fixed_point_layers_is_the_one_converted(graph: Graph) -> None:
    """Fixed point stores a tuned bias in float32: its integers are of that, not of the network's own."""
    formats = {"weights": "fixed8.1", "activations": "fixed8.4"}
    tuned, plan = build(graph, [], formats), build(graph, ["integer_only"], formats)
    for layer in graph.layers:
        bias = plan.tensors[layer.bias]
        stored = tuned.tensors[layer.bias].codes.view(np.float32)
        assert np.abs(stored - graph.parameters[layer.bias]).max() > 1e-4
        np.testing.assert_allclose(bias.codes * bias.scale, stored, rtol=0, atol=float(bias.scale.max()) / 2)


def test_what_has_no_integer_form_is_named_or_left(graph: Graph) -> None:
    formats = {"weights": "e4m3fn@channel:float32", "activations": "uint8+zp@tensor:float32"}
    with pytest.raises(PlanError, match=r"tensor 'conv\.weight' is e4m3fn"):
        build(graph, ["integer_only"], formats)
    left = build(graph, [{"integer_only": {"required": False}}], formats)
    assert left.id == build(graph, [], formats).id
    how = Calibration(after=["integer_only"])
    part = PlanBuilder.calibrate(graph, {"x": inputs(60)}, how).build(
        {"dw.weight": qsim.parse("int4@channel:float32")}
    )
    assert not part.layers  # one layer of a network in float32, as sensitivities are measured
    with pytest.raises(UserError, match="rule is 'nearest'; it can be"):
        build(graph, [{"integer_only": {"rule": "nearest"}}])


@pytest.mark.slow
@pytest.mark.parametrize("weights", ["int8@channel:float32", "int4@channel:float32"])
def test_the_keyword_network_answers_as_its_tuned_plan(shared: Path, weights: str) -> None:
    folder = shared / "zoo" / "dscnn_kws"
    graph = qsim.load_model(folder / "model.onnx")
    data = load_npz(folder / "data.npz", graph, Preprocessing(reshape=(-1, 1, 49, 10))).head(300)
    specs = uniform_specs(graph, weights, "uint8+zp@tensor:float32")
    answers = []
    for after in ([], ["integer_only"]):
        how = Calibration(activations="output", steps=STEPS, after=after)
        plan = PlanBuilder.calibrate(graph, data.calibration, how).build(specs)
        answers.append(qsim.emulate(graph, plan, dict(data.evaluation)).output.argmax(1))
    assert (answers[0] == answers[1]).mean() >= 0.98
