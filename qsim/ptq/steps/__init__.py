"""The steps that a config lists, by name. A step is a frozen dataclass of its options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from qsim.errors import UserError
from qsim.ptq.entries import make_entries
from qsim.ptq.problem import LayerProblem, Rounded
from qsim.ptq.steps.adaround import AdaRound
from qsim.ptq.steps.batchnorm_tuning import BatchNormTuning
from qsim.ptq.steps.bias_correction import BiasCorrection
from qsim.ptq.steps.coordinate_descent import CoordinateDescent
from qsim.ptq.steps.gpfq import GPFQ
from qsim.ptq.steps.gptq import GPTQ
from qsim.ptq.steps.qronos import Qronos
from qsim.ptq.steps.scale_refit import ScaleRefit
from qsim.ptq.steps.seq_mse import SeqMSE

__all__ = ["STEPS", "LayerStep", "make_steps"]


class LayerStep(Protocol):
    """A step that works on one layer at a time: it sees the problem and the layer's state, and returns the next."""

    def __call__(self, problem: LayerProblem, rounded: Rounded) -> Rounded: ...


STEPS: Mapping[str, type[Any]] = {
    "seq_mse": SeqMSE,
    "gptq": GPTQ,
    "gpfq": GPFQ,
    "qronos": Qronos,
    "adaround": AdaRound,
    "coordinate_descent": CoordinateDescent,
    "scale_refit": ScaleRefit,
    "bias_correction": BiasCorrection,
    "batchnorm_tuning": BatchNormTuning,
}


_CORRECTIONS = (BiasCorrection, BatchNormTuning)


def make_steps(entries: Sequence[Any]) -> tuple[Any, ...]:
    """Steps from a config list: names, {name: {option: value}}, or steps. UserError names the entry that is wrong.

    A rounding after a bias correction would leave the bias to roundings that are no more: an error too.
    """
    steps = make_entries(entries, STEPS, "ptq.steps")
    kinds = [isinstance(step, _CORRECTIONS) for step in steps]
    if any(kinds) and not all(kinds[kinds.index(True) :]):
        late = next(step for step in steps[kinds.index(True) :] if not isinstance(step, _CORRECTIONS))
        name = next((name for name, kind in STEPS.items() if isinstance(late, kind)), type(late).__name__)
        raise UserError(f"ptq.steps: {name} comes after a correction of biases, which must come last")
    return steps
