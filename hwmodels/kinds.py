"""The kinds of targets: their design facts, the function that prices layers, and how totals are derived."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hwmodels.asic import array as asic
from hwmodels.columns import Costs
from hwmodels.fpga import array as fpga_array
from hwmodels.fpga import streaming
from hwmodels.fpga.device import Fpga
from hwmodels.mcu import core as mcu
from hwmodels.workload import Pairs

if TYPE_CHECKING:
    import pandas as pd

Totals = dict[str, float]
"""Costs of a whole network by column name."""
Derive = Callable[["pd.DataFrame", Mapping[str, float], Any], Totals]


@dataclass(frozen=True)
class Kind:
    """design: the dataclass a YAML of this kind fills."""

    design: type
    layer_costs: Callable[[Pairs, Any], Costs]
    derive: Derive
    objectives: tuple[str, ...]


def derive_streaming(costs: pd.DataFrame, totals: Mapping[str, float], fpga: Fpga) -> Totals:
    """Layers overlap: the slowest sets the rate; one sample takes every layer's fill and the rest of the slowest."""
    cycles = float(costs["cycles"].max())
    sample = float((costs["cycles"] - costs["fill_cycles"]).max()) + totals["fill_cycles"]
    clock_hz = min(fpga.clock_hz, totals["fmax_hz"])
    rate = clock_hz / cycles
    return {
        "cycles": cycles,
        "latency_s": sample / clock_hz,
        "throughput_hz": rate,
        "power_w": totals["energy_j"] * rate + fpga.static_power_w,
    }


def derive_sequential(costs: pd.DataFrame, totals: Mapping[str, float], design: Any) -> Totals:
    """Layers run one after the other on one piece of hardware."""
    derived: Totals = {"cycles": float(costs["cycles"].sum())}
    for suffix in ("", "_low90", "_high90"):
        if "latency_s" + suffix in costs:
            derived["latency_s" + suffix] = float(costs["latency_s" + suffix].sum())
    rate = 1.0 / derived["latency_s"]
    static = getattr(design, "static_power_w", 0.0)
    return derived | {"throughput_hz": rate, "power_w": totals["energy_j"] * rate + static}


def derive_array(costs: pd.DataFrame, totals: Mapping[str, float], fpga: Fpga) -> Totals:
    """One array for all layers: each of its resources is the largest that any layer needs."""
    shared = {
        name + suffix: float(costs[name + suffix].max())
        for name in ("lut", "ff", "carry", "dsp", "bram18k", "uram")
        for suffix in ("", "_low90", "_high90")
        if name + suffix in costs
    }
    return shared | derive_sequential(costs, totals, fpga)


KINDS: dict[str, Kind] = {
    "fpga_streaming": Kind(
        Fpga,
        streaming.layer_costs,
        derive_streaming,
        ("lut", "energy_j", "weight_bytes", "latency_s"),
    ),
    "fpga_array": Kind(
        Fpga,
        fpga_array.layer_costs,
        derive_array,
        ("latency_s", "energy_j", "weight_bytes", "lut"),
    ),
    "asic_array": Kind(
        asic.Array,
        asic.layer_costs,
        derive_sequential,
        ("energy_j", "area_um2", "latency_s", "weight_bytes"),
    ),
    "mcu": Kind(
        mcu.Core,
        mcu.layer_costs,
        derive_sequential,
        ("flash_bytes", "latency_s", "energy_j", "sram_bytes"),
    ),
}
