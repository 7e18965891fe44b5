"""One multiply-accumulate array that all layers share in time, with weights streamed from block RAM or DRAM.

rows x columns processing elements, weight-stationary like the ASIC target's array; the array is built for the widest
formats it meets, so its resources combine by maximum, and narrow weights save memory traffic.
"""

from __future__ import annotations

import numpy as np

from hwmodels.asic.dataflow import systolic_cycles
from hwmodels.columns import Costs, Floats, once
from hwmodels.fpga.device import Fpga
from hwmodels.fpga.elements import by_name, price_block_ends, price_elements, price_outputs
from hwmodels.fpga.energy import energy
from hwmodels.fpga.memory import place
from hwmodels.pricing import LOGIC, price
from hwmodels.storage import storage
from hwmodels.units.unit import Unit
from hwmodels.workload import Pairs

BUFFER_WORDS = 1024
"""Words of each activation buffer a row: one 18 Kib block at 18 bits."""


def layer_costs(pairs: Pairs, fpga: Fpga) -> Costs:
    """All columns of every pair's layer on the shared array."""
    elements = price_elements(pairs, fpga, np.ones(len(pairs.macs)))
    output, output_fj = price_outputs(pairs, fpga.calibration, thresholds=False)
    logic = fpga.rows * fpga.columns * (elements.logic + _registers(pairs, fpga.calibration))
    logic += fpga.columns * output
    logic += _block_ends(pairs, fpga) * price_block_ends(pairs, fpga.calibration)
    widths = (pairs.w_storage, pairs.a_storage, pairs.accumulator_bits)
    words = np.full_like(pairs.macs, BUFFER_WORDS)
    bram18k = np.sum([place(words, width * fpga.columns, False)[1] for width in widths], axis=0)
    costs = by_name(logic) | {"dsp": elements.slices(fpga.rows, fpga.columns)}
    costs |= {"bram18k": bram18k, "uram": np.zeros_like(bram18k)}
    costs |= _timing(pairs, fpga)
    costs |= energy(pairs, fpga, elements.energy_fj, output_fj, fpga.columns)
    return costs | storage(pairs)


def _registers(pairs: Pairs, calibration: str) -> Floats:
    """[3 of LOGIC, 3, pairs]: the weight and the activation that an element holds."""
    bits = pairs.w_storage + pairs.a_storage
    values = once(lambda row: price(LOGIC, ((1.0, Unit("registers", b=int(bits[row]))),), calibration), bits)
    return values.reshape(3, 3, -1)


def _block_ends(pairs: Pairs, fpga: Fpga) -> Floats:
    """Circuits that end a block of shared scales: one a column and block of rows."""
    ends = fpga.columns * np.maximum(1, fpga.rows // np.maximum(pairs.block, 1))
    return np.where(pairs.block > 0, ends, 0.0)


def _timing(pairs: Pairs, fpga: Fpga) -> Costs:
    """The larger of the systolic schedule and of the weights' port."""
    groups = pairs.of_shape("groups")
    outputs = np.maximum(1, pairs.outputs // groups)
    compute = groups * systolic_cycles(
        "ws", pairs.of_shape("vectors"), pairs.reduction, outputs, fpga.rows, fpga.columns
    )
    cycles = np.maximum(compute, np.ceil(pairs.weight_bits / fpga.memory_bits_per_cycle))
    return {
        "fmax_hz": np.full_like(cycles, fpga.clock_hz),
        "cycles": cycles,
        "latency_s": cycles / fpga.clock_hz,
        "throughput_hz": fpga.clock_hz / cycles,
    }
