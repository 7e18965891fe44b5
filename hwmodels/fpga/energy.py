"""Energy of a layer on an FPGA: that of the same circuits in standard cells times published factors, and memory."""

from __future__ import annotations

import numpy as np

from hwmodels.columns import Costs, Floats, sides
from hwmodels.fpga.device import (
    BRAM_ENERGY_J_PER_BIT_45NM,
    ENERGY_UNCERTAINTY,
    FPGA_OVER_ASIC_ENERGY,
    Fpga,
)
from hwmodels.workload import Pairs


def energy(pairs: Pairs, fpga: Fpga, product_fj: Floats, result_fj: Floats, pe: Floats | float) -> Costs:
    """Dynamic energy of one sample: of products and results in standard cells, and of memory reads.

    pe: output channels that share one read of an activation.
    """
    scale = fpga.energy_scale
    compute = (pairs.macs * product_fj + pairs.results * result_fj) * 1e-15 * FPGA_OVER_ASIC_ENERGY * scale
    bits_read = pairs.macs * pairs.w_storage + pairs.macs / pe * pairs.a_storage
    memory = bits_read * BRAM_ENERGY_J_PER_BIT_45NM * scale
    spread = sides(ENERGY_UNCERTAINTY)
    return {
        "energy_compute_j": compute * spread,
        "energy_sram_j": memory * spread,
        "energy_dram_j": np.zeros_like(compute),
        "energy_j": (compute + memory) * spread,
    }
