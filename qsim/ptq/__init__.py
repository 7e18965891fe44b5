"""Post-training quantization: calibrate on data, build a plan."""

from __future__ import annotations

from qsim.ptq.build import PlanBuilder, quantize_weight
from qsim.ptq.calibrate import Calibration
from qsim.ptq.observe import Range, observe

__all__ = ["Calibration", "PlanBuilder", "Range", "observe", "quantize_weight"]
