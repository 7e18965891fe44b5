"""Scales of one tensor from what calibration saw: min-max, percentile, or least squared error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from qsim.casting import quantize
from qsim.casting.scales import compute_scale
from qsim.errors import UserError
from qsim.ptq.observe import Range
from qsim.ptq.reconstruction import make_plan_steps
from qsim.ptq.steps import make_steps
from qsim.ptq.transforms import make_transforms
from qsim.spec import Spec
from qsim.views import matrix_axis

Array = NDArray[Any]
Method = Literal["minmax", "percentile", "mse", "output"]
ACTIVATION_FACTORS = np.arange(0.20, 1.001, 0.02)
# A channel of all but zero weights would get a scale in whose units its bias does not fit 32 bits.
DEAD_CHANNEL = np.float32(2.0**-16)
WEIGHT_FACTORS = np.arange(0.30, 1.101, 0.02)
SEARCH_VALUES = 1 << 15


@dataclass(frozen=True)
class Calibration:
    """How scales and roundings are found.

    activations, weights: the range seen, one clipped to a percentile, or that of least squared error, of the tensor
    ("mse") or of the outputs of the layers that read it ("output"; activations only, and only where a layer
    multiplies them by parameters, "mse" elsewhere).
    percentile: two-sided, what method "percentile" keeps (99.99: all but 1e-4).
    steps: what follows nearest rounding, in order, as a config lists them (qsim.ptq.steps).
    sequential: steps see each layer's inputs from the quantized network before it; otherwise the float32
    network's, cast, so that many plans share the results of a layer.
    before: what happens to the network before it is quantized (qsim.ptq.transforms); whoever opens the network
    applies them, since costs and emulation are of the network that results.
    after: what happens to a plan after its layers were rounded (qsim.ptq.reconstruction).
    """

    activations: Method = "mse"
    weights: Method = "mse"
    percentile: float = 99.99
    steps: Sequence[Any] = ()
    sequential: bool = True
    before: Sequence[Any] = ()
    after: Sequence[Any] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", make_steps(self.steps))
        object.__setattr__(self, "before", make_transforms(self.before))
        object.__setattr__(self, "after", make_plan_steps(self.after))
        for name in ("activations", "weights"):
            if getattr(self, name) not in get_args(Method):
                raise UserError(
                    f"ptq.{name} is '{getattr(self, name)}'; it can be {', '.join(get_args(Method))}"
                )
        if not 50.0 < self.percentile <= 100.0:
            raise UserError(f"ptq.percentile is {self.percentile}; it must be above 50 and at most 100")


def activation_scale(seen: Range, spec: Spec, how: Calibration) -> tuple[Array | None, Array | None]:
    """Static (scale, zero point) of an activation tensor; (None, None) where the spec has no scale or it is
    computed at run time (token, channel and block granularities).
    """
    if spec.scale is None or spec.granularity is None or spec.granularity.kind != "tensor":
        return None, None
    low, high = min(seen.minimum, 0.0), max(seen.maximum, 0.0)
    if how.activations == "percentile":
        low, high = np.percentile(seen.sample, [100 - how.percentile, how.percentile])
    if how.activations not in ("mse", "output"):
        return _scale_of_range(low, high, spec)
    sample = seen.sample[:: max(1, seen.sample.size // SEARCH_VALUES)]
    candidates = [_scale_of_range(low * factor, high * factor, spec) for factor in ACTIVATION_FACTORS]
    errors = [
        _squared_error(sample, quantize(sample, spec, scale=s, zero_point=z)).sum() for s, z in candidates
    ]
    return candidates[int(np.argmin(errors))]


def weight_scale(matrix: Array, spec: Spec, how: Calibration) -> tuple[Array | None, Array | None]:
    """(scale, zero point) of a weight [outputs, K]; for blocks the spec's own rule, whatever the method."""
    if spec.scale is None or spec.granularity is None:
        return None, None
    axis = matrix_axis(spec)
    base, zero_point = compute_scale(matrix, spec, axis)
    if spec.granularity.kind == "channel":
        base = np.maximum(base, base.max(initial=0) * DEAD_CHANNEL)
    if how.weights == "minmax" or spec.granularity.kind not in ("tensor", "channel") or spec.has_zero_point:
        return base, zero_point
    if how.weights != "mse":
        raise UserError(f"ptq.weights '{how.weights}' is for activations; weights take minmax or mse")
    factors = np.array([1.0, 0.5, 0.25]) if spec.scale.is_power_of_two else WEIGHT_FACTORS
    return _least_error_scale(matrix, spec, base, axis, factors), zero_point


def _scale_of_range(low: float, high: float, spec: Spec) -> tuple[Array, Array | None]:
    return compute_scale(np.array([low, high], np.float32), spec, -1)


def _least_error_scale(matrix: Array, spec: Spec, base: Array, axis: int, factors: Array) -> Array:
    """The best multiple of `base` for each scale on its own."""
    assert spec.scale is not None
    best, least = base, np.full(base.shape, np.inf)
    for factor in factors:
        scale = quantize(base * np.float32(factor), Spec(spec.scale.element))
        error = _squared_error(matrix, quantize(matrix, spec, axis=axis, scale=scale))
        error = error.sum() if base.ndim == 0 else error.sum(1)
        better = (error < least) & (scale > 0)
        best, least = np.where(better, scale, best), np.where(better, error, least)
    return np.asarray(best, base.dtype)


def _squared_error(x: Array, y: Array) -> Array:
    return np.square(x.astype(np.float64) - y)
