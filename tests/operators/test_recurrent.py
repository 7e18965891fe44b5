"""LSTM, GRU and RNN in every form against onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

from tests.operators.reference import check, make_model

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
TIME, BATCH, INPUT, HIDDEN = 5, 3, 4, 6


def build(op: str, folder: Path, *, bias: bool = True, lengths: bool = False, states: bool = True,
          peephole: bool = False, **attributes: Any) -> None:  # fmt: skip
    rng = np.random.default_rng(3)
    directions = 2 if attributes.get("direction") == "bidirectional" else 1
    gates, batch_first = GATES[op], attributes.get("layout", 0)

    def real(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    state_shape = (BATCH, directions, HIDDEN) if batch_first else (directions, BATCH, HIDDEN)
    inputs = {"x": real(BATCH, TIME, INPUT) if batch_first else real(TIME, BATCH, INPUT)}
    inputs |= {"h": real(*state_shape)} if states else {}
    inputs |= {"c": real(*state_shape)} if states and op == "LSTM" else {}
    parameters = {"w": real(directions, gates * HIDDEN, INPUT), "r": real(directions, gates * HIDDEN, HIDDEN)}
    parameters |= {"b": real(directions, 2 * gates * HIDDEN)} if bias else {}
    parameters |= {"lengths": np.array([2, 5, 0], np.int32)} if lengths else {}
    parameters |= {"p": real(directions, 3 * HIDDEN)} if peephole else {}
    names = ["x", "w", "r", "b" if bias else "", "lengths" if lengths else "", "h" if states else ""]
    if op == "LSTM":
        names += ["c" if states else "", "p" if peephole else ""]
    outputs = ["y", "yh", "yc"] if op == "LSTM" else ["y", "yh"]
    node = helper.make_node(op, names, outputs, hidden_size=HIDDEN, **attributes)
    check(make_model([node], inputs, outputs, parameters, 14), inputs, folder, tolerance=2e-6)


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("lengths", [False, True])
def test_directions_and_sequence_lengths(op: str, direction: str, lengths: bool, tmp_path: Path) -> None:
    build(op, tmp_path, direction=direction, lengths=lengths)


@pytest.mark.parametrize("op", GATES)
def test_without_bias_and_states(op: str, tmp_path: Path) -> None:
    build(op, tmp_path, bias=False, states=False)


def test_gru_applies_the_reset_gate_before_or_after_the_product(tmp_path: Path) -> None:
    build("GRU", tmp_path, linear_before_reset=1)


def test_lstm_with_peepholes_clip_and_other_activations(tmp_path: Path) -> None:
    build("LSTM", tmp_path, peephole=True, clip=0.7)
    build("LSTM", tmp_path, input_forget=1)
    build(
        "LSTM",
        tmp_path,
        activations=["HardSigmoid", "Tanh", "Relu"],
        activation_alpha=[0.3],
        activation_beta=[0.4],
    )
    build("RNN", tmp_path, activations=["Relu"])
