"""One multiply-accumulate array that all layers share in time, with weights streamed from block RAM or DRAM.

rows x columns processing elements, weight-stationary like the ASIC target's array; the array is built for the widest
formats it meets, so its resources combine by maximum, and narrow weights save memory traffic.
"""

from __future__ import annotations

from math import ceil

from hwmodels.asic.dataflow import systolic_cycles
from hwmodels.datapath import Parts, block_end_units, output_units
from hwmodels.fpga import streaming
from hwmodels.fpga.device import Fpga
from hwmodels.fpga.folding import Folding
from hwmodels.fpga.memory import place
from hwmodels.pricing import price
from hwmodels.storage import Row, storage
from hwmodels.units.unit import Unit
from hwmodels.workload import Pair

BUFFER_WORDS = 1024
"""Words of each activation buffer a row: one 18 Kib block at 18 bits."""


def layer_cost(pair: Pair, fpga: Fpga) -> Row:
    """All columns of one layer on the shared array."""
    elements = fpga.rows * fpga.columns
    element, slices = streaming.multiplier_parts(pair, fpga, 1)
    registers: Parts = ((1.0, Unit("registers", b=pair.w_storage + pair.a_storage)),)
    output = output_units(pair.w, pair.a, pair.acc, pair.out)
    row: Row = {"dsp": slices.total(fpga.rows, fpga.columns)}
    ends = fpga.columns * max(1, fpga.rows // pair.block) if pair.block else 0
    counted = (
        (elements, (*element, *registers)),
        (fpga.columns, output),
        (ends, block_end_units(pair.w, pair.a, pair.block)),
    )
    for name in ("lut", "carry", "ff"):
        prices = [(count, price(name, parts, fpga.calibration)) for count, parts in counted]
        for index, suffix in enumerate(("", "_low90", "_high90")):
            row[name + suffix] = sum(count * of_part[index] for count, of_part in prices)
    widths = (pair.w_storage, pair.a_storage, pair.acc.bits)
    blocks = [place(BUFFER_WORDS, width * fpga.columns, False)[1] for width in widths]
    row |= {"bram18k": float(sum(blocks)), "uram": 0.0}
    row |= _timing(pair, fpga)
    row |= streaming.energy(pair, fpga, Folding(fpga.columns, 1, int(row["cycles"])))
    return row | storage(pair)


def _timing(pair: Pair, fpga: Fpga) -> Row:
    """The larger of the systolic schedule and of the weights' port."""
    shape = pair.shape
    outputs = max(1, shape.outputs // shape.groups)
    compute = shape.groups * systolic_cycles(
        "ws", shape.vectors, shape.reduction, outputs, fpga.rows, fpga.columns
    )
    cycles = max(compute, ceil(pair.weight_bits / fpga.memory_bits_per_cycle))
    return {
        "fmax_hz": fpga.clock_hz,
        "cycles": float(cycles),
        "latency_s": cycles / fpga.clock_hz,
        "throughput_hz": fpga.clock_hz / cycles,
    }
