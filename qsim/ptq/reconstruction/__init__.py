"""What happens to a whole plan once its layers are rounded: tuning by gradients over layers, blocks, or all of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from numpy.typing import NDArray

from qsim.ptq.entries import make_entries
from qsim.ptq.integer_only import IntegerOnly
from qsim.ptq.reconstruction.adaquant import AdaQuant
from qsim.ptq.reconstruction.brecq import BRECQ
from qsim.ptq.reconstruction.qat import QAT
from qsim.ptq.reconstruction.qdrop import QDrop
from qsim.ptq.reconstruction.qfx import QFX

if TYPE_CHECKING:
    from qsim.graph import Graph
    from qsim.plan import BitPlan
    from qsim.ptq.walk import Track

__all__ = ["PLAN_STEPS", "PlanStep", "make_plan_steps"]


class PlanStep(Protocol):
    """A plan and the calibration inputs {input: [samples, ...]} in, a better plan with the same specs out."""

    def __call__(
        self,
        graph: Graph,
        plan: BitPlan,
        inputs: Mapping[str, NDArray[Any]],
        *,
        seed: int,
        track: Track | None,
    ) -> BitPlan: ...


PLAN_STEPS: Mapping[str, type[Any]] = {
    "integer_only": IntegerOnly,
    "adaquant": AdaQuant,
    "brecq": BRECQ,
    "qdrop": QDrop,
    "qat": QAT,
    "qfx": QFX,
}


def make_plan_steps(entries: Sequence[Any]) -> tuple[Any, ...]:
    """Steps on plans from a config list: names, {name: {option: value}}, or steps."""
    return make_entries(entries, PLAN_STEPS, "ptq.after")
