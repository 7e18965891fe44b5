"""A weight-stationary systolic array in 45 nm: area, energy, cycles of every layer.

The array is built for the widest formats it meets: area columns combine by maximum. Energy is compute (synthesized
units, no wires, no clock tree: a lower bound, right in ratios) plus SRAM and DRAM accesses of the weight-stationary
schedule (published energies per access).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log2

import numpy as np

from hwmodels.asic.dataflow import systolic_cycles
from hwmodels.columns import Costs, Floats, once, sides
from hwmodels.datapath import Parts, Product, lane_units, output_units
from hwmodels.pricing import price, slowest
from hwmodels.storage import storage
from hwmodels.units.model import SHIPPED
from hwmodels.units.unit import Unit
from hwmodels.workload import Pairs

NAND2_UM2 = 0.798
"""Area of NAND2_X1 in the Nangate 45 nm library (../shared/golden/hw/README.md)."""
SRAM_READ_64_BIT_J = ((8, 10e-12), (32, 20e-12), (1024, 100e-12))
"""(KB, J) of a 64-bit read at 45 nm, 0.9 V (Horowitz, ISSCC 2014; seen re-quoted). Interval: a factor of 2, which the
spread of published tables asks for (Accelergy's Aladdin tables are 3 to 8 times Horowitz on arithmetic)."""
SRAM_UNCERTAINTY = 2.0
GATES = ("area_nand2", "energy_fj")
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


def element_parts(product: Product, stored: int) -> Parts:
    """One processing element: the golden weight-stationary PE for integers, else the unit plus its registers, which
    hold a weight and an activation of `stored` bits together.
    """
    w, a, acc = product.w, product.a, product.acc
    if w.kind == a.kind == "integer" and not acc.is_float and not product.block:
        return ((1.0, Unit("pe_ws", w=w.bits, a=a.bits + (not a.signed), acc=acc.bits)),)
    return (*lane_units(w, a, acc, 1, product.block), (1.0, Unit("registers", b=stored)))


def layer_costs(pairs: Pairs, array: Array) -> Costs:
    """All columns of every pair's layer on the array."""
    element, output = _price_elements(pairs, array), _price_outputs(pairs, array)
    gates = array.rows * array.columns * element[:3] + array.columns * output[:3]
    delay_ps = element[6:]
    costs: Costs = {"area_nand2": gates, "area_um2": gates * NAND2_UM2}
    costs |= timing(pairs, array)
    costs["fmax_hz"] = 1e12 / delay_ps[[0, 2, 1]]  # the fastest clock belongs to the shortest delay
    costs |= energy(pairs, array, element[3:6], output[3:])
    return costs | storage(pairs)


def _price_elements(pairs: Pairs, array: Array) -> Floats:
    """[9, pairs]: NAND2 equivalents, fJ a cycle and ps of a processing element, each with its interval."""
    stored = pairs.w_storage + pairs.a_storage

    def prices(row: int) -> tuple[float, ...]:
        parts = element_parts(pairs.product_of(row), int(stored[row]))
        return (*price(GATES, parts, array.calibration), *slowest("delay_ps", parts, array.calibration))

    return once(prices, pairs.product, stored)


def _price_outputs(pairs: Pairs, array: Array) -> Floats:
    """[6, pairs]: NAND2 equivalents and fJ a result of a requantizer, each with its interval."""

    def prices(row: int) -> list[float]:
        product = pairs.product_of(row)
        parts = output_units(product.w, product.a, product.acc, pairs.out_of(row))
        return price(GATES, parts, array.calibration)

    return once(prices, pairs.product, pairs.out)


def dram_bits(pairs: Pairs, array: Array) -> Floats:
    """Weights once a sample; activations too when input and output do not fit their SRAMs together."""
    activations = pairs.inputs * pairs.a_storage + pairs.results * pairs.out_storage
    fits = activations / 8 <= 2 * array.sram_kb * 1024
    return pairs.weight_bits + np.where(fits, 0, activations)


def timing(pairs: Pairs, array: Array) -> Costs:
    """Cycles are the larger of the systolic schedule, group after group, and of the DRAM port."""
    groups = pairs.of_shape("groups")
    outputs = np.maximum(1, pairs.outputs // groups)
    compute = groups * systolic_cycles(
        array.dataflow, pairs.of_shape("vectors"), pairs.reduction, outputs, array.rows, array.columns
    )
    cycles = np.maximum(compute, np.ceil(dram_bits(pairs, array) / array.dram_bits_per_cycle))
    return {
        "cycles": cycles,
        "latency_s": cycles / array.clock_hz,
        "throughput_hz": array.clock_hz / cycles,
    }


def energy(pairs: Pairs, array: Array, product_fj: Floats, result_fj: Floats) -> Costs:
    """Energy of one sample by place, with intervals; the total's interval adds the parts' (fully dependent).

    product_fj, result_fj: [3, pairs], of a multiply-accumulate and of a requantization.
    """
    groups = pairs.of_shape("groups")
    tiles = groups * np.ceil(np.maximum(1, pairs.outputs // groups) / array.columns)
    input_reads = pairs.of_shape("vectors") * pairs.reduction * tiles
    partial_sums = pairs.results * (2 * np.ceil(pairs.reduction / array.rows) - 1)
    bits = input_reads * pairs.a_storage + pairs.outputs * pairs.reduction * pairs.w_storage
    bits += partial_sums * pairs.accumulator_bits + pairs.results * pairs.out_storage
    sram = bits * sram_j_per_bit(array.sram_kb) * sides(SRAM_UNCERTAINTY)
    low, high = DRAM_64_BIT_J
    dram = dram_bits(pairs, array) / 64 * np.array([[(low * high) ** 0.5], [low], [high]])
    compute = (pairs.macs * product_fj + pairs.results * result_fj) * 1e-15
    return {
        "dram_bytes": dram_bits(pairs, array) / 8,
        "energy_compute_j": compute,
        "energy_sram_j": sram,
        "energy_dram_j": dram,
        "energy_j": compute + sram + dram,
    }
