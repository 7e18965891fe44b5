"""Facts of an FPGA and of the design that runs on it, as configs/hardware/fpga_*.yaml states them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hwmodels.units.model import SHIPPED


@dataclass(frozen=True)
class Fpga:
    """One device and how layers are mapped onto it.

    resources: lut, ff, dsp, bram18k, uram available. node_nm, supply_v: process, for energy. static_power_w: of the
    configured device. lut_per_lut6: LUTs of this fabric for one six-input LUT of the models (1 on AMD devices), with
    its 90 % range. clock_hz: what the pipelined design is assumed to reach. throughput_hz: samples a second that the
    folding of a streaming design must meet. multipliers: lut, dsp, or auto (DSP from nine product bits).
    dsp_long_port_bits: 27 (DSP48E2), or 25 (DSP48E1 of the 7 series; AMD UG479).
    rows, columns: the time-shared array. memory_bits_per_cycle: its port for weights. calibration: "shipped", or the
    path of a file that qsim-calibrate wrote.
    """

    device: str
    source: str
    resources: Mapping[str, float]
    node_nm: float
    supply_v: float
    static_power_w: float
    clock_hz: float
    throughput_hz: float = 1000.0
    multipliers: str = "lut"
    dsp_long_port_bits: int = 27
    lut_per_lut6: float = 1.0
    lut_per_lut6_low90: float = 1.0
    lut_per_lut6_high90: float = 1.0
    has_timing_model: bool = False
    rows: int = 16
    columns: int = 16
    memory_bits_per_cycle: int = 128
    calibration: str = SHIPPED
    notes: str = field(default="", compare=False)

    @property
    def energy_scale(self) -> float:
        """Energy of a gate here over one in Nangate 45 nm at 1.1 V: capacitance with the node, voltage squared.

        Ideal scaling; Stillmaker and Baas (Integration 58, 2017) find it off by up to a factor of two or more below
        28 nm, hence ENERGY_UNCERTAINTY.
        """
        return (self.node_nm / 45.0) * (self.supply_v / 1.1) ** 2


FPGA_OVER_ASIC_ENERGY = 14.0
"""Dynamic power of a LUT-only FPGA circuit over the same circuit in standard cells (Kuon and Rose, IEEE TCAD 26(2),
2007, table V; recalled, 90 nm)."""
ENERGY_UNCERTAINTY = 2.5
"""Factor of the 90 % interval of every FPGA energy: the factor above spans 7 to 14 with hard blocks, the Nangate
energies hold no wires or glitches, node scaling is ideal."""
BRAM_ENERGY_J_PER_BIT_45NM = 10e-12 / 64
"""Read of an 8 KB SRAM at 45 nm, 10 pJ for 64 bits (Horowitz, ISSCC 2014; seen re-quoted)."""
