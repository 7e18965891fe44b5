"""A streaming dataflow design: every layer has its own PE x SIMD array, folded to one throughput target.

Per layer: sliding-window line buffer, matrix-vector unit with its weight memory, requantizers shared by as many
processing elements as an accumulation leaves time for, output FIFO, control. The architecture is FINN's (Umuroglu et
al. 2017; Blott et al. 2018); arithmetic is priced by the unit models.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from hwmodels.datapath import Parts, block_end_units, dot_units, lane_units, output_units
from hwmodels.fpga.device import (
    BRAM_ENERGY_J_PER_BIT_45NM,
    ENERGY_UNCERTAINTY,
    FPGA_OVER_ASIC_ENERGY,
    Fpga,
)
from hwmodels.fpga.folding import Folding, fold
from hwmodels.fpga.memory import fifo_luts, place
from hwmodels.pricing import price, price_row, slowest
from hwmodels.storage import Row, storage
from hwmodels.units.carry import DSP_MIN_PRODUCT_BITS, slices_of_product
from hwmodels.units.model import SHIPPED
from hwmodels.units.unit import Unit
from hwmodels.workload import Pair

CONTROL_LUT = 300.0
CONTROL_LUT_RANGE = (150.0, 450.0)
"""LUTs of one layer's control: FINN's c0 (FINN-R 2018, section 5; 300 in the code of MVAU_hls, commit 39f0c9a)."""
FIFO_WORDS = 32
"""Words of the FIFO behind every layer: FINN's smallest."""
REGISTER_UNCERTAINTY = 1.5
"""Factor of the 90 % interval of flip-flops beyond accumulators: pipelining is a choice of the implementation."""
DSP_PRODUCTS_INT8 = 2
DSP_PRODUCTS_INT4 = 4
"""Products that share a weight or activation packed into one DSP48E2 (AMD WP486 for int8, WP521 for int4)."""
PACKED_PORT_BITS = 27


def layer_cost(pair: Pair, fpga: Fpga) -> Row:
    """All columns of one layer on `fpga`."""
    budget = max(1, int(fpga.clock_hz / fpga.throughput_hz))
    folding = fold(pair.shape, budget)
    row = arithmetic(pair, fpga, folding)
    _add_memories(row, pair, fpga, folding)
    _add_registers(row, pair, folding)
    fmax, low, high = clock(pair, fpga, folding.simd)
    row |= {"fmax_hz": fmax, "fmax_hz_low90": low, "fmax_hz_high90": high}
    row |= timing(pair, fpga, folding, min(fmax, fpga.clock_hz))
    row |= energy(pair, fpga, folding)
    return row | storage(pair)


@dataclass(frozen=True)
class Slices:
    """DSP slices of one multiplier, which `shared` processing elements with the same activation use together."""

    per_lane: int = 0
    shared: int = 1

    def total(self, lanes: int, elements: int) -> float:
        """Slices of `elements` processing elements of `lanes` products each."""
        return float(self.per_lane * lanes * ceil(elements / self.shared))


def multiplier_parts(pair: Pair, fpga: Fpga, simd: int) -> tuple[Parts, Slices]:
    """The LUT circuits of one processing element, and the DSP slices that replace its integer multipliers."""
    w, a = pair.w, pair.a
    parts = dot_units(w, a, pair.acc, simd, pair.block)
    wide = w.bits + a.bits >= DSP_MIN_PRODUCT_BITS
    integers = w.kind == a.kind == "integer" and not pair.acc.is_float and w.bits * a.bits > 1
    if not integers or fpga.multipliers == "lut" or (fpga.multipliers == "auto" and not wide):
        return parts, Slices()
    tree: Parts = ((1.0, Unit("addtree", n=simd, b=w.bits + a.bits)),) if simd > 1 else ()
    slices = Slices(
        slices_of_product(w.bits, a.bits), packed_products(w.bits, a.bits, fpga.dsp_long_port_bits)
    )
    return (*tree, (1.0, Unit("accumulator", acc=pair.acc.bits))), slices


def packed_products(w: int, a: int, long_port_bits: int) -> int:
    """Products with a common operand that one slice computes.

    Two of 8 bits lie 18 bits apart, so 18 + 8 + 1 bits of the long port hold both first operands (AMD WP486): a
    DSP48E2 has them, a DSP48E1 does not. Four of 4 bits need the same port (AMD WP521); on the shorter one, two.
    """
    widest = max(w, a)
    if long_port_bits >= PACKED_PORT_BITS:
        return DSP_PRODUCTS_INT4 if widest <= 4 else DSP_PRODUCTS_INT8 if widest <= 8 else 1
    return 2 if widest <= 4 else 1


def requantizers(pair: Pair, calibration: str = SHIPPED) -> Parts:
    """The cheaper, in LUTs, of a requantizer and of parallel thresholds for outputs of at most four bits (FINN)."""
    parts = output_units(pair.w, pair.a, pair.acc, pair.out)
    if pair.out.kind == "integer" and pair.out.bits <= 4 and not pair.acc.is_float and not pair.out.block:
        steps = 2**pair.out.bits - 1
        thresholds: Parts = ((1.0, Unit("threshold", b=pair.acc.bits, k=pair.out.bits)),)
        memory = steps * pair.acc.bits * ceil(pair.shape.outputs / 64)
        if price("lut", thresholds, calibration)[0] + memory < price("lut", parts, calibration)[0]:
            return (*thresholds, (float(memory), Unit("addtree", n=2, b=1)))
    return parts


def requantizer_count(pair: Pair, folding: Folding) -> int:
    """Requantizers that processing elements share: one output an element leaves every reduction / SIMD cycles."""
    return ceil(folding.pe / max(1, pair.shape.reduction // folding.simd))


def block_end_count(pair: Pair, folding: Folding) -> int:
    """Converters and float adders at the ends of blocks: one block an element ends every block / SIMD cycles."""
    return ceil(folding.pe * min(1.0, folding.simd / pair.block)) if pair.block else 0


def arithmetic(pair: Pair, fpga: Fpga, folding: Folding) -> Row:
    """LUT, CARRY, FF and DSP of multipliers, accumulators, requantizers and control."""
    element, slices = multiplier_parts(pair, fpga, folding.simd)
    counted = (
        (folding.pe, element),
        (requantizer_count(pair, folding), requantizers(pair, fpga.calibration)),
        (block_end_count(pair, folding), block_end_units(pair.w, pair.a, pair.block)),
    )
    prices = [(n, price_row(parts, fpga.calibration)) for n, parts in counted if n]
    row = {name: sum([n * of_part[name] for n, of_part in prices]) for name in prices[0][1]}
    row["dsp"] = slices.total(folding.simd, folding.pe)
    row["lut"] += CONTROL_LUT
    row["lut_low90"] += CONTROL_LUT_RANGE[0]
    row["lut_high90"] += CONTROL_LUT_RANGE[1]
    row["lut"] *= fpga.lut_per_lut6
    row["lut_low90"] *= fpga.lut_per_lut6_low90
    row["lut_high90"] *= fpga.lut_per_lut6_high90
    return row


def _add_memories(row: Row, pair: Pair, fpga: Fpga, folding: Folding) -> None:
    """Weights, line buffer and FIFO, in the cheapest memory that fits."""
    shape = pair.shape
    uram = fpga.resources.get("uram", 0) > 0
    stored = pair.weight_bits if shape.weights else shape.outputs * shape.reduction * pair.w_storage
    width = folding.pe * folding.simd * pair.w_storage
    depth = ceil(stored / width)
    luts, bram, blocks = place(depth, width, uram)
    rows_kept = shape.kernel[0] - 1
    if shape.kernel != (1, 1):
        lanes = min(folding.simd, shape.channels_in)
        words = ceil((rows_kept * shape.width_in + shape.kernel[1]) * shape.channels_in / lanes)
        more = place(words, lanes * pair.a_storage, uram)
        luts, bram, blocks = luts + more[0], bram + more[1], blocks + more[2]
    luts += fifo_luts(FIFO_WORDS, folding.pe * pair.out_storage)
    if pair.out.block:  # a block waits for its largest magnitude
        streams = requantizer_count(pair, folding)
        luts += fifo_luts(ceil(pair.out.block / streams), streams * pair.acc.bits)
    for name in ("lut", "lut_low90", "lut_high90"):
        row[name] += luts
    row |= {"bram18k": float(bram), "uram": float(blocks)}


def _add_registers(row: Row, pair: Pair, folding: Folding) -> None:
    """One pipeline register behind every product, two at input and output streams."""
    lanes = folding.pe * folding.simd
    registers = lanes * (pair.w.bits + pair.a.bits)
    registers += 2 * (folding.simd * pair.a_storage + folding.pe * pair.out_storage)
    row["ff"] += registers
    row["ff_low90"] += registers / REGISTER_UNCERTAINTY
    row["ff_high90"] += registers * REGISTER_UNCERTAINTY


def clock(pair: Pair, fpga: Fpga, simd: int) -> tuple[float, float, float]:
    """(fmax, low90, high90) in Hz: fitted on iCE40 (unpipelined units), else the clock a design is assumed to make."""
    if not fpga.has_timing_model:
        return fpga.clock_hz, fpga.clock_hz / 1.5, fpga.clock_hz * 1.5
    parts = (*lane_units(pair.w, pair.a, pair.acc, simd, pair.block), *requantizers(pair))
    period, low, high = slowest("ice40_period_ns", parts, fpga.calibration)
    return 1e9 / period, 1e9 / high, 1e9 / low


def timing(pair: Pair, fpga: Fpga, folding: Folding, clock_hz: float) -> Row:
    """Cycles of one sample and until the first result."""
    shape = pair.shape
    rows = (shape.kernel[0] - 1) * shape.width_in + shape.kernel[1]
    share = rows / max(shape.width_in * shape.height_in, 1) if shape.kernel != (1, 1) else 1 / shape.vectors
    return {
        "cycles": float(folding.cycles),
        "fill_cycles": min(share, 1.0) * folding.cycles,
        "latency_s": folding.cycles / clock_hz,
        "throughput_hz": clock_hz / folding.cycles,
    }


def energy(pair: Pair, fpga: Fpga, folding: Folding) -> Row:
    """Dynamic energy: standard-cell energy of the same circuits, times the FPGA's factor, and memory reads."""
    scale = fpga.energy_scale
    lanes = lane_units(pair.w, pair.a, pair.acc, folding.simd, pair.block)
    output = output_units(pair.w, pair.a, pair.acc, pair.out)
    element = price("energy_fj", lanes, fpga.calibration)[0] / folding.simd
    result = price("energy_fj", output, fpga.calibration)[0]
    compute = (
        (pair.shape.macs * element + pair.shape.results * result) * 1e-15 * FPGA_OVER_ASIC_ENERGY * scale
    )
    weight_reads = pair.shape.macs * pair.w_storage
    line_reads = pair.shape.macs / folding.pe * pair.a_storage
    memory = (weight_reads + line_reads) * BRAM_ENERGY_J_PER_BIT_45NM * scale
    row = {
        "energy_compute_j": compute,
        "energy_sram_j": memory,
        "energy_dram_j": 0.0,
        "energy_j": compute + memory,
    }
    for name in ("energy_compute_j", "energy_sram_j", "energy_j"):
        row[f"{name}_low90"] = row[name] / ENERGY_UNCERTAINTY
        row[f"{name}_high90"] = row[name] * ENERGY_UNCERTAINTY
    return row
