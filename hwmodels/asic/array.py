"""A weight-stationary systolic array in 45 nm: area, energy, cycles of every layer.

The array is built for the widest formats it meets: area columns combine by maximum. Energy is compute (synthesized
units, no wires, no clock tree: a lower bound, right in ratios) plus SRAM and DRAM accesses of the weight-stationary
schedule (published energies per access).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, log2

from hwmodels.asic.dataflow import systolic_cycles
from hwmodels.datapath import Parts, lane_units, output_units
from hwmodels.pricing import price, slowest
from hwmodels.storage import Row, storage
from hwmodels.units.model import SHIPPED
from hwmodels.units.unit import Unit
from hwmodels.workload import Pair

NAND2_UM2 = 0.798
"""Area of NAND2_X1 in the Nangate 45 nm library (../shared/golden/hw/README.md)."""
SRAM_READ_64_BIT_J = ((8, 10e-12), (32, 20e-12), (1024, 100e-12))
"""(KB, J) of a 64-bit read at 45 nm, 0.9 V (Horowitz, ISSCC 2014; seen re-quoted). Interval: a factor of 2, which the
spread of published tables asks for (Accelergy's Aladdin tables are 3 to 8 times Horowitz on arithmetic)."""
SRAM_UNCERTAINTY = 2.0
DRAM_64_BIT_J = (1300e-12, 2600e-12)
"""(low, high) of a 64-bit DRAM access (Horowitz, ISSCC 2014; seen re-quoted); the estimate is their geometric mean."""


@dataclass(frozen=True)
class Array:
    """Geometry and memories of the array; clock_hz assumes pipelined floating units."""

    rows: int = 16
    columns: int = 16
    dataflow: str = "ws"
    clock_hz: float = 500e6
    sram_kb: float = 64.0
    dram_bits_per_cycle: float = 64.0
    calibration: str = SHIPPED


def sram_j_per_bit(kilobytes: float) -> float:
    """Energy of one bit read, interpolated in the logarithms of size and energy between published sizes."""
    points = SRAM_READ_64_BIT_J
    for (k0, e0), (k1, e1) in zip(points, points[1:]):
        if kilobytes <= k1 or k1 == points[-1][0]:
            slope = log2(e1 / e0) / log2(k1 / k0)
            return float(e0 * (kilobytes / k0) ** slope / 64)
    raise AssertionError("unreachable: the last segment extrapolates")


def element_parts(pair: Pair) -> Parts:
    """One processing element: the golden weight-stationary PE for integers, else the unit plus its registers."""
    w, a, acc = pair.w, pair.a, pair.acc
    if w.kind == a.kind == "integer" and not acc.is_float and not pair.block:
        return ((1.0, Unit("pe_ws", w=w.bits, a=a.bits + (not a.signed), acc=acc.bits)),)
    registers = (1.0, Unit("registers", b=pair.w_storage + pair.a_storage))
    return (*lane_units(w, a, acc, 1, pair.block), registers)


def layer_cost(pair: Pair, array: Array) -> Row:
    """All columns of one layer on the array."""
    element = element_parts(pair)
    output = output_units(pair.w, pair.a, pair.acc, pair.out)
    row: Row = {}
    for index, suffix in enumerate(("", "_low90", "_high90")):
        gates = array.rows * array.columns * price("area_nand2", element, array.calibration)[index]
        gates += array.columns * price("area_nand2", output, array.calibration)[index]
        row[f"area_nand2{suffix}"] = gates
        row[f"area_um2{suffix}"] = gates * NAND2_UM2
    row |= timing(pair, array, element)
    row |= energy(pair, array, element, output)
    return row | storage(pair)


def _passes(pair: Pair) -> tuple[int, int, int]:
    """(groups, outputs a group, vectors): grouped convolutions run one group after the other."""
    shape = pair.shape
    return shape.groups, max(1, shape.outputs // shape.groups), shape.vectors


def dram_bits(pair: Pair, array: Array) -> float:
    """Weights once a sample; activations too when input and output do not fit their SRAMs together."""
    shape = pair.shape
    activations = shape.inputs * pair.a_storage + shape.results * pair.out_storage
    fits = activations / 8 <= 2 * array.sram_kb * 1024
    return pair.weight_bits + (0 if fits else activations)


def timing(pair: Pair, array: Array, element: Parts) -> Row:
    """Cycles are the larger of the systolic schedule and of the DRAM port."""
    groups, outputs, vectors = _passes(pair)
    compute = groups * systolic_cycles(
        array.dataflow, vectors, pair.shape.reduction, outputs, array.rows, array.columns
    )
    cycles = max(compute, ceil(dram_bits(pair, array) / array.dram_bits_per_cycle))
    delay, low, high = slowest("delay_ps", element, array.calibration)
    return {
        "cycles": float(cycles),
        "latency_s": cycles / array.clock_hz,
        "throughput_hz": array.clock_hz / cycles,
        "fmax_hz": 1e12 / delay,
        "fmax_hz_low90": 1e12 / high,
        "fmax_hz_high90": 1e12 / low,
    }


def energy(pair: Pair, array: Array, element: Parts, output: Parts) -> Row:
    """Energy of one sample by place, with intervals; the total's interval adds the parts' (fully dependent)."""
    shape = pair.shape
    groups, outputs, _ = _passes(pair)
    input_reads = shape.vectors * shape.reduction * groups * ceil(outputs / array.columns)
    partial_sums = shape.results * (2 * ceil(shape.reduction / array.rows) - 1)
    bits = input_reads * pair.a_storage + shape.outputs * shape.reduction * pair.w_storage
    bits += partial_sums * pair.acc.bits + shape.results * pair.out_storage
    sram = bits * sram_j_per_bit(array.sram_kb)
    low_dram, high_dram = (dram_bits(pair, array) / 64 * joules for joules in DRAM_64_BIT_J)
    compute = [
        (shape.macs * per_mac + shape.results * per_result) * 1e-15
        for per_mac, per_result in zip(
            *(price("energy_fj", parts, array.calibration) for parts in (element, output))
        )
    ]
    parts = {
        "energy_compute_j": tuple(compute),
        "energy_sram_j": (sram, sram / SRAM_UNCERTAINTY, sram * SRAM_UNCERTAINTY),
        "energy_dram_j": ((low_dram * high_dram) ** 0.5, low_dram, high_dram),
    }
    row: Row = {"dram_bytes": dram_bits(pair, array) / 8}
    for index, suffix in enumerate(("", "_low90", "_high90")):
        for name, values in parts.items():
            row[name + suffix] = values[index]
        row["energy_j" + suffix] = sum(values[index] for values in parts.values())
    return row
