"""Every step on every kind of format: never worse than nearest, on the grid, the same each time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import qsim
from qsim.errors import UserError
from qsim.plan import TensorPlan
from qsim.ptq.steps import STEPS, make_steps
from qsim.ptq.steps.bias_correction import BiasCorrection
from qsim.ptq.steps.coordinate_descent import CoordinateDescent, nearest_value
from qsim.ptq.steps.gptq import GPTQ
from qsim.views import matrix_axis
from tests.ptq.problems import FORMATS, layer

ROUNDING = [name for name in STEPS if name not in ("bias_correction", "batchnorm_tuning")]


def decoded(plan: TensorPlan) -> np.ndarray:
    spec = plan.specs[0]
    assert plan.codes is not None
    return qsim.decode(
        qsim.casting.Quantized(
            plan.codes, plan.scale, plan.zero_point, spec, plan.codes.shape, matrix_axis(spec)
        )
    )


@pytest.mark.parametrize("name", ROUNDING)
@pytest.mark.parametrize("text", FORMATS)
def test_never_worse_than_nearest_and_always_on_the_grid(name: str, text: str) -> None:
    problem, nearest, _, _ = layer(text)
    options = {"iterations": 30} if name == "adaround" else {}
    result = STEPS[name](**options)(problem, nearest)
    assert float(problem.error(result.values).sum()) <= float(problem.error(nearest.values).sum()) * (
        1 + 1e-9
    )
    assert torch.equal(result.grid.nearest(result.values), result.values)
    stored = result.grid.store(result.values, result.grid.shape, 0)
    expected = result.values.reshape(result.grid.shape).float().numpy()
    np.testing.assert_array_equal(decoded(stored), expected)


@pytest.mark.parametrize("name", [name for name in ROUNDING if name != "scale_refit"])
@pytest.mark.parametrize("text", ("int4@channel:float32", "e2m1fn@channel:float32", "mxfp4", "nvfp4"))
def test_helps_where_inputs_are_correlated(name: str, text: str) -> None:
    problem, nearest, _, _ = layer(text)
    result = STEPS[name](**({"iterations": 100} if name == "adaround" else {}))(problem, nearest)
    share = float(problem.error(result.values).sum() / problem.error(nearest.values).sum())
    assert share < (0.99 if name == "seq_mse" else 0.75)


@given(st.integers(0, 10**6), st.sampled_from(["gptq", "gpfq", "qronos", "coordinate_descent", "seq_mse"]))
@settings(max_examples=20, deadline=None)
def test_no_output_gets_worse(seed: int, name: str) -> None:
    problem, nearest, _, _ = layer("int3@channel:float32", seed=seed, length=9, outputs=3, bits=4)
    after, before = problem.error(STEPS[name]()(problem, nearest).values), problem.error(nearest.values)
    assert (after <= before * (1 + 1e-9) + 1e-12).all()


def test_the_error_is_that_of_the_outputs() -> None:
    problem, nearest, x, q = layer("int4@channel:float32")
    w, v = problem.weights.numpy(), nearest.values.numpy()
    measured = np.square(w @ x.swapaxes(1, 2).astype(float) - v @ q.swapaxes(1, 2).astype(float)).mean(-1)
    np.testing.assert_allclose(problem.error(nearest.values).numpy(), measured, rtol=1e-6)


def test_gptq_on_one_column_or_white_inputs_is_nearest() -> None:
    problem, nearest, _, _ = layer("int4@channel:float32")
    eye = torch.eye(24, dtype=torch.float64).expand(2, -1, -1)
    white = replace(problem.moments, float_float=eye, float_quantized=eye, quantized_quantized=eye)
    problem = replace(problem, moments=white, objective=white)
    assert torch.equal(GPTQ()(problem, nearest).values, nearest.values)


def test_coordinate_descent_finds_the_optimum_of_a_small_layer() -> None:
    """Against every combination of two neighbours a weight: never below it, and reached from GPTQ in most rows."""
    problem, nearest, _, _ = layer("int2@channel:float32", groups=1, outputs=8, length=6, seed=3)
    levels = nearest.grid.units
    combinations = torch.cartesian_prod(*[levels] * 6)  # 4^6
    best = []
    for output in range(8):
        rows = combinations * nearest.grid.step[0, output]
        single = replace(problem, weights=problem.weights[:, output : output + 1].expand(1, len(rows), 6))
        best.append(float(single.error(rows[None]).min()))
    found = CoordinateDescent()(problem, GPTQ()(problem, nearest))
    errors = problem.error(found.values)[0].numpy()
    assert (errors >= np.array(best) - 1e-12).all()
    assert (errors <= np.array(best) * 1.5 + 1e-12).sum() >= 6


@pytest.mark.parametrize("text", FORMATS)
def test_coordinate_descent_leaves_no_weight_that_alone_could_be_better(text: str) -> None:
    problem, nearest, _, _ = layer(text)
    values = CoordinateDescent()(problem, nearest).values
    slope, energy = values @ problem.gram - problem.pull, problem.gram.diagonal(dim1=1, dim2=2)[:, None]
    best = nearest.grid.nearest(values - slope / energy)
    gain = (2 * slope + energy * (best - values)) * (best - values)  # of the error, by that weight alone
    assert (gain >= -1e-12 * problem.error(values).max()).all()


@given(st.lists(st.floats(-40, 40), min_size=1, max_size=9), st.sampled_from(FORMATS))
@settings(max_examples=60, deadline=None)
def test_the_compiled_lookup_is_that_of_the_grid(weights: list[float], text: str) -> None:
    grid = layer(text)[1].grid.column(0)
    step, offset = float(grid.step[0, 0, 0]), float(grid.offset[0, 0, 0])
    one = replace(grid, step=torch.tensor(step), offset=torch.tensor(offset))
    units = grid.units.numpy()
    wanted = one.nearest(torch.tensor(weights, dtype=torch.float64)).tolist()
    assert [nearest_value(weight, units, step, offset) for weight in weights] == wanted


def test_a_refitted_scale_is_the_best_multiple_where_all_roundings_stay() -> None:
    problem, nearest, _, _ = layer("int4@channel:float32")
    result = STEPS["scale_refit"]()(problem, nearest)
    error = problem.error(result.values)
    assert (error < problem.error(nearest.values)).any()
    for factor in (0.99, 1.01):
        assert (problem.error(result.values * factor) > error)[error < problem.error(nearest.values)].all()


def test_bias_correction_removes_the_mean_error() -> None:
    problem, nearest, x, q = layer("int3@channel:float32", bits=3)
    corrected = BiasCorrection()(problem, nearest)
    assert corrected.bias is not None and nearest.bias is not None
    exact = (problem.weights.numpy() @ x.swapaxes(1, 2)).reshape(12, -1) + nearest.bias.numpy()[:, None]
    quantized = (nearest.values.numpy() @ q.swapaxes(1, 2)).reshape(12, -1)
    error = exact - quantized - corrected.bias.numpy()[:, None]
    np.testing.assert_allclose(error.mean(1), 0, atol=1e-6)
    assert abs(exact - quantized - nearest.bias.numpy()[:, None]).mean() > 0.01


@pytest.mark.parametrize("name", ROUNDING)
def test_the_same_every_time(name: str) -> None:
    results = []
    for _ in range(2):
        problem, nearest, _, _ = layer("e2m1fn@channel:float32")
        options = {"iterations": 20} if name == "adaround" else {}
        results.append(STEPS[name](**options)(problem, nearest).values)
    assert torch.equal(*results)


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ("gtpq", "'gtpq' is unknown; there are seq_mse"),
        ({"gptq": {"dampening": 1}}, "gptq has no option 'dampening'; it has activation_order, damping"),
        ({"coordinate_descent": {"sweeps": 0}}, "sweeps is 0"),
        ({"adaround": {"iterations": 0}}, "iterations must be at least 1"),
        ({"seq_mse": {"lowest": 2.0}}, "0 < lowest <= highest"),
        ({}, "is unknown"),
        ("bias_correction", "gptq comes after a correction of biases"),
    ],
)
def test_a_wrong_entry_is_named(entry: object, says: str) -> None:
    with pytest.raises(UserError, match=says):
        make_steps([entry, "gptq"])
