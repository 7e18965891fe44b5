"""Casting tensors between number systems: one verb a file. NumPy in, NumPy out; torch in, torch out."""

from __future__ import annotations

from qsim.casting.encode import Quantized, decode, encode
from qsim.casting.pack import pack, unpack
from qsim.casting.quantize import quantize
from qsim.casting.scales import compute_scale

__all__ = ["Quantized", "compute_scale", "decode", "encode", "pack", "quantize", "unpack"]
