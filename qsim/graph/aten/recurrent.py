"""torch's LSTM, GRU and RNN in terms of ONNX's: gates reordered, a stack of layers taken apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from qsim.graph.aten.builder import Builder, Value, aten
from qsim.graph.ir import Array


def _gates(build: Builder, weights: Sequence[str], order: Sequence[int], directions: int) -> list[str | None]:
    """torch's weights of one layer as ONNX's W, R and B: gates reordered, directions stacked."""
    per = len(weights) // directions
    arrays = [[build.constants[name] for name in weights[d * per : (d + 1) * per]] for d in range(directions)]

    def reordered(array: Array) -> Array:
        parts = np.split(array, len(order))
        return np.concatenate([parts[i] for i in order])

    w, r = (np.stack([reordered(arrays[d][i]) for d in range(directions)]) for i in range(2))
    prefix = str(weights[0])
    names: list[str | None] = [f"{prefix}.W", f"{prefix}.R", None]
    build.constants[f"{prefix}.W"], build.constants[f"{prefix}.R"] = w, r
    if per == 4:
        names[2] = f"{prefix}.B"
        both = [np.concatenate([reordered(a[2]), reordered(a[3])]) for a in arrays]
        build.constants[f"{prefix}.B"] = np.stack(both)
    return names


def _recurrent(
    build: Builder, op: str, order: Sequence[int], x: Value, states: Sequence[Value], weights: Sequence[str],
    has_biases: bool, layers: int, bidirectional: bool, batch_first: bool, **attributes: Any,
) -> list[Value]:  # fmt: skip
    """A stack of recurrent layers -> [outputs, last states...], as torch lays them out."""
    directions = 2 if bidirectional else 1
    per = (4 if has_biases else 2) * directions
    hidden = build.constants[weights[1]].shape[1]
    y = build.emit("Transpose", x, perm=(1, 0, 2)) if batch_first else x
    finals: list[list[Value]] = []
    for layer in range(layers):
        w, r, b = _gates(build, weights[layer * per : (layer + 1) * per], order, directions)
        rows = [build.integers([v]) for v in (layer * directions, (layer + 1) * directions)]
        axis = build.integers([0])
        start = [s if layers == 1 else build.emit("Slice", s, *rows, axis) for s in states]
        direction = "bidirectional" if bidirectional else "forward"
        results = build.emit(
            op,
            y,
            w,
            r,
            b,
            None,
            *start,
            outputs=1 + len(states),
            hidden_size=hidden,
            direction=direction,
            **attributes,
        )
        finals.append(results[1:])
        y = build.emit("Transpose", results[0], perm=(0, 2, 1, 3))  # [time, batch, directions, hidden]
        y = build.emit("Reshape", y, build.integers([0, 0, directions * hidden]))
    y = build.emit("Transpose", y, perm=(1, 0, 2)) if batch_first else y
    last = [
        parts[0] if layers == 1 else build.emit("Concat", *parts, axis=0)
        for parts in zip(*finals, strict=True)
    ]
    return [y, *last]


@aten("lstm.input")
def _lstm(
    build: Builder, x: Value, states: Sequence[Value], weights: Sequence[str], has_biases: bool, layers: int,
    dropout: float, train: bool, bidirectional: bool, batch_first: bool,
) -> Value:  # fmt: skip
    """torch orders the gates i f g o, ONNX i o f c."""
    order = (0, 3, 1, 2)
    return _recurrent(
        build, "LSTM", order, x, states, weights, has_biases, layers, bidirectional, batch_first
    )


@aten("gru.input")
def _gru(
    build: Builder, x: Value, state: Value, weights: Sequence[str], has_biases: bool, layers: int,
    dropout: float, train: bool, bidirectional: bool, batch_first: bool,
) -> Value:  # fmt: skip
    """torch orders the gates r z n, ONNX z r h; torch resets after the product."""
    return _recurrent(
        build, "GRU", (1, 0, 2), x, [state], weights, has_biases, layers, bidirectional, batch_first,
        linear_before_reset=1,
    )  # fmt: skip


@aten("rnn_tanh.input", "rnn_relu.input")
def _rnn(
    build: Builder, x: Value, state: Value, weights: Sequence[str], has_biases: bool, layers: int,
    dropout: float, train: bool, bidirectional: bool, batch_first: bool,
) -> Value:  # fmt: skip
    name = "Tanh" if "tanh" in str(build.current.target) else "Relu"
    functions = (name,) * (2 if bidirectional else 1)
    return _recurrent(
        build,
        "RNN",
        (0,),
        x,
        [state],
        weights,
        has_biases,
        layers,
        bidirectional,
        batch_first,
        activations=functions,
    )
