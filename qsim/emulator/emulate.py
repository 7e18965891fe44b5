"""Run a plan on a network, layer by layer, computing what the hardware computes."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from qsim.emulator.execute import run_graph
from qsim.emulator.integer_plan import names_requantization, run_integers
from qsim.emulator.mac_layers import LayerRunner
from qsim.emulator.tensors import TensorCaster
from qsim.errors import PlanError, UserError
from qsim.plan import Arithmetic, BitPlan

if TYPE_CHECKING:
    from qsim.graph import Graph, Layer

Array = NDArray[Any]
Inputs = Mapping[str, Any] | Array | torch.Tensor
DEFAULT_BATCH = 100


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
) -> Emulation:
    """Run `plan` (None: float32) on `inputs`: [samples, ...] for each input, one array when there is one input.

    arithmetic: "exact" or "fast" (float32 sums of dequantized values); default: the plan's.
    seed: for stochastic rounding; default: the plan's. The result does not depend on batch_size: scales computed
        over a whole tensor, and random bits, are per sample. A network with state runs as one batch (its first
        axis may be time), one exported with a fixed batch in batches of that size.
    trace: names of tensors to return whole; any trace also runs the float32 network and reports the SQNR of every
        layer ("layers": the SQNR alone). NumPy in, NumPy out; torch in, torch out, on the same device.
    Raises PlanError when plan and graph do not belong together, UserError for inputs that do not fit.
    """
    arrays, as_numpy = _as_tensors(graph, inputs)
    if plan is not None:
        _check_plan(graph, plan)
    chosen: Arithmetic = arithmetic or (plan.arithmetic if plan is not None else "fast")
    traced = [] if trace in ((), "layers") else [trace] if isinstance(trace, str) else list(trace)
    _check_trace(graph, traced)
    device = next(iter(arrays.values())).device
    caster = TensorCaster(
        graph, plan, device, seed if seed is not None else plan.seed if plan is not None else 0
    )
    runner = LayerRunner(graph, plan, chosen, caster)
    noise = _Noise(graph) if trace and plan is not None else None

    samples = len(next(iter(arrays.values())))
    kept: dict[str, list[torch.Tensor]] = {name: [] for name in (*graph.outputs, *traced)}
    keep = {*traced, *(noise.names if noise else ())}
    for start, batch in _batches(arrays, samples, _batch_size(graph, samples, batch_size)):
        caster.first_sample = start
        if plan is not None and chosen == "exact" and names_requantization(plan):
            values = run_integers(graph, plan, batch, keep)
        else:
            values = run_graph(graph, batch, transform=caster, run_node=runner, keep=keep)
        for name, parts in kept.items():
            parts.append(values[name])
        if noise is not None:
            noise.add(values, run_graph(graph, batch, keep=noise.names))
    joined = {name: _finish(torch.cat(parts), as_numpy) for name, parts in kept.items() if parts}
    sqnr = noise.sqnr_db() if noise is not None else {}
    layers = tuple(
        LayerTrace(layer.name, _arithmetic(plan, chosen, layer, runner), sqnr.get(layer.name))
        for layer in graph.layers
    )
    return Emulation(
        {name: joined[name] for name in graph.outputs if name in joined},
        layers,
        {name: joined[name] for name in traced if name in joined},
        chosen,
    )


def _batches(
    arrays: dict[str, torch.Tensor], samples: int, step: int
) -> Iterator[tuple[int, dict[str, torch.Tensor]]]:
    """(first sample, batch); everything at once where one batch holds it, no samples included."""
    if step >= samples:
        yield 0, arrays
        return
    for start in range(0, samples, step):
        yield start, {name: tensor[start : start + step] for name, tensor in arrays.items()}


def _arithmetic(plan: BitPlan | None, chosen: Arithmetic, layer: Layer, runner: LayerRunner) -> str:
    rule = plan.layers[layer.node].requantize if plan and layer.node in plan.layers else None
    return f"integer, requantized {rule}" if rule and chosen == "exact" else runner.arithmetic_of(layer.name)


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


def _as_tensors(graph: Graph, inputs: Inputs) -> tuple[dict[str, torch.Tensor], bool]:
    names = [name for name in graph.inputs if graph.tensors[name].kind == "input"]
    if not isinstance(inputs, Mapping):
        if len(names) != 1:
            raise UserError(
                f"the model has {len(names)} inputs ({', '.join(names)}): give a mapping from name to array"
            )
        inputs = {names[0]: inputs}
    missing = [name for name in names if name not in inputs]
    unknown = [name for name in inputs if name not in graph.inputs]
    if missing or unknown:
        raise UserError(
            f"inputs do not fit the model: missing {missing}, unknown {unknown}; it has {list(graph.inputs)}"
        )
    as_numpy = not any(isinstance(value, torch.Tensor) for value in inputs.values())
    tensors = {
        name: value if isinstance(value, torch.Tensor) else torch.from_numpy(np.ascontiguousarray(value))
        for name, value in inputs.items()
    }
    lengths = {name: len(tensors[name]) if tensors[name].ndim else 0 for name in names}
    if len(set(lengths.values())) != 1:
        raise UserError(f"the inputs must have one number of samples, they have {lengths}")
    samples = next(iter(lengths.values()))
    device = next(iter(tensors.values())).device
    for name in graph.inputs:
        if name not in tensors:  # a state that the caller leaves out starts at zero
            tensors[name] = _zero_state(graph, name, samples, device)
    return tensors, as_numpy


def _batch_size(graph: Graph, samples: int, wanted: int | None) -> int:
    if any(graph.tensors[name].kind == "state" for name in graph.inputs):
        return samples
    fixed = {graph.tensors[name].shape[0] for name in graph.inputs if graph.tensors[name].shape}
    lengths = [length for length in fixed if isinstance(length, int)]
    if not lengths:
        return wanted or DEFAULT_BATCH
    if samples % lengths[0]:
        raise UserError(
            f"the model was exported for batches of {lengths[0]}, the inputs have {samples} samples"
        )
    return lengths[0]


def _zero_state(graph: Graph, name: str, samples: int, device: torch.device) -> torch.Tensor:
    tensor = graph.tensors[name]
    symbols = [dimension for dimension in tensor.shape if isinstance(dimension, str)]
    if len(symbols) > 1:
        raise UserError(
            f"state '{name}' has shape {tensor.shape}: give its first value, it cannot be derived"
        )
    shape = [samples if isinstance(dimension, str) else dimension for dimension in tensor.shape]
    return torch.zeros(shape, dtype=getattr(torch, tensor.dtype), device=device)


def _finish(tensor: torch.Tensor, as_numpy: bool) -> Any:
    return tensor.numpy() if as_numpy else tensor


def _check_plan(graph: Graph, plan: BitPlan) -> None:
    if plan.model_hash and plan.model_hash != graph.hash:
        raise PlanError(
            f"plan {plan.id} was made for model '{plan.model_name}' ({plan.model_hash[:12]}), "
            f"not for this one ({graph.hash[:12]})"
        )
    unknown = sorted(set(plan.tensors) - set(graph.tensors))
    if unknown:
        raise PlanError(
            f"plan {plan.id} names tensor '{unknown[0]}', which the model '{graph.name}' does not have"
        )
    mixed = next((name for name, tensor in plan.tensors.items() if len(tensor.specs) > 1), None)
    if mixed is not None:
        raise PlanError(
            f"plan {plan.id}: tensor '{mixed}' mixes specs over its channels; the emulator takes one spec a tensor"
        )
    layers = {layer.name for layer in graph.layers}
    strange = sorted(set(plan.layers) - layers - {node.name for node in graph.nodes})
    if strange:
        raise PlanError(
            f"plan {plan.id} names layer '{strange[0]}'; the model has {', '.join(sorted(layers))}"
        )


def _check_trace(graph: Graph, names: Sequence[str]) -> None:
    unknown = [name for name in names if name not in graph.tensors]
    if unknown:
        raise UserError(f"trace names tensor '{unknown[0]}', which the model does not have")
