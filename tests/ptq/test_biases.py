"""A bias is stored as integers only where 32 bits hold it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import qsim
from qsim.ptq import Calibration, PlanBuilder
from tests.emulator.networks import inputs, small_cnn, uniform_specs


@pytest.mark.parametrize("scale", ["float32", "e8m0/ceil"])
def test_a_dead_channel_does_not_saturate_its_bias(tmp_path: Path, scale: str) -> None:
    """All but zero weights beside an ordinary bias: in units of a tiny scale the bias would need far over 32 bits."""
    graph = qsim.load_model(small_cnn(tmp_path))
    weight = graph.parameters["conv.weight"].copy()
    weight[1] *= 1e-34
    graph = replace(graph, parameters={**graph.parameters, "conv.weight": weight})
    builder = PlanBuilder.calibrate(graph, {"x": inputs(20)}, Calibration("minmax", "minmax"))
    plan = builder.build(uniform_specs(graph, f"int8@channel:{scale}", f"int8@tensor:{scale}"))
    bias = plan.tensors["conv.bias"]
    np.testing.assert_allclose(
        bias.codes * bias.scale.astype(float), graph.parameters["conv.bias"], rtol=0, atol=1e-3
    )


def test_a_bias_beyond_32_bits_stays_in_float32(tmp_path: Path) -> None:
    graph = qsim.load_model(small_cnn(tmp_path))
    graph = replace(graph, parameters={**graph.parameters, "conv.bias": np.full(4, 1e9, np.float32)})
    builder = PlanBuilder.calibrate(graph, {"x": inputs(20)}, Calibration("minmax", "minmax"))
    plan = builder.build(uniform_specs(graph, "int8@channel:float32", "int8@tensor:float32"))
    assert "conv.bias" not in plan.tensors
    assert np.isfinite(qsim.emulate(graph, plan, inputs()).output).all()
