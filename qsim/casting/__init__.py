"""Casting tensors between number systems: one verb a file. NumPy in, NumPy out; torch in, torch out."""

from __future__ import annotations

from qsim.casting.quantize import quantize
from qsim.casting.scales import compute_scale

__all__ = ["compute_scale", "quantize"]
