"""Scales of one tensor from what calibration saw: min-max, percentile, least divergence or least squared error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from numpy.typing import NDArray

from qsim.errors import UserError
from qsim.ptq.kl import kl_scale
from qsim.ptq.observe import Range
from qsim.ptq.range_search import least_squares_scale, percentile_range, scale_of_range
from qsim.ptq.reconstruction import make_plan_steps
from qsim.ptq.steps import make_steps
from qsim.ptq.transforms import make_transforms
from qsim.ptq.weight_scales import kl_scales, least_squares_scales, percentile_scales, rule_scales
from qsim.spec import Spec
from qsim.views import matrix_axis

Array = NDArray[Any]
Method = Literal["minmax", "percentile", "kl", "mse", "output"]
SEARCH_VALUES = 1 << 15


@dataclass(frozen=True)
class Calibration:
    """How scales and roundings are found.

    activations, weights: the range seen, one clipped to a percentile, that of least divergence ("kl"), or that of
    least squared error, of the tensor ("mse") or of the outputs of the layers that read it ("output"; activations
    only, and only where a layer multiplies them by parameters, "mse" elsewhere). Scales that a run time computes
    (token; block and channel of an activation) follow the spec's rule. A weight's blocks are searched by "mse".
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
        if self.weights == "output":
            raise UserError("ptq.weights 'output' is for activations; for weights there is the step seq_mse")
        if not 50.0 < self.percentile <= 100.0:
            raise UserError(f"ptq.percentile is {self.percentile}; it must be above 50 and at most 100")


def activation_scale(seen: Range, spec: Spec, how: Calibration) -> tuple[Array | None, Array | None]:
    """Static (scale, zero point) of an activation tensor; (None, None) where the spec has no scale or it is
    computed at run time (token, channel and block granularities).
    """
    if spec.scale is None or spec.granularity is None or spec.granularity.kind != "tensor":
        return None, None
    ends = (min(seen.minimum, 0.0), max(seen.maximum, 0.0))
    if how.activations == "minmax":
        return scale_of_range(ends, spec)
    if how.activations == "percentile":
        return scale_of_range(percentile_range(seen.sample, how.percentile, ends), spec)
    if how.activations == "kl":
        return kl_scale(seen.sample, ends, spec)
    return least_squares_scale(seen.sample[:: max(1, seen.sample.size // SEARCH_VALUES)], ends, spec)


def weight_scale(matrix: Array, spec: Spec, how: Calibration) -> tuple[Array | None, Array | None]:
    """(scale, zero point) of a weight [outputs, K], one a tensor, output channel or block."""
    if spec.scale is None or spec.granularity is None:
        return None, None
    axis = matrix_axis(spec)
    match how.weights:
        case "minmax":
            return rule_scales(matrix, spec, axis)
        case "percentile":
            return percentile_scales(matrix, spec, axis, how.percentile)
        case "kl":
            return kl_scales(matrix, spec, axis)
    return least_squares_scales(matrix, spec, axis)
