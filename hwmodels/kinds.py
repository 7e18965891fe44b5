"""The kinds of targets: their design facts, the function that prices a layer, and how totals are derived."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hwmodels.asic import array as asic
from hwmodels.fpga import array as fpga_array
from hwmodels.fpga import streaming
from hwmodels.fpga.device import Fpga
from hwmodels.mcu import core as mcu
from hwmodels.storage import Row
from hwmodels.workload import Pair

if TYPE_CHECKING:
    import pandas as pd

Derive = Callable[["pd.DataFrame", Mapping[str, float], Any], Row]


@dataclass(frozen=True)
class Kind:
    """design: the dataclass a YAML of this kind fills."""

    design: type
    layer_cost: Callable[[Pair, Any], Row]
    derive: Derive
    objectives: tuple[str, ...]


def derive_streaming(costs: pd.DataFrame, totals: Mapping[str, float], fpga: Fpga) -> Row:
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


def derive_sequential(costs: pd.DataFrame, totals: Mapping[str, float], design: Any) -> Row:
    """Layers run one after the other on one piece of hardware."""
    derived: Row = {"cycles": float(costs["cycles"].sum())}
    for suffix in ("", "_low90", "_high90"):
        if "latency_s" + suffix in costs:
            derived["latency_s" + suffix] = float(costs["latency_s" + suffix].sum())
    rate = 1.0 / derived["latency_s"]
    static = getattr(design, "static_power_w", 0.0)
    return derived | {"throughput_hz": rate, "power_w": totals["energy_j"] * rate + static}


def derive_array(costs: pd.DataFrame, totals: Mapping[str, float], fpga: Fpga) -> Row:
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
        streaming.layer_cost,
        derive_streaming,
        ("lut", "energy_j", "weight_bytes", "latency_s"),
    ),
    "fpga_array": Kind(
        Fpga,
        fpga_array.layer_cost,
        derive_array,
        ("latency_s", "energy_j", "weight_bytes", "lut"),
    ),
    "asic_array": Kind(
        asic.Array,
        asic.layer_cost,
        derive_sequential,
        ("energy_j", "area_um2", "latency_s", "weight_bytes"),
    ),
    "mcu": Kind(
        mcu.Core,
        mcu.layer_cost,
        derive_sequential,
        ("flash_bytes", "latency_s", "energy_j", "sram_bytes"),
    ),
}
