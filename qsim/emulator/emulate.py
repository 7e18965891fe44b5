"""Run a plan on a network, layer by layer, computing what the hardware computes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from qsim.emulator.batches import Inputs, as_tensors, batch_of, batches
from qsim.emulator.execute import run_graph
from qsim.emulator.plan_run import PlanRun
from qsim.errors import UserError
from qsim.plan import Arithmetic, BitPlan

if TYPE_CHECKING:
    from qsim.emulator.reuse import Recording
    from qsim.graph import Graph


@dataclass(frozen=True)
class LayerTrace:
    """What one layer did: how its sums were formed, and its signal-to-noise ratio against the float32
    network.

    arithmetic: "exact (float32)" and "exact (float64)": every sum is proven exact in that type for these operands,
        then rounded once to float32; "float64": accumulated in 53 bits, not proven exact; "float32": not both
        operands are quantized, or the plan says "fast"; "mac ..." and "integer, requantized ..." as the plan says.
    sqnr_db: 10 log10(sum ref^2 / sum (out - ref)^2) of the layer's output over all samples; None without a
    trace.
    """

    name: str
    arithmetic: str
    sqnr_db: float | None = None


@dataclass(frozen=True)
class Emulation:
    """outputs and tensors: {name: array over all samples}; layers: one entry a MAC layer, in order."""

    outputs: dict[str, Any]
    layers: tuple[LayerTrace, ...]
    tensors: dict[str, Any] = field(default_factory=dict)
    arithmetic: Arithmetic = "exact"

    @property
    def output(self) -> Any:
        """The first output (the only one of most networks)."""
        return next(iter(self.outputs.values()))


def emulate(
    graph: Graph,
    plan: BitPlan | None,
    inputs: Inputs,
    *,
    arithmetic: Arithmetic | None = None,
    seed: int | None = None,
    batch_size: int | None = None,
    trace: Collection[str] | str = (),
    reuse: Recording | None = None,
) -> Emulation:
    """Run `plan` (None: float32) on `inputs`: [samples, ...] for each input, one array when there is one input.

    arithmetic: "exact" or "fast" (float32 sums of dequantized values); default: the plan's.
    seed: for stochastic rounding; default: the plan's. The result does not depend on batch_size: scales computed
        over a whole tensor, and random bits, are per sample. A network with state runs as one batch (its first
        axis may be time), one exported with a fixed batch in batches of that size.
    trace: names of tensors to return whole; any trace also runs the float32 network and reports the SQNR of every
        layer ("layers": the SQNR alone). NumPy in, NumPy out; torch in, torch out, on the same device.
    reuse: a run of another plan on the same inputs (qsim.emulator.reuse.record): what this plan leaves as it was
        there is not computed again. Same bits; batches are those of the recording.
    Raises PlanError when plan and graph do not belong together, UserError for inputs that do not fit.
    """
    arrays, as_numpy = as_tensors(graph, inputs)
    run = PlanRun.of(graph, plan, arrays, arithmetic, seed)
    traced = [] if trace in ((), "layers") else [trace] if isinstance(trace, str) else list(trace)
    _check_trace(graph, traced)
    noise = _Noise(graph) if trace and plan is not None else None
    step = batch_of(graph, len(next(iter(arrays.values()))), batch_size)
    known = None
    if reuse is not None:
        reuse.check(graph, arrays)
        step, known = reuse.batch, reuse.known(plan, run.arithmetic, run.seed)

    kept: dict[str, list[torch.Tensor]] = {name: [] for name in (*graph.outputs, *traced)}
    keep = {*traced, *(noise.names if noise else ())}
    for index, (start, batch) in enumerate(batches(arrays, step)):
        values = run.batch(start, batch, keep, None if known is None else known[index])
        for name, parts in kept.items():
            parts.append(values[name])
        if noise is not None:
            noise.add(values, run_graph(graph, batch, keep=noise.names))
    joined = {name: _finish(torch.cat(parts), as_numpy) for name, parts in kept.items() if parts}
    sqnr = noise.sqnr_db() if noise is not None else {}
    layers = tuple(
        LayerTrace(layer.name, run.arithmetic_of(layer, reuse), sqnr.get(layer.name))
        for layer in graph.layers
    )
    return Emulation(
        {name: joined[name] for name in graph.outputs if name in joined},
        layers,
        {name: joined[name] for name in traced if name in joined},
        run.arithmetic,
    )


class _Noise:
    """Running sums for the SQNR of every layer's output."""

    def __init__(self, graph: Graph) -> None:
        self.names = {layer.output for layer in graph.layers}
        self._layers = graph.layers
        self._sums = {name: np.zeros(2) for name in self.names}

    def add(self, values: Mapping[str, torch.Tensor], reference: Mapping[str, torch.Tensor]) -> None:
        for name in self.names:
            exact = reference[name].double()
            error = values[name].double() - exact
            self._sums[name] += [float((exact * exact).sum()), float((error * error).sum())]

    def sqnr_db(self) -> dict[str, float]:
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = {name: float(10 * np.log10(np.divide(*sums))) for name, sums in self._sums.items()}
        return {layer.name: ratio[layer.output] for layer in self._layers}


def _finish(tensor: torch.Tensor, as_numpy: bool) -> Any:
    return tensor.numpy() if as_numpy else tensor


def _check_trace(graph: Graph, names: Sequence[str]) -> None:
    unknown = [name for name in names if name not in graph.tensors]
    if unknown:
        raise UserError(f"trace names tensor '{unknown[0]}', which the model does not have")
