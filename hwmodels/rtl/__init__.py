"""Circuits as Verilog, made from the same specs and Mac objects that the emulator computes with.

A circuit is a frozen dataclass of facts, such as MacUnit("int8", "int8", Mac(accumulator="int32")); `generate` writes
it as one Verilog file that stands alone, `simulate` runs it in Icarus Verilog. The modules they are put together from
stand in hwmodels/rtl/verilog, one a file. `circuit_of` gives the circuit of a unit that the cost models price.

products       multiplier, dot unit, tree    accumulators   MAC units: fixed, exact (Kulisch) and float registers
blocks         MX and NVFP4 block dots       converters     format converters, floating adder
requantizers   every rule, thresholds        arrays         bit-serial lanes, systolic array, a layer's unit
"""

from __future__ import annotations

from hwmodels.rtl.accumulators import MacUnit
from hwmodels.rtl.arrays import BitSerialDot, LayerUnit, ProcessingElement, SystolicArray
from hwmodels.rtl.blocks import BlockDot, BlockSum
from hwmodels.rtl.converters import Adder, Converter
from hwmodels.rtl.design import Circuit, Design, Port
from hwmodels.rtl.products import AdderTree, DotUnit, Multiplier
from hwmodels.rtl.requantizers import Maximum, Requantizer, ThresholdUnit
from hwmodels.rtl.simulate import has_simulator, simulate
from hwmodels.rtl.units import circuit_of

__all__ = [
    "Adder",
    "AdderTree",
    "BitSerialDot",
    "BlockDot",
    "BlockSum",
    "Circuit",
    "Converter",
    "Design",
    "DotUnit",
    "LayerUnit",
    "MacUnit",
    "Maximum",
    "Multiplier",
    "Port",
    "ProcessingElement",
    "Requantizer",
    "SystolicArray",
    "ThresholdUnit",
    "circuit_of",
    "generate",
    "has_simulator",
    "simulate",
]


def generate(circuit: Circuit) -> Design:
    """Verilog and ports of a circuit; `generate(c).verilog` is a complete file.

    Raises UserError for formats and casts that have no circuit.
    """
    return circuit.design()
