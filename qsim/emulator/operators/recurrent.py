"""LSTM, GRU and RNN, step by step over time."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F

from qsim.emulator.operators.registry import operator
from qsim.graph.ir import Node

Function = Callable[[torch.Tensor], torch.Tensor]
State = tuple[torch.Tensor, ...]
Step = Callable[[torch.Tensor, State], State]


def _activation(name: str, alpha: float | None, beta: float | None) -> Function:
    """An activation by ONNX name; the defaults of alpha and beta are those of the operator of that name."""
    known: dict[str, Function] = {
        "sigmoid": torch.sigmoid,
        "tanh": torch.tanh,
        "relu": torch.relu,
        "softsign": F.softsign,
        "softplus": F.softplus,
        "elu": lambda x: F.elu(x, 1.0 if alpha is None else alpha),
        "leakyrelu": lambda x: F.leaky_relu(x, 0.01 if alpha is None else alpha),
        "thresholdedrelu": lambda x: torch.where(x > (1.0 if alpha is None else alpha), x, 0.0 * x),
        "hardsigmoid": lambda x: (
            (0.2 if alpha is None else alpha) * x + (0.5 if beta is None else beta)
        ).clamp(0, 1),
        "affine": lambda x: (1.0 if alpha is None else alpha) * x + (0.0 if beta is None else beta),
        "scaledtanh": lambda x: (1.0 if alpha is None else alpha) * torch.tanh((beta or 1.0) * x),
    }
    if name.lower() not in known:
        raise ValueError(f"activation '{name}' is not one of {', '.join(known)}")
    return known[name.lower()]


def _activations(node: Node, default: tuple[str, ...], directions: int) -> list[list[Function]]:
    """The activation functions of every direction; alpha and beta are given in order to those that take one."""
    names = node.get("activations", default * directions)
    with_alpha = {"elu", "leakyrelu", "thresholdedrelu", "hardsigmoid", "affine", "scaledtanh"}
    with_beta = {"hardsigmoid", "affine", "scaledtanh"}
    alphas: Iterator[float] = iter(node.get("activation_alpha", ()))
    betas: Iterator[float] = iter(node.get("activation_beta", ()))
    functions = []
    for name in names:
        alpha = next(alphas, None) if name.lower() in with_alpha else None
        beta = next(betas, None) if name.lower() in with_beta else None
        functions.append(_activation(name, alpha, beta))
    return [functions[i * len(default) : (i + 1) * len(default)] for i in range(directions)]


def _clipped(node: Node, function: Function) -> Function:
    limit = node.get("clip", 0.0)
    return (lambda x: function(x.clamp(-limit, limit))) if limit > 0 else function


def _run_direction(
    x: torch.Tensor, state: State, step: Step, lengths: torch.Tensor | None, *, reverse: bool
) -> tuple[torch.Tensor, State]:
    """Run `step` over time; x holds the input projections [time, batch, gates]; returns h of every step, last state.

    With `lengths`, a sequence that has ended keeps its state and its outputs are zero.
    """
    time = x.shape[0]
    outputs: list[torch.Tensor] = [torch.empty(0)] * time
    for t in reversed(range(time)) if reverse else range(time):
        new = step(x[t], state)
        if lengths is None:
            state = new
            outputs[t] = new[0]
            continue
        alive = (t < lengths)[:, None]
        state = tuple(torch.where(alive, fresh, old) for fresh, old in zip(new, state, strict=True))
        outputs[t] = torch.where(alive, new[0], torch.zeros_like(new[0]))
    if lengths is not None:  # onnxruntime: an empty sequence ends in the zero state
        state = tuple(torch.where((lengths > 0)[:, None], s, torch.zeros_like(s)) for s in state)
    return torch.stack(outputs) if time else x.new_zeros((0, *state[0].shape)), state


def _run(
    node: Node,
    x: torch.Tensor,
    w: torch.Tensor,
    lengths: torch.Tensor | None,
    states: list[torch.Tensor | None],
    hidden: int,
    project: Callable[[torch.Tensor, int], torch.Tensor],
    steps: Callable[[int], Step],
) -> list[torch.Tensor]:
    """All directions: Y [time, directions, batch, hidden] and the last value of every state, in the node's layout."""
    batch_first = bool(node.get("layout", 0))
    if batch_first:
        x = x.transpose(0, 1)
        states = [None if s is None else s.transpose(0, 1) for s in states]
    directions = w.shape[0]
    zero = x.new_zeros((directions, x.shape[1], hidden))
    start = [zero if s is None else s for s in states]
    ys, lasts = [], []
    for d in range(directions):
        reverse = node.get("direction", "forward") == "reverse" or d == 1
        y, last = _run_direction(
            project(x, d), tuple(s[d] for s in start), steps(d), lengths, reverse=reverse
        )
        ys.append(y)
        lasts.append(last)
    y = torch.stack(ys, 1)
    finals = [torch.stack(parts) for parts in zip(*lasts, strict=True)]
    if batch_first:
        return [y.permute(2, 0, 1, 3), *(final.transpose(0, 1) for final in finals)]
    return [y, *finals]


@operator("LSTM")
def lstm(
    node: Node,
    x: torch.Tensor,
    w: torch.Tensor,
    r: torch.Tensor,
    bias: torch.Tensor | None = None,
    lengths: torch.Tensor | None = None,
    h0: torch.Tensor | None = None,
    c0: torch.Tensor | None = None,
    peephole: torch.Tensor | None = None,
) -> tuple[torch.Tensor, ...]:
    """X [time, batch, in], w [directions, 4*hidden, in] in gate order i o f c -> Y, Y_h, Y_c."""
    hidden = r.shape[2]
    functions = _activations(node, ("Sigmoid", "Tanh", "Tanh"), w.shape[0])

    def project(inputs: torch.Tensor, d: int) -> torch.Tensor:
        total = None if bias is None else bias[d, : 4 * hidden] + bias[d, 4 * hidden :]
        return F.linear(inputs, w[d], total)

    def steps(d: int) -> Step:
        gate, cell = (_clipped(node, f) for f in functions[d][:2])
        out = functions[d][2]  # onnxruntime clips what enters the gates, not the cell state
        p_i, p_o, p_f = peephole[d].chunk(3) if peephole is not None else (0.0, 0.0, 0.0)

        def step(projected: torch.Tensor, state: State) -> State:
            h, c = state
            i, o, f, g = (projected + h @ r[d].mT).chunk(4, -1)
            i = gate(i + p_i * c)
            f = 1 - i if node.get("input_forget", 0) else gate(f + p_f * c)
            c = f * c + i * cell(g)
            return gate(o + p_o * c) * out(c), c

        return step

    y, h, c = _run(node, x, w, lengths, [h0, c0], hidden, project, steps)
    return (y, h, c)[: len(node.outputs)]


@operator("GRU")
def gru(
    node: Node,
    x: torch.Tensor,
    w: torch.Tensor,
    r: torch.Tensor,
    bias: torch.Tensor | None = None,
    lengths: torch.Tensor | None = None,
    h0: torch.Tensor | None = None,
) -> tuple[torch.Tensor, ...]:
    """X [time, batch, in], w [directions, 3*hidden, in] in gate order z r h -> Y, Y_h."""
    hidden = r.shape[2]
    functions = _activations(node, ("Sigmoid", "Tanh"), w.shape[0])
    rows = w.new_zeros((w.shape[0], 6 * hidden)) if bias is None else bias

    def project(inputs: torch.Tensor, d: int) -> torch.Tensor:
        return F.linear(inputs, w[d], rows[d, : 3 * hidden])

    def steps(d: int) -> Step:
        gate, cell = (_clipped(node, f) for f in functions[d])
        r_zr, r_h = r[d, : 2 * hidden], r[d, 2 * hidden :]
        b_zr, b_h = rows[d, 3 * hidden : 5 * hidden], rows[d, 5 * hidden :]

        def step(projected: torch.Tensor, state: State) -> State:
            (h,) = state
            z, reset = gate(projected[:, : 2 * hidden] + h @ r_zr.mT + b_zr).chunk(2, -1)
            if node.get("linear_before_reset", 0):
                inner = reset * (h @ r_h.mT + b_h)
            else:
                inner = (reset * h) @ r_h.mT + b_h
            return ((1 - z) * cell(projected[:, 2 * hidden :] + inner) + z * h,)

        return step

    y, h = _run(node, x, w, lengths, [h0], hidden, project, steps)
    return (y, h)[: len(node.outputs)]


@operator("RNN")
def rnn(
    node: Node,
    x: torch.Tensor,
    w: torch.Tensor,
    r: torch.Tensor,
    bias: torch.Tensor | None = None,
    lengths: torch.Tensor | None = None,
    h0: torch.Tensor | None = None,
) -> tuple[torch.Tensor, ...]:
    """X [time, batch, in], w [directions, hidden, in] -> Y, Y_h."""
    hidden = r.shape[2]
    functions = _activations(node, ("Tanh",), w.shape[0])

    def project(inputs: torch.Tensor, d: int) -> torch.Tensor:
        total = None if bias is None else bias[d, :hidden] + bias[d, hidden:]
        return F.linear(inputs, w[d], total)

    def steps(d: int) -> Step:
        function = _clipped(node, functions[d][0])
        return lambda projected, state: (function(projected + state[0] @ r[d].mT),)

    y, h = _run(node, x, w, lengths, [h0], hidden, project, steps)
    return (y, h)[: len(node.outputs)]
