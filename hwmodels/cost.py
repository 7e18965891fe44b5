"""The columns of a cost table: what each means, its unit, and how layers add up to a whole network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Rule = Literal["sum", "max", "min", "derived"]


@dataclass(frozen=True)
class Column:
    """One cost column. rule says how layers combine; `derived` columns are computed from combined others."""

    name: str
    unit: str
    rule: Rule
    meaning: str


COLUMNS = (
    Column("lut", "LUT", "sum", "look-up tables (six inputs; four on iCE40)"),
    Column("ff", "flip-flops", "sum", "flip-flops of accumulators, streams and pipelines"),
    Column("carry", "CARRY4", "sum", "four-bit carry chains"),
    Column("dsp", "DSP48", "sum", "DSP slices"),
    Column("bram18k", "18 Kib blocks", "sum", "block RAMs"),
    Column("uram", "288 Kib blocks", "sum", "UltraRAMs"),
    Column("fmax_hz", "Hz", "min", "clock the logic can take"),
    Column("cycles", "clock cycles", "derived", "cycles of one sample; see Target.total"),
    Column("fill_cycles", "clock cycles", "sum", "cycles until a streaming layer passes on its first result"),
    Column("latency_s", "s", "derived", "time of one sample"),
    Column("throughput_hz", "samples/s", "derived", "samples a second"),
    Column("power_w", "W", "derived", "average power at that throughput"),
    Column("energy_j", "J/sample", "sum", "energy of one sample, static power included where stated"),
    Column("energy_compute_j", "J/sample", "sum", "energy of arithmetic"),
    Column("energy_sram_j", "J/sample", "sum", "energy of on-chip memory"),
    Column("energy_dram_j", "J/sample", "sum", "energy of off-chip memory"),
    Column("area_um2", "um^2", "max", "area of the shared array and its requantizers, no SRAM"),
    Column("area_nand2", "NAND2 equivalents", "max", "the same area in two-input NAND gates"),
    Column("instructions", "instructions/sample", "sum", "executed processor instructions"),
    Column("sram_bytes", "bytes", "max", "activations alive at once: input and output of the layer"),
    Column("dram_bytes", "bytes/sample", "sum", "off-chip traffic of one sample"),
    Column("flash_bytes", "bytes", "sum", "weights, biases and scales stored"),
    Column("weight_bytes", "bytes", "sum", "weights and their scales stored"),
    Column(
        "has_kernel", "0 or 1", "min", "whether the microcontroller's library has a kernel for the formats"
    ),
    Column("macs", "products/sample", "sum", "multiply-accumulates"),
    Column("bops", "bit operations/sample", "sum", "macs x weight bits x activation bits"),
)
BY_NAME = {column.name: column for column in COLUMNS}
AGGREGATE: dict[str, Rule] = {column.name: column.rule for column in COLUMNS}


def rule_of(name: str) -> Rule:
    """How a column combines; <name>_low90 and <name>_high90 follow <name>."""
    return AGGREGATE[name.removesuffix("_low90").removesuffix("_high90")]
