"""Each rounding method against its definition, written out on the data itself for a layer of a few weights."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch

import qsim
from qsim.casting.scales import compute_scale
from qsim.errors import UserError
from qsim.ptq.problem import LayerProblem, Rounded
from qsim.ptq.steps.adaround import AdaRound
from qsim.ptq.steps.batchnorm_tuning import BatchNormTuning
from qsim.ptq.steps.bias_correction import BiasCorrection
from qsim.ptq.steps.gpfq import GPFQ
from qsim.ptq.steps.gptq import GPTQ, round_blocks, round_columns
from qsim.ptq.steps.qronos import Qronos
from qsim.ptq.steps.seq_mse import SeqMSE, scaled
from tests.ptq.problems import layer

Array = np.ndarray
FORMATS = ("int3@channel:float32", "e2m1fn@channel:float32", "mxfp4", "uint3+zp@channel:float32", "fixed4.2")
TINY = 1e-9  # damping


def small(text: str, seed: int = 0, bits: int = 4) -> tuple[LayerProblem, Rounded, Array, Array]:
    """One group, 4 outputs, 6 weights, none of whose inputs is dead; x and q are [rows, 6]."""
    problem, nearest, x, q = layer(text, groups=1, outputs=4, length=7, seed=seed, bits=bits)
    alive = [c for c in range(7) if c != 3]
    matrix = problem.weights[0][:, alive].float().numpy()
    from qsim.ptq.calibrate import Calibration, weight_scale
    from qsim.ptq.grid import Grid
    from tests.ptq.problems import moments_of

    x, q = np.ascontiguousarray(x[..., alive]), np.ascontiguousarray(q[..., alive])
    scale, zero_point = weight_scale(matrix, qsim.parse(text), Calibration())
    grid = Grid.of(qsim.parse(text), (4, 6), 1, scale, zero_point)
    moments = moments_of(x, q)
    weights = torch.from_numpy(matrix).double()[None]
    problem = LayerProblem(weights, moments, moments, problem.bias)
    return problem, Rounded(grid, grid.cast(matrix), nearest.bias), x[0].astype(float), q[0].astype(float)


def by_least_squares(
    weights: Array, x: Array, q: Array, grid, first: Array | None, start: Array | None = None
) -> Array:  # type: ignore[no-untyped-def]
    """Columns rounded in order; after each, those left solve |x w' - q v'|^2 given it."""
    wanted, done = x @ weights.T, np.zeros_like(weights)
    left = np.linalg.lstsq(q, wanted, rcond=None)[0].T if start is None else start
    for t in range(weights.shape[1]):
        value = grid.column(t).nearest(torch.from_numpy(left[:, :1].copy())[None])[0].numpy()
        done[:, t : t + 1] = first if t == 0 and first is not None else value
        rest = wanted - q[:, : t + 1] @ done[:, : t + 1].T
        left = np.linalg.lstsq(q[:, t + 1 :], rest, rcond=None)[0].T
    return done


@pytest.mark.parametrize("text", FORMATS)
@pytest.mark.parametrize("seed", [0, 1])
def test_gptq_solves_least_squares_after_every_column(text: str, seed: int) -> None:
    problem, nearest, x, q = small(text, seed)
    order = torch.arange(6)[None]
    ours = round_columns(problem.target(TINY), problem.damped_gram(TINY), nearest.grid, order)
    expected = by_least_squares(problem.weights[0].numpy(), x, q, nearest.grid, None)
    np.testing.assert_allclose(ours[0].numpy(), expected)


@pytest.mark.parametrize("text", FORMATS)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_qronos_is_its_definition(text: str, seed: int) -> None:
    """Section 3 of the paper: the first column against all others as they are, the rest by least squares."""
    problem, nearest, x, q = small(text, seed, bits=2)
    w = problem.weights[0].numpy()
    rest = x @ w.T - q[:, 1:] @ w[:, 1:].T
    best = (q[:, :1].T @ rest).T / (q[:, 0] @ q[:, 0])
    first = nearest.grid.column(0).nearest(torch.from_numpy(best)[None])[0].numpy()
    expected = torch.from_numpy(by_least_squares(w, x, q, nearest.grid, first))[None]
    ours = Qronos(activation_order=False, damping=TINY)(problem, nearest).values
    torch.testing.assert_close(ours, problem.better(expected, nearest.values))


def test_activation_order_is_the_columns_in_that_order() -> None:
    problem, nearest, x, q = small("int3@channel:float32")
    order = np.argsort(-np.square(q).sum(0), kind="stable")
    assert (order != np.arange(6)).any()
    grid = nearest.grid.permuted(torch.from_numpy(order)[None])
    swapped = by_least_squares(problem.weights[0].numpy()[:, order], x[:, order], q[:, order], grid, None)
    expected = np.empty_like(swapped)
    expected[:, order] = swapped
    ours = GPTQ(damping=TINY)(problem, nearest).values
    torch.testing.assert_close(ours, problem.better(torch.from_numpy(expected)[None], nearest.values))


@pytest.mark.parametrize("text", ["int3@block2:float32", "uint3+zp@block2:float16", "e2m1fn@block2:e8m0"])
def test_scales_of_blocks_are_those_of_the_weights_when_they_are_reached(text: str) -> None:
    problem, nearest, x, q = small(text)
    spec, wanted = qsim.parse(text), x @ problem.weights[0].numpy().T
    values, grid = round_blocks(problem.target(TINY), problem.damped_gram(TINY), nearest.grid)
    left = np.linalg.lstsq(q, wanted, rcond=None)[0].T
    for t in range(0, 6, 2):
        scale, zero_point = compute_scale(left[:, :2].astype(np.float32), spec, -1)
        np.testing.assert_allclose(grid.scale[:, t // 2 : t // 2 + 1], scale, rtol=2e-3)  # float16 holds it
        if zero_point is not None:
            np.testing.assert_array_equal(grid.zero_point[:, t // 2 : t // 2 + 1], zero_point)
        rest = wanted - q[:, : t + 2] @ values[0].numpy()[:, : t + 2].T
        left = np.linalg.lstsq(q[:, t + 2 :], rest, rcond=None)[0].T
    assert torch.equal(grid.nearest(values), values)


def test_scales_computed_on_the_way_need_columns_in_order() -> None:
    with pytest.raises(UserError, match="set activation_order: false"):
        GPTQ(static_groups=False)


@pytest.mark.parametrize("text", FORMATS)
def test_gpfq_follows_the_path_of_the_output(text: str) -> None:
    """q_t = nearest(<q-input_t, u + w_t x_t> / |q-input_t|^2), u the output error so far, as vectors of rows."""
    problem, nearest, x, q = small(text)
    w, expected = problem.weights[0].numpy(), np.zeros((4, 6))
    u = np.zeros((len(x), 4))
    for t in range(6):
        u += np.outer(x[:, t], w[:, t])
        best = torch.from_numpy((q[:, t] @ u) / (q[:, t] @ q[:, t]))[None, :, None]
        expected[:, t] = nearest.grid.column(t).nearest(best)[0, :, 0]
        u -= np.outer(q[:, t], expected[:, t])
    ours = GPFQ()(problem, nearest).values
    torch.testing.assert_close(ours, problem.better(torch.from_numpy(expected)[None], nearest.values))


@pytest.mark.parametrize(
    "text", ["int3@channel:float32", "uint3+zp@channel:float32", "e2m1fn@channel:e4m3fn"]
)
def test_seq_mse_takes_the_best_scale_of_every_output(text: str) -> None:
    problem, nearest, x, q = small(text)
    step = SeqMSE(candidates=12)
    scales = scaled(problem, nearest.grid, np.linspace(step.lowest, step.highest, 12))
    errors = [problem.error(nearest.values)[0].numpy()]
    for scale in scales:
        values = nearest.grid.with_scale(scale).nearest(problem.weights)[0].numpy()
        errors.append(np.square(x @ problem.weights[0].numpy().T - q @ values.T).mean(0))
    result = step(problem, nearest)
    np.testing.assert_allclose(problem.error(result.values)[0].numpy(), np.min(errors, 0), rtol=1e-6)


@pytest.mark.parametrize("text", ["int3@channel:float32", "e2m1fn@channel:float32", "nf4@channel:float32"])
def test_adaround_finds_good_ups_and_downs(text: str) -> None:
    """Against all 2^6 ways to round up or down: never below the best, and near it for most outputs."""
    problem, nearest, _, _ = small(text)
    below, above = nearest.grid.neighbours(problem.weights)
    ups = torch.tensor(list(product([0.0, 1.0], repeat=6)), dtype=torch.float64)
    best, step = [], AdaRound(iterations=200, follow_float=False)
    for output in range(4):
        rows = below[0, output] + ups * (above - below)[0, output]
        alone = replace(problem, weights=problem.weights[:, output : output + 1].expand(1, len(rows), 6))
        best.append(float(alone.error(rows[None]).min()))
    errors = problem.error(step(problem, nearest).values)[0].numpy()
    assert (errors >= np.array(best) * (1 - 1e-9)).all()
    assert (errors <= np.array(best) * 1.5 + 1e-12).sum() >= 3


@pytest.mark.parametrize("text", ["int3@channel:float32", "e2m1fn@channel:e8m0", "int3@tensor:float32"])
def test_batchnorm_tuning_restores_mean_and_variance_and_keeps_codes(text: str) -> None:
    problem, nearest, x, q = small(text)
    tuned = BatchNormTuning()(problem, nearest)
    exact = x @ problem.weights[0].numpy().T + problem.bias.numpy()
    quantized = q @ tuned.values[0].numpy().T + tuned.bias.numpy()
    np.testing.assert_allclose(quantized.mean(0), exact.mean(0), atol=1e-9)
    if text == "int3@channel:float32":
        np.testing.assert_allclose(quantized.std(0), exact.std(0), rtol=1e-6)
    codes = [state.grid.store(state.values, (4, 6), 0).codes for state in (nearest, tuned)]
    np.testing.assert_array_equal(*codes)


def test_the_mean_error_of_the_weights_alone() -> None:
    problem, nearest, _, q = small("int3@channel:float32", bits=2)
    corrected = BiasCorrection(inputs=False)(problem, nearest)
    error = q @ (problem.weights[0] - nearest.values[0]).numpy().T
    np.testing.assert_allclose((corrected.bias - problem.bias).numpy(), error.mean(0), atol=1e-9)
