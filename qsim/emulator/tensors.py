"""Tensors in their number systems: what a plan makes of every tensor, and the unscaled elements behind it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from qsim.casting import Quantized, decode, quantize
from qsim.errors import PlanError, UserError
from qsim.formats import Fixed, Float, Integer
from qsim.graph.layers import weight_source
from qsim.plan import BitPlan, TensorPlan
from qsim.spec import Spec
from qsim.views import from_matrix, matrix_axis, to_matrix

if TYPE_CHECKING:
    from qsim.graph import Graph

Array = NDArray[Any]


@dataclass(frozen=True)
class Operand:
    """One operand of a MAC layer.

    units: element values before scaling, in the tensor's shape; all multiples of `quantum`.
    scale: None (no scale), or float32 that broadcasts against the layer's output (activations), or one value
    an output
        channel (weights).
    """

    units: torch.Tensor
    scale: torch.Tensor | None
    quantum: float
    bound: float  # of a weight: the largest L1 norm of an output channel


class TensorCaster:
    """Casts every tensor of a graph as the plan says; called by the executor as each tensor appears."""

    def __init__(self, graph: Graph, plan: BitPlan | None, device: torch.device, seed: int) -> None:
        self._graph = graph
        self._tensors = {} if plan is None else plan.tensors
        self._device = device
        self._seed = seed
        self._parameters: dict[str, torch.Tensor] = {}
        self._weights: dict[str, Operand | None] = {}
        self.first_sample = 0

    def __call__(self, name: str, value: torch.Tensor) -> torch.Tensor:
        plan = self._tensors.get(name)
        if name in self._graph.parameters:
            if name not in self._parameters:
                self._parameters[name] = value if plan is None else self._decode(name, plan)
            return self._parameters[name]
        if plan is None or not value.is_floating_point():
            return value
        try:
            return self._cast_activation(name, value, plan)
        except PlanError:
            raise
        except UserError as error:
            raise PlanError(f"tensor '{name}' ({plan.text}): {error}") from None

    def is_cast(self, name: str | None) -> bool:
        """Whether the plan gives this tensor, or the weight that it views, a number system."""
        return self.source(name)[0] is not None

    def source(self, name: str | None) -> tuple[str | None, tuple[int, ...] | None]:
        """The plan's tensor behind `name`: itself, or the weight that it is a transposed view of, with the axes."""
        if name is None or name in self._tensors:
            return name, None
        found = weight_source(self._graph, name)
        is_view = found is not None and found[0] in self._tensors
        return found if is_view and found is not None else (None, None)

    def operand(
        self, name: str | None, value: torch.Tensor, axes: tuple[int, ...] | None = None
    ) -> Operand | None:
        """The unscaled elements of a tensor that was cast; None where scales vary in a sum or it has no quantum."""
        plan = self._tensors.get(name or "")
        if name is None or plan is None:
            return None
        if name in self._graph.parameters:
            if name not in self._weights:
                self._weights[name] = self._weight_operand(name, plan)
            weight = self._weights[name]
            return (
                weight
                if weight is None or axes is None
                else replace(weight, units=weight.units.permute(axes))
            )
        return self._activation_operand(name, value, plan)

    def bias_codes(self, name: str, scale: torch.Tensor | None) -> torch.Tensor | None:
        """The integers of a bias that is stored in units of `scale`; None where it is not."""
        plan = self._tensors.get(name)
        if plan is None or plan.codes is None or plan.scale is None or scale is None:
            return None
        if not isinstance(plan.specs[0].element, Integer):
            return None
        stored = torch.from_numpy(np.array(plan.scale, np.float32)).to(scale.device)
        same = bool((stored == scale).all()) if scale.numel() in (1, stored.numel()) else False
        return torch.from_numpy(plan.codes.astype(np.float64)).to(scale.device) if same else None

    def _cast_activation(self, name: str, value: torch.Tensor, plan: TensorPlan) -> torch.Tensor:
        spec = plan.specs[0]
        options: dict[str, Any] = {"axis": plan.axis}
        if plan.scale is not None:
            options |= {"scale": plan.scale, "zero_point": plan.zero_point}
        whole_tensor = spec.scale is not None and plan.scale is None and _has_tensor_level(spec)
        if not whole_tensor and not spec.cast.rounding.is_stochastic:
            return quantize(value, spec, **options)
        rows = []
        for index, row in enumerate(value):
            if spec.cast.rounding.is_stochastic:
                options["seed"] = _sample_seed(self._seed, name, self.first_sample + index)
            rows.append(quantize(row[None], spec, **options))
        return torch.cat(rows) if rows else value

    def _decode(self, name: str, plan: TensorPlan) -> torch.Tensor:
        shape = self._graph.parameters[name].shape
        if plan.codes is None or plan.codes.shape != shape:
            have = None if plan.codes is None else plan.codes.shape
            raise PlanError(f"tensor '{name}': the plan needs codes of shape {shape}, it has {have}")
        matrix = to_matrix(plan.codes, plan.axis) if plan.role == "weight" else plan.codes
        spec = plan.specs[0]
        axis = matrix_axis(spec) if plan.role == "weight" else 0
        values = decode(Quantized(matrix, plan.scale, plan.zero_point, spec, matrix.shape, axis))
        values = from_matrix(values, shape, plan.axis) if plan.role == "weight" else values
        return torch.from_numpy(np.ascontiguousarray(values, np.float32)).to(self._device)

    def _weight_operand(self, name: str, plan: TensorPlan) -> Operand | None:
        spec = plan.specs[0]
        quantum = element_quantum(spec)
        if (
            quantum is None
            or plan.codes is None
            or (spec.granularity is not None and spec.granularity.kind not in ("tensor", "channel"))
        ):
            return None
        units = spec.element.decode(plan.codes)
        if plan.zero_point is not None:
            units = units - _along(plan.zero_point, plan.axis, units.ndim)
        scale = (
            None
            if plan.scale is None
            else torch.from_numpy(np.atleast_1d(plan.scale).astype(np.float32)).to(self._device)
        )
        others = tuple(axis for axis in range(units.ndim) if axis != plan.axis % units.ndim)
        reach = float(
            np.abs(units).sum(axis=others).max(initial=0.0)
        )  # the largest L1 norm of an output channel
        return Operand(torch.from_numpy(units.astype(np.float32)).to(self._device), scale, quantum, reach)

    def _activation_operand(self, name: str, value: torch.Tensor, plan: TensorPlan) -> Operand | None:
        spec = plan.specs[0]
        quantum = element_quantum(spec)
        if (
            quantum is None
            or (spec.scale is not None and plan.scale is None)
            or (plan.scale is not None and plan.scale.ndim)
        ):
            return None
        bound = max(abs(spec.element.largest), abs(spec.element.lowest))
        if plan.scale is None:
            return Operand(value, None, quantum, bound)
        zero_point = 0 if plan.zero_point is None else float(plan.zero_point)
        bound = max(abs(spec.element.largest - zero_point), abs(spec.element.lowest - zero_point))
        scale = torch.tensor(float(plan.scale), dtype=torch.float32, device=value.device)
        units = value / scale
        # value is unit * scale rounded to float32, so the quotient is within 2^-23 of the unit: rounding
        # recovers it.
        units = units.round_() if isinstance(spec.element, Integer) else quantize(units, Spec(spec.element))
        return Operand(units, scale, quantum, bound)


def element_quantum(spec: Spec) -> float | None:
    """The number that every value of the element is a multiple of; None for tables and the like."""
    return spec.element.smallest if isinstance(spec.element, Integer | Fixed | Float) else None


def _has_tensor_level(spec: Spec) -> bool:
    """Whether some scale of the spec is computed over a whole tensor."""
    granularity, scale = spec.granularity, spec.scale
    while granularity is not None and scale is not None:
        if granularity.kind in ("tensor", "channel"):
            return True
        granularity, scale = scale.granularity, scale.scale
    return False


def _along(vector: Array, axis: int, ndim: int) -> Array:
    return (
        vector if vector.ndim == 0 else vector.reshape([-1 if i == axis % ndim else 1 for i in range(ndim)])
    )


def _sample_seed(seed: int, name: str, sample: int) -> int:
    digest = hashlib.sha256(f"{seed}/{name}/{sample}".encode()).digest()
    return int.from_bytes(digest[:4], "little")
