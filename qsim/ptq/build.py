"""From "this tensor takes this spec" to a plan: scales from calibration, integer codes of weights and biases."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from qsim.casting import encode
from qsim.errors import PlanError, UserError
from qsim.plan import Arithmetic, BitPlan, LayerPlan, TensorPlan
from qsim.ptq.bias import bias_entry
from qsim.ptq.calibrate import Calibration, activation_scale, weight_scale
from qsim.ptq.layer_matrix import is_tunable
from qsim.ptq.observe import Range, observe
from qsim.ptq.output_error import scale_by_output
from qsim.ptq.pipeline import TunedLayer, tune, untuned
from qsim.ptq.problem import Rounded
from qsim.ptq.walk import Track
from qsim.spec import Spec
from qsim.views import from_matrix, matrix_axis, to_matrix

if TYPE_CHECKING:
    from qsim.graph import Graph, Layer

Array = NDArray[Any]
log = logging.getLogger("qsim.ptq")


@dataclass(frozen=True, eq=False)
class PlanBuilder:
    """Builds plans for one network from one calibration; tensors that several plans share are computed once."""

    graph: Graph
    ranges: Mapping[str, Range]
    calibration: Calibration = Calibration()
    seed: int = 0
    arithmetic: Arithmetic = "exact"
    inputs: Mapping[str, Array] = field(default_factory=dict)
    track: Track | None = None
    _tuned: dict[tuple[Any, ...], Rounded] = field(default_factory=dict)
    _memo: dict[tuple[str, Spec], TensorPlan] = field(default_factory=dict)
    _finished: dict[tuple[Any, str], BitPlan] = field(default_factory=dict)
    _warned: set[tuple[str, str]] = field(default_factory=set)

    @classmethod
    def calibrate(
        cls,
        graph: Graph,
        inputs: Mapping[str, Array],
        calibration: Calibration = Calibration(),  # noqa: B008  (frozen)
        *,
        seed: int = 0,
        arithmetic: Arithmetic = "exact",
        track: Track | None = None,
    ) -> PlanBuilder:
        """Observe the activations that MAC layers read or write on `inputs` (calibration data only).

        track: wraps iterables for a progress bar while layers are tuned (`calibration.steps`).
        """
        names = set(_neighbours(graph)) - set(graph.parameters)
        ranges = observe(graph, inputs, sorted(names), seed=seed)
        return cls(graph, ranges, calibration, seed, arithmetic, inputs, track)

    def build(
        self,
        specs: Mapping[str, Spec],
        provenance: Mapping[str, Any] | None = None,
        layers: Mapping[str, LayerPlan] | None = None,
    ) -> BitPlan:
        """A plan that gives each tensor its spec, and each layer of `layers` its arithmetic; biases of integer
        layers become int32 in the accumulator's units.

        Raises PlanError naming the tensor for one that is neither operand nor output of a MAC layer.
        """
        tensors: dict[str, TensorPlan] = {}
        neighbours = _neighbours(self.graph)
        for name, spec in specs.items():
            if name not in neighbours:
                raise PlanError(
                    f"tensor '{name}' is neither read nor written by a layer that multiplies; "
                    f"there are {', '.join(list(neighbours)[:8])}"
                )
            tensors[name] = self._tensor(name, spec, neighbours[name])
        tuned = self._tune(tensors)
        for layer in self.graph.layers:
            result = tuned.get(layer.name)
            if result is not None:
                tensors[layer.weights] = result.weight
            bias = bias_entry(self.graph, layer, tensors, None if result is None else result.bias)
            if bias is not None and layer.bias is not None:
                tensors[layer.bias] = bias
        return self._finish(
            BitPlan(
                tensors=tensors,
                layers=layers or {},
                model_name=self.graph.name,
                model_hash=self.graph.hash,
                arithmetic=self.arithmetic,
                seed=self.seed,
                provenance={**(provenance or {}), **self._left_at_nearest(tensors)},
            )
        )

    def _left_at_nearest(self, tensors: Mapping[str, TensorPlan]) -> dict[str, Any]:
        """What a plan's provenance says of layers that no step could tune; each is warned of once."""
        reasons = untuned(self.graph, tensors) if self.calibration.steps else {}
        for name, why in reasons.items():
            if (name, why) not in self._warned:
                self._warned.add((name, why))
                log.warning("layer '%s' keeps nearest rounding: %s", name, why)
        return {"nearest_rounding": reasons} if reasons else {}

    def _finish(self, plan: BitPlan) -> BitPlan:
        """The plan after the steps on whole plans that the calibration lists; each is computed once."""
        for step in self.calibration.after:
            key = (step, plan.id)
            if key not in self._finished:
                self._finished[key] = step(self.graph, plan, self.inputs, seed=self.seed, track=self.track)
            plan = replace(self._finished[key], provenance=plan.provenance)
        return plan

    def _tensor(self, name: str, spec: Spec, layer: Layer) -> TensorPlan:
        if (name, spec) not in self._memo:
            try:
                if name in self.graph.parameters:
                    self._memo[name, spec] = quantize_weight(
                        self.graph.parameters[name], spec, layer.weight_axis or 0, self.calibration
                    )
                else:
                    scale, zero_point = self._activation_scale(name, spec)
                    axis = activation_axis(self.graph, layer, name)
                    self._memo[name, spec] = TensorPlan(spec, "activation", axis, scale, zero_point)
            except UserError as error:
                raise PlanError(f"tensor '{name}' with {spec}: {error}") from None
        return self._memo[name, spec]

    def _activation_scale(self, name: str, spec: Spec) -> tuple[Array | None, Array | None]:
        readers = [layer for layer in self.graph.layers if name in (layer.input, layer.weights)]
        by_output = self.calibration.activations == "output" and readers
        is_static = spec.granularity is not None and spec.granularity.kind == "tensor"
        if by_output and is_static and all(is_tunable(self.graph, layer) for layer in readers):
            return scale_by_output(self.graph, readers, self.ranges[name], spec)
        return activation_scale(self.ranges[name], spec, self.calibration)

    def _tune(self, tensors: Mapping[str, TensorPlan]) -> dict[str, TunedLayer]:
        """Every layer after the steps of the calibration; layers that other plans have in common are done once."""
        how = self.calibration
        if not how.steps:
            return {}
        return tune(
            *(self.graph, self.inputs, tensors, how.steps),
            sequential=how.sequential,
            seed=self.seed,
            memo=self._tuned,
            track=self.track,
        )


def quantize_weight(weight: Array, spec: Spec, axis: int, how: Calibration) -> TensorPlan:
    """Codes and scales of one weight with output channels on `axis`."""
    matrix = np.ascontiguousarray(to_matrix(weight, axis), np.float32)
    scale, zero_point = weight_scale(matrix, spec, how)
    coded = encode(matrix, spec, axis=matrix_axis(spec), scale=scale, zero_point=zero_point)
    codes = from_matrix(coded.codes, weight.shape, axis)
    return TensorPlan(spec, "weight", axis, coded.scale, coded.zero_point, codes)


def activation_axis(graph: Graph, layer: Layer, name: str) -> int:
    """The reduction axis of an activation: channels (1) into a convolution, else the axis summed over."""
    if layer.kind in ("conv", "depthwise", "transposed_conv"):
        return 1
    is_second = layer.kind == "matmul" and name == layer.weights and name != layer.input
    return -2 if is_second else -1


def _neighbours(graph: Graph) -> dict[str, Layer]:
    """Every tensor at a MAC layer with the first layer that reads it, failing that the one that writes it."""
    found: dict[str, Layer] = {}
    for layer in graph.layers:
        found.setdefault(layer.input, layer)
        found.setdefault(layer.weights, layer)
    for layer in graph.layers:
        found.setdefault(layer.output, layer)
    return found
