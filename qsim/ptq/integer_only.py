"""Integer-only conversion as a step on plans: what was tuned is what integer hardware computes.

HAWQ-V3 (Yao et al., ICML 2021, section 3): sums of integer products, int32 biases, and at every change of scale
one multiplication by a dyadic number b / 2^c. Codes, scales and biases of the plan stay as they were tuned
(`qsim.arithmetic.integer.to_integer_only`); tensors between layers get integer specs of their own, and the
emulator runs the result on codes alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from qsim.arithmetic.integer import to_integer_only
from qsim.arithmetic.requantize import RULES
from qsim.errors import PlanError, UserError
from qsim.plan import BitPlan

if TYPE_CHECKING:
    from qsim.graph import Graph
    from qsim.ptq.walk import Track


@dataclass(frozen=True)
class IntegerOnly:
    """rule: of every change of scale (design: dyadic, dyadic_even, tflite_double, tflite_single, onnx, float).

    required: a plan that has no integer form (a float format, a scale computed at run time) is an error; False
    leaves it as it is, for searches whose menu mixes integers with other formats. A plan that leaves operands of
    some layers in float32, as those that measure sensitivities do, is not meant to run on integers and stays.
    """

    rule: str = "dyadic"
    required: bool = True

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise UserError(
                f"ptq.after integer_only: rule is '{self.rule}'; it can be {', '.join(sorted(RULES))}"
            )

    def __call__(
        self,
        graph: Graph,
        plan: BitPlan,
        inputs: Mapping[str, NDArray[Any]],
        *,
        seed: int,
        track: Track | None,
    ) -> BitPlan:
        operands = {name for layer in graph.layers for name in (layer.input, layer.weights)}
        if not operands <= set(plan.tensors):
            return plan
        try:
            return to_integer_only(graph, plan, self.rule)
        except PlanError:
            if self.required:
                raise
            return plan
