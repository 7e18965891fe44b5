"""Post-training quantization: calibrate on data, choose roundings, build a plan."""

from __future__ import annotations

from qsim.ptq.build import PlanBuilder, quantize_weight
from qsim.ptq.calibrate import Calibration
from qsim.ptq.observe import Range, observe
from qsim.ptq.pipeline import TunedLayer, tune
from qsim.ptq.steps import STEPS, make_steps

__all__ = [
    "STEPS",
    "Calibration",
    "PlanBuilder",
    "Range",
    "TunedLayer",
    "make_steps",
    "observe",
    "quantize_weight",
    "tune",
]
