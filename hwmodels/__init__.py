"""Hardware cost models: FPGA, ASIC and microcontroller targets that price (layer, number systems) pairs."""

from __future__ import annotations

from hwmodels.cost import AGGREGATE, COLUMNS, Column
from hwmodels.load import known_targets, load_target
from hwmodels.target import Target

__all__ = ["AGGREGATE", "COLUMNS", "Column", "Target", "known_targets", "load_target"]
