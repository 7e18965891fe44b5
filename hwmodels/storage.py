"""What a layer stores and computes, whatever the hardware."""

from __future__ import annotations

from hwmodels.workload import Pair

Row = dict[str, float]
"""One layer's costs by column name."""


def storage(pair: Pair) -> Row:
    """Bytes and operation counts, the same on every target."""
    shape = pair.shape
    return {
        "weight_bytes": pair.weight_bits / 8,
        "sram_bytes": (shape.inputs * pair.a_storage + shape.results * pair.out_storage) / 8,
        "macs": float(shape.macs),
        "bops": float(shape.macs) * pair.w_storage * pair.a_storage,
    }
