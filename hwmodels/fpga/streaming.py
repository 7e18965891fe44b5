"""A streaming dataflow design: every layer has its own PE x SIMD array, folded to one throughput target.

Per layer: sliding-window line buffer, matrix-vector unit with its weight memory, requantizers shared by as many
processing elements as an accumulation leaves time for, output FIFO, control. The architecture is FINN's (Umuroglu et
al. 2017; Blott et al. 2018); arithmetic is priced by the unit models.
"""

from __future__ import annotations

import numpy as np

from hwmodels.columns import Costs, Floats, once, sides
from hwmodels.datapath import lane_units
from hwmodels.fpga.device import Fpga
from hwmodels.fpga.elements import (
    Circuits,
    by_name,
    price_block_ends,
    price_elements,
    price_outputs,
    requantizers,
)
from hwmodels.fpga.energy import energy
from hwmodels.fpga.folding import Foldings, fold_layers
from hwmodels.fpga.memory import fifo_luts, place
from hwmodels.pricing import slowest
from hwmodels.storage import storage
from hwmodels.workload import Pairs

CONTROL_LUT = np.array([[300.0], [150.0], [450.0]])
"""LUTs of one layer's control, low90, high90: FINN's c0 (FINN-R 2018, section 5; 300 in the code of MVAU_hls, commit
39f0c9a)."""
FIFO_WORDS = 32
"""Words of the FIFO behind every layer: FINN's smallest."""
REGISTER_UNCERTAINTY = 1.5
"""Factor of the 90 % interval of flip-flops beyond accumulators: pipelining is a choice of the implementation."""
CLOCK_UNCERTAINTY = 1.5
"""Factor of the 90 % interval of a clock that is assumed."""


def layer_costs(pairs: Pairs, fpga: Fpga) -> Costs:
    """All columns of every pair's layer on `fpga`."""
    folding = fold_layers(pairs, max(1, int(fpga.clock_hz / fpga.throughput_hz)))
    elements = price_elements(pairs, fpga, folding.simd)
    output, output_fj = price_outputs(pairs, fpga.calibration, thresholds=True)
    requantizers = requantizer_count(pairs.reduction, folding)
    costs = arithmetic(pairs, fpga, folding, elements, requantizers * output)
    memory_luts, blocks = memories(pairs, fpga, folding, requantizers)
    costs["lut"] += memory_luts
    costs["ff"] += pipeline_registers(pairs, folding) * sides(REGISTER_UNCERTAINTY)
    costs |= blocks
    costs["fmax_hz"] = clock(pairs, fpga, folding.simd)
    costs |= timing(pairs, folding, np.minimum(costs["fmax_hz"][0], fpga.clock_hz))
    costs |= energy(pairs, fpga, elements.energy_fj / folding.simd, output_fj, folding.pe)
    return costs | storage(pairs)


def requantizer_count(reduction: Floats, folding: Foldings) -> Floats:
    """Requantizers that processing elements share: one output an element leaves every reduction / SIMD cycles."""
    return np.ceil(folding.pe / np.maximum(1, reduction // folding.simd))


def block_end_count(block: Floats, folding: Foldings) -> Floats:
    """Converters and float adders at the ends of blocks: one block an element ends every block / SIMD cycles."""
    return np.where(block > 0, np.ceil(folding.pe * np.minimum(1, folding.simd / np.maximum(block, 1))), 0)


def arithmetic(
    pairs: Pairs, fpga: Fpga, folding: Foldings, elements: Circuits, output_logic: Floats
) -> Costs:
    """LUT, CARRY, FF and DSP of multipliers, accumulators, requantizers (`output_logic`) and control."""
    logic = folding.pe * elements.logic + output_logic
    logic += block_end_count(pairs.block, folding) * price_block_ends(pairs, fpga.calibration)
    costs = by_name(logic)
    fabric = np.array([[fpga.lut_per_lut6], [fpga.lut_per_lut6_low90], [fpga.lut_per_lut6_high90]])
    costs["lut"] = (costs["lut"] + CONTROL_LUT) * fabric
    return costs | {"dsp": elements.slices(folding.simd, folding.pe)}


def memories(pairs: Pairs, fpga: Fpga, folding: Foldings, streams: Floats) -> tuple[Floats, Costs]:
    """Weights, line buffer and FIFO, in the cheapest memory that fits: LUTs, and blocks by name.

    streams: results that leave in one cycle at most.
    """
    uram = fpga.resources.get("uram", 0) > 0
    activations_as_weights = pairs.outputs * pairs.reduction * pairs.w_storage
    stored = np.where(pairs.of_shape("weights") > 0, pairs.weight_bits, activations_as_weights)
    width = folding.pe * folding.simd * pairs.w_storage
    luts, bram, blocks = place(np.ceil(stored / width), width, uram)
    channels = pairs.of_shape("channels_in")
    lanes = np.minimum(folding.simd, channels)
    words = np.where(is_spatial(pairs), np.ceil(kept_pixels(pairs) * channels / lanes), 0)
    for total, more in zip((luts, bram, blocks), place(words, lanes * pairs.a_storage, uram)):
        total += more
    luts += fifo_luts(FIFO_WORDS, folding.pe * pairs.out_storage)
    out_block = np.array([number.operand.block for number in pairs.numbers], dtype=np.float64)[pairs.out]
    waiting = np.ceil(out_block / streams)  # a block waits for its largest magnitude; 0 words without blocks
    luts += fifo_luts(waiting, streams * pairs.accumulator_bits)
    return luts, {"bram18k": bram, "uram": blocks}


def is_spatial(pairs: Pairs) -> Floats:
    """1 where a kernel spans several pixels."""
    return np.array([float(shape.kernel != (1, 1)) for shape in pairs.shapes])[pairs.shape]


def kept_pixels(pairs: Pairs) -> Floats:
    """Pixels a line buffer holds: all rows of the kernel but one, and of the last as many as the kernel is wide."""
    kept = [(shape.kernel[0] - 1) * shape.width_in + shape.kernel[1] for shape in pairs.shapes]
    return np.array(kept, dtype=np.float64)[pairs.shape]


def pipeline_registers(pairs: Pairs, folding: Foldings) -> Floats:
    """One pipeline register behind every product, two at input and output streams."""
    bits = np.array([number.operand.bits for number in pairs.numbers], dtype=np.float64)
    registers = folding.pe * folding.simd * (bits[pairs.w] + bits[pairs.a])
    streams: Floats = 2 * (folding.simd * pairs.a_storage + folding.pe * pairs.out_storage)
    return registers + streams


def clock(pairs: Pairs, fpga: Fpga, simd: Floats) -> Floats:
    """[3, pairs] in Hz: fitted on iCE40 (unpipelined units), else the clock a design is assumed to make."""
    if not fpga.has_timing_model:
        return np.repeat(fpga.clock_hz * sides(CLOCK_UNCERTAINTY), len(simd), axis=1)
    rounds = np.ceil(pairs.outputs / 64)

    def period(row: int) -> tuple[float, ...]:
        product = pairs.product_of(row)
        lanes = lane_units(product.w, product.a, product.acc, int(simd[row]), product.block)
        output = requantizers(product, pairs.out_of(row), int(rounds[row]), fpga.calibration)
        return slowest("ice40_period_ns", (*lanes, *output), fpga.calibration)

    estimate, low, high = once(period, pairs.product, pairs.out, simd, rounds)
    return 1e9 / np.stack([estimate, high, low])


def timing(pairs: Pairs, folding: Foldings, clock_hz: Floats) -> Costs:
    """Cycles of one sample and until the first result."""
    pixels = np.maximum(pairs.of_shape("width_in") * pairs.of_shape("height_in"), 1)
    share = np.where(is_spatial(pairs), kept_pixels(pairs) / pixels, 1 / pairs.of_shape("vectors"))
    return {
        "cycles": folding.cycles,
        "fill_cycles": np.minimum(share, 1.0) * folding.cycles,
        "latency_s": folding.cycles / clock_hz,
        "throughput_hz": clock_hz / folding.cycles,
    }
