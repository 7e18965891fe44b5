"""Measures of sensitivity against what they are by definition, on networks small enough to say so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qsim
from qsim.errors import UserError
from qsim.ptq import Calibration, PlanBuilder
from searches.build import problem_from_layers
from searches.problem import Option
from searches.sensitivity import (
    MEASURES,
    joined_groups,
    measure_pairs,
    measure_sensitivities,
    rank_correlation,
    sensitivity_table,
)
from searches.sensitivity.correlation import kendall
from searches.sensitivity.measures.entropy import binned, entropy_bits
from searches.sensitivity.measures.kl import divergence
from searches.sensitivity.plans import feeds_itself, scan_plans
from searches.store import Store
from tests.searches import sensitivity_networks as networks


@pytest.fixture(scope="module", params=networks.KINDS)
def scene(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    build, metric = networks.KINDS[request.param]
    return networks.scene(build(tmp_path_factory.mktemp("model")), metric)


@pytest.fixture(scope="module")
def linear(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return networks.scene(networks.linear(tmp_path_factory.mktemp("linear")), "sqnr")


@pytest.fixture(scope="module")
def cnn(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return networks.scene(networks.convolutional(tmp_path_factory.mktemp("cnn")), "top1")


def flat(values: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(values)


def test_every_measure_scores_every_choice_of_every_network(scene: dict[str, Any]) -> None:
    table = sensitivity_table(measures=list(MEASURES), **scene)
    assert len(table) == sum(len(group.choices) for group in scene["groups"])
    for name in MEASURES:
        assert np.isfinite(table[name]).all(), name
        if name not in ("loss", "taylor2"):
            assert (table[name] >= 0).all(), name
    coarse, fine = (table[table["format"] == label] for label in ("w3a4", "w8a8"))
    for name in ("noise", "mse", "fisher_output", "fisher", "sqnr", "layer_noise"):
        assert coarse[name].sum() > fine[name].sum(), name
    again = sensitivity_table(measures=list(MEASURES), **scene)
    assert table.equals(again)  # seeded
    assert {"hessian_standard_error", "fisher_output_standard_error"} <= set(table.columns)


def test_parts_leave_the_others_in_float32(cnn: dict[str, Any]) -> None:
    both = flat(measure_sensitivities(measure="sqnr", **cnn))
    parts = [
        flat(measure_sensitivities(measure="sqnr", parts=part, **cnn)) for part in ("weights", "activations")
    ]
    np.testing.assert_allclose(both, sum(parts), rtol=1e-6)
    assert min(part.max() for part in parts) > 0


def test_what_is_measured_is_what_emulation_of_the_plan_gives(cnn: dict[str, Any]) -> None:
    measured = measure_sensitivities(measure="mse", **cnn)
    evaluator = cnn["evaluator"]
    for group, values in zip(cnn["groups"], measured, strict=True):
        for choice, value in zip(group.choices, values, strict=True):
            plan = cnn["make_plan"]([(group, choice)])
            output = qsim.emulate(evaluator.graph, plan, dict(evaluator.dataset.evaluation)).output
            assert value == pytest.approx(float(((output - evaluator.reference) ** 2).mean()), rel=1e-6)


def test_distance_is_what_the_metric_is_judged_in(cnn: dict[str, Any], linear: dict[str, Any]) -> None:
    for scene, same in ((cnn, "kl"), (linear, "noise")):
        table = sensitivity_table(measures=["distance", same], **scene)
        np.testing.assert_allclose(table["distance"], table[same], rtol=1e-9)


def test_divergence_by_hand() -> None:
    p, q = np.array([0.5, 0.5]), np.array([0.9, 0.1])
    expected = 0.5 * np.log(0.5 / 0.9) + 0.5 * np.log(0.5 / 0.1)
    assert divergence(np.log([p, p]), np.log([q, p])) == pytest.approx(expected / 2)


# y = x W with the loss |y - y0|^2 / outputs a sample: everything is known in closed form.


def test_second_order_is_exact_for_a_quadratic(linear: dict[str, Any]) -> None:
    taylor = flat(measure_sensitivities(measure="taylor2", parts="weights", **linear))
    measured = flat(measure_sensitivities(measure="noise", parts="weights", **linear))
    np.testing.assert_allclose(taylor, measured, rtol=1e-4)
    assert (flat(measure_sensitivities(measure="taylor1", **linear)) == 0).all()


def test_fisher_of_the_output_estimates_the_loss(linear: dict[str, Any]) -> None:
    scene = {**linear, "samples": np.tile(linear["samples"], 40)}
    table = sensitivity_table(measures=["fisher_output", "noise"], **scene)
    distance = (table["fisher_output"] - table["noise"]) / table["fisher_output_standard_error"]
    assert (np.abs(distance) < 4).all()
    np.testing.assert_allclose(table["fisher_output"], table["noise"], rtol=0.3)


def test_the_trace_of_a_quadratic(linear: dict[str, Any]) -> None:
    """H of W = 2 / outputs * E x x' for each output, so its trace is 2 E |x|^2."""
    from qsim.emulator.derivatives import Derivatives

    x = linear["evaluator"].dataset.evaluation["x"]
    of = Derivatives.of(linear["evaluator"].graph, {"x": x}, ["w", "x"], "mse")
    traces = of.hessian_traces(draws=200)
    expected = 2 * float((x.astype(np.float64) ** 2).sum(1).mean())
    assert abs(traces["w"].value - expected) < 4 * traces["w"].standard_error
    assert traces["w"].standard_error < 0.1 * expected and traces["w"].elements == 12
    w = linear["evaluator"].graph.parameters["w"].astype(np.float64)
    by_input = 2 / 3 * float((w**2).sum())
    assert abs(traces["x"].value - by_input) < 4 * traces["x"].standard_error
    assert of.hessian_traces(draws=4) == of.hessian_traces(draws=4)


def test_the_fisher_diagonal_sums_to_the_trace_and_is_the_hessians(linear: dict[str, Any]) -> None:
    from qsim.emulator.derivatives import Derivatives

    x = np.tile(linear["evaluator"].dataset.evaluation["x"], (100, 1))
    of = Derivatives.of(linear["evaluator"].graph, {"x": x}, ["w"], "mse")
    diagonal = of.fisher()["w"].numpy()
    expected = 2 / 3 * (x.astype(np.float64) ** 2).mean(0)[:, None].repeat(3, 1)
    np.testing.assert_allclose(diagonal, expected, rtol=1e-5)


def test_first_order_is_the_slope_of_the_cross_entropy(cnn: dict[str, Any]) -> None:
    from qsim.emulator.derivatives import Derivatives

    graph, x = cnn["evaluator"].graph, cnn["evaluator"].dataset.evaluation
    gradient = Derivatives.of(graph, x, ["fc.weight"]).gradient().parameters["fc.weight"].numpy()
    step = np.float32(1e-2) * np.sign(gradient)

    def loss(w: np.ndarray) -> float:
        moved = replace(graph, parameters={**graph.parameters, "fc.weight": w})
        logits = qsim.emulate(moved, None, dict(x)).output.astype(np.float64)
        labels = cnn["evaluator"].reference.argmax(1)
        return float(np.mean(np.log(np.exp(logits).sum(1)) - logits[np.arange(len(logits)), labels]))

    w = graph.parameters["fc.weight"]
    assert (loss(w + step) - loss(w - step)) / 2 == pytest.approx(float((gradient * step).sum()), rel=1e-2)


def test_kl_to_second_order_follows_kl_where_errors_are_small(cnn: dict[str, Any]) -> None:
    fine = [replace(group, choices=group.choices[:1]) for group in cnn["groups"]]
    scene = {**cnn, "groups": fine}
    taylor, measured = (flat(measure_sensitivities(measure=name, **scene)) for name in ("taylor2", "kl"))
    np.testing.assert_allclose(taylor, measured, rtol=0.15)


def test_entropy_in_bits() -> None:
    assert entropy_bits(np.array([1.0, 1.0, 2.0, 2.0])) == 1.0
    assert entropy_bits(np.zeros(5)) == 0.0 == entropy_bits(np.zeros(0))
    assert binned(np.linspace(0, 1, 1000)).max() == 255 and (binned(np.full(3, 7.0)) == 0).all()


def test_a_dead_choice_is_out_of_reach_but_a_number(
    cnn: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from searches.sensitivity.scan import Trial

    whole = measure_sensitivities(measure="mse", **cnn)
    output = Trial.output.func  # type: ignore[attr-defined]
    monkeypatch.setattr(
        Trial, "output", property(lambda trial: output(trial) * (np.nan if trial.takes == ((0, 0),) else 1.0))
    )
    broken = measure_sensitivities(measure="mse", **cnn)
    assert broken[0][0] == 100 * max(flat(whole)[1:])
    np.testing.assert_array_equal(flat(broken)[1:], flat(whole)[1:])


def test_a_network_without_a_signal_scores_zero(tmp_path: Path) -> None:
    graph = networks.linear(tmp_path)
    dead = replace(graph, parameters={"w": np.zeros((4, 3), np.float32)})
    table = sensitivity_table(measures=list(MEASURES), **networks.scene(dead, "top1"))
    for name in MEASURES:
        assert np.isfinite(table[name]).all(), name
    assert (table[["kl", "noise", "mse", "fisher_output", "layer_noise"]] == 0).all().all()


def test_the_store_answers_the_second_time(cnn: dict[str, Any], tmp_path: Path) -> None:
    store = Store(tmp_path / "store.sqlite")
    scene = {**cnn, "evaluator": replace(cnn["evaluator"], store=store)}
    first = sensitivity_table(measures=["kl", "hessian"], **scene)
    held = len(store)
    assert held == 2 * len(first) and sensitivity_table(measures=["kl", "hessian"], **scene).equals(first)
    assert len(store) == held


def test_unknown_names_are_told(cnn: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="there are distance, kl"):
        measure_sensitivities(measure="klm", **cnn)
    with pytest.raises(UserError, match="no pairwise terms"):
        measure_pairs(measure="sqnr", **cnn)
    with pytest.raises(UserError, match="auto, adjacent, all"):
        measure_pairs(pairs="some", **cnn)
    with pytest.raises(UserError, match="join two"):
        measure_pairs(pairs=[(1, 1)], **cnn)


# Pairs.


def test_pairs_make_the_model_of_two_groups_exact(cnn: dict[str, Any]) -> None:
    groups, singles = cnn["groups"], measure_sensitivities(measure="kl", **cnn)
    pairs = measure_pairs(measure="kl", pairs="all", singles=singles, **cnn)
    assert len(pairs) == 3
    problem = problem_from_layers(
        [group.name for group in groups],
        [[Option(choice.label) for choice in group.choices] for group in groups],
        {"sensitivity": singles},
        objectives=("sensitivity",),
        pairwise=pairs,
    )
    assert len(problem.pairwise) == 3
    evaluator = cnn["evaluator"]
    plan = cnn["make_plan"]([(groups[0], groups[0].choices[1]), (groups[2], groups[2].choices[2])])
    output = qsim.emulate(evaluator.graph, plan, dict(evaluator.dataset.evaluation)).output
    term = next(pair for pair in pairs if (pair.first, pair.second) == (0, 2)).values[1, 2]
    together = singles[0][1] + singles[2][2] + term
    assert together == pytest.approx(divergence(evaluator.reference, output), rel=1e-6)


def test_pairs_from_responses_estimate_the_measured_ones(tmp_path: Path) -> None:
    scene = networks.scene(networks.autoencoder(tmp_path), "sqnr", samples=400)
    fine = [replace(group, choices=group.choices[:2]) for group in scene["groups"]]
    free = measure_pairs(**{**scene, "groups": fine})
    measured = measure_pairs(measure="noise", pairs="all", **{**scene, "groups": fine})
    singles = measure_sensitivities(measure="noise", **{**scene, "groups": fine})
    bound = 2 * np.sqrt(np.outer(*singles))  # Cauchy and Schwarz
    assert (np.abs(free[0].values - measured[0].values) < 0.25 * bound).all()


def test_every_kind_of_network_has_free_pairs(scene: dict[str, Any]) -> None:
    groups = scene["groups"]
    pairs = measure_pairs(**scene)
    assert len(pairs) == len(groups) * (len(groups) - 1) // 2
    for pair in pairs:
        assert pair.values.shape == (len(groups[pair.first].choices), len(groups[pair.second].choices))
        assert np.isfinite(pair.values).all()


def test_joined_groups_follow_the_network(cnn: dict[str, Any]) -> None:
    names = [group.name for group in cnn["groups"]]
    assert names == ["conv", "dw", "fc"]
    assert joined_groups(cnn["evaluator"].graph, cnn["groups"]) == [
        (0, 1),
        (0, 2),
        (1, 2),
    ]  # the residual skips dw


# Rank correlation.


def test_rank_correlation_of_known_orders() -> None:
    measured = np.arange(30.0)
    noisy = measured + np.random.default_rng(0).normal(0, 5, 30)
    table = rank_correlation(
        {"same": measured**3, "none": np.ones(30), "reverse": -measured, "noisy": noisy}, measured
    )
    rows = table.set_index("measure")
    assert rows.loc["same", "spearman"] == pytest.approx(1) and rows.loc["same", "kendall"] == pytest.approx(
        1
    )
    assert rows.loc["reverse", "spearman"] == pytest.approx(-1)
    assert np.isnan(rows.loc["none", "spearman"])
    assert (
        rows.loc["noisy", "spearman_low95"]
        < rows.loc["noisy", "spearman"]
        < rows.loc["noisy", "spearman_high95"]
    )
    assert table["measure"][0] == "same"


def test_kendall_is_scipys() -> None:
    from scipy.stats import kendalltau

    rng = np.random.default_rng(1)
    a, b = rng.integers(0, 6, 40).astype(float), rng.integers(0, 6, 40).astype(float)
    assert kendall(a, b) == pytest.approx(kendalltau(a, b).statistic)


def test_rank_correlation_refuses_what_has_no_order() -> None:
    with pytest.raises(UserError, match="not all finite"):
        rank_correlation({"a": [1.0, np.nan, 2.0]}, [1.0, 2.0, 3.0])
    with pytest.raises(UserError, match="2 points, 3 were measured"):
        rank_correlation({"a": [1.0, 2.0]}, [1.0, 2.0, 3.0])
    assert np.isnan(rank_correlation({"a": [1.0]}, [1.0])["spearman"][0])


# Plans of a scan.


def test_plans_of_a_scan_are_the_builders(tmp_path: Path) -> None:
    """Each group alone: tuned on the float32 network's inputs or in sequence, it is the same."""
    graph = networks.convolutional(tmp_path)
    data = {"x": networks.scene(graph, "top1")["evaluator"].dataset.evaluation["x"]}
    how = Calibration("mse", "mse", steps=["gptq", "bias_correction"])
    groups = networks.make_candidates(graph, networks.MENU)
    fast = scan_plans(PlanBuilder.calibrate(graph, data, how), groups)
    slow = PlanBuilder.calibrate(graph, data, how)
    for group in groups:
        for choice in group.choices:
            assert fast([(group, choice)]).id == slow.build(group.tensors(choice)).id
    parts = [(group, group.choices[1]) for group in groups]
    together = slow.build(
        {name: spec for group, choice in parts for name, spec in group.tensors(choice).items()}
    )
    assert fast(parts).id == together.id


def test_a_group_whose_layers_feed_each_other_is_told(tmp_path: Path) -> None:
    graph = networks.convolutional(tmp_path)
    conv, depthwise, linear = networks.make_candidates(graph, networks.MENU)
    assert not any(feeds_itself(graph, group) for group in (conv, depthwise, linear))
    assert feeds_itself(graph, replace(conv, layers=conv.layers + linear.layers))
