"""What a layer stores and computes, whatever the hardware."""

from __future__ import annotations

from hwmodels.columns import Costs
from hwmodels.workload import Pairs


def storage(pairs: Pairs) -> Costs:
    """Bytes and operation counts, the same on every target."""
    return {
        "weight_bytes": pairs.weight_bits / 8,
        "sram_bytes": (pairs.inputs * pairs.a_storage + pairs.results * pairs.out_storage) / 8,
        "macs": pairs.macs,
        "bops": pairs.macs * pairs.w_storage * pairs.a_storage,
    }
