"""A Cortex-M running CMSIS-NN-like kernels: instructions, cycles, energy, flash and SRAM of every layer.

Sub-byte weights save flash, not time: the measured s8 x s4 kernels are slower than s8 x s8 (../shared/research/
hardware.md, section 2). Number systems without a kernel are priced as a float or unpacking loop, with a wide interval
and has_kernel = 0.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from math import exp
from typing import Any

import numpy as np

from hwmodels.columns import Costs, Floats, once, sides
from hwmodels.datapath import Operand
from hwmodels.mcu.instructions import instruction_terms, kernel_call
from hwmodels.storage import storage
from hwmodels.workload import Pairs, Shape
from qsim.errors import UserError

UNPACK_INSTRUCTIONS = 4.0
"""Load, mask, table look-up, convert: instructions that turn one code of a format without kernel into a float32 or
int8 (own count on the Thumb-2 instruction set, no measurement)."""
SOFT_FLOAT_INSTRUCTIONS = 60.0
"""A float32 multiply and add in libgcc without an FPU (recalled, 25 to 35 instructions each)."""
NO_KERNEL_FACTOR = 2.0
"""Factor of the 90 % interval of formats without a kernel: nothing was measured."""
ASSUMED_STACK_FACTOR = 1.6
"""Factor of the 90 % interval of a core for which no MLPerf Tiny result was published: the spread between stacks."""


@dataclass(frozen=True)
class Core:
    """One microcontroller. core: Cortex-M3, Cortex-M4, Cortex-M7 or Cortex-M55 (instruction counts).

    stack: a software stack of MLPerf Tiny, for cycles per instruction. timing_core: the core whose published results
    give cycles per instruction and energy, if none exist for `core`.
    """

    device: str
    source: str
    core: str
    stack: str
    clock_hz: float
    flash_kb: float
    sram_kb: float
    timing_core: str = ""
    has_fpu: bool = True


@lru_cache(maxsize=1)
def constants() -> dict[str, Any]:
    """The shipped calibration, written by hwmodels/calibrate.py."""
    path = resources.files("hwmodels") / "calibration" / "mcu.json"
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if content.get("version") != 1:
        raise UserError(
            f"mcu calibration version {content.get('version')!r} is not readable here; expected 1"
        )
    return content


@dataclass(frozen=True)
class Kernel:
    """How a pair of formats runs: CMSIS-NN's act and weight types, extra work, and whether a kernel exists.

    slowdown multiplies all instructions, unpacked counts code words to unpack per product.
    """

    act: str
    weight: str
    slowdown: float = 1.0
    unpacked: float = 0.0
    soft_float: bool = False
    exists: bool = True


def kernel_of(w: Operand, a: Operand, core: Core) -> Kernel:
    """The kernel that computes w x a: integers up to 8 x 16 bits have one, all else is emulated."""
    integers = w.kind == a.kind == "integer" and not (w.table_bits or a.table_bits or w.block or a.block)
    if integers and w.bits <= 8 and a.bits <= 16:
        act = "s8" if a.bits <= 8 else "s16"
        weight = "s4" if w.bits <= 4 and act == "s8" else "s8"
        packed = w.bits not in (4, 8) and w.bits < 8
        return Kernel(act, weight, unpacked=0.25 * UNPACK_INSTRUCTIONS if packed else 0.0, exists=not packed)
    plain = {"float": 32}
    coded = sum(1 for x in (w, a) if plain.get(x.kind) != x.bits)
    factor = constants()["float32_over_int8"].get(core.timing_core or core.core, 3.0)
    return Kernel(
        "s8",
        "s8",
        factor,
        coded * UNPACK_INSTRUCTIONS,
        soft_float=not core.has_fpu,
        exists=coded == 0 and core.has_fpu,
    )


@lru_cache(maxsize=65536)
def instructions(shape: Shape, kernel: Kernel, core: str) -> float:
    """Executed instructions of one layer. Raises UserError for a core without measured kernels."""
    call = kernel_call(shape)
    key = f"{core} {kernel.act} {kernel.weight} {call.kind}"
    weights = constants()["kernels"].get(key)
    if weights is None:
        raise UserError(f"no instruction counts for {key!r}; cores: {', '.join(constants()['cores'])}")
    count = float(sum(weights[name] * amount for name, amount in instruction_terms(call).items()))
    per_mac = kernel.unpacked + (SOFT_FLOAT_INSTRUCTIONS if kernel.soft_float else 0.0)
    return count * (1.0 if kernel.soft_float else kernel.slowdown) + per_mac * shape.macs


def layer_costs(pairs: Pairs, core: Core) -> Costs:
    """All columns of every pair's layer on the core."""

    def executed(row: int) -> tuple[float, float]:
        product = pairs.product_of(row)
        kernel = kernel_of(product.w, product.a, core)
        return instructions(pairs.shapes[pairs.shape[row]], kernel, core.core), float(kernel.exists)

    count, has_kernel = once(executed, pairs.shape, pairs.w, pairs.a)
    measured = exp(constants()["cores"][core.core]["interval_log"])
    spread = measured * np.where(has_kernel, 1.0, NO_KERNEL_FACTOR)
    per_instruction, stack_spread = cycles_per_instruction(core)
    per_cycle = constants()["energy"][core.timing_core or core.core]
    joules = np.array([[per_cycle[side]] for side in ("joules_per_cycle", "low90", "high90")])
    counts = count * np.stack([np.ones_like(spread), 1 / spread, spread])
    cycles = counts * per_instruction * sides(stack_spread)
    costs: Costs = {
        "has_kernel": has_kernel,
        "instructions": counts,
        "cycles": cycles,
        "latency_s": cycles / core.clock_hz,
        "energy_j": cycles * joules,
        "throughput_hz": core.clock_hz / cycles[0],
    }
    stored = storage(pairs) | {"sram_bytes": activation_bytes(pairs)}
    biases = 4.0 * pairs.outputs * (pairs.of_shape("weights") > 0)
    return costs | stored | {"flash_bytes": stored["weight_bytes"] + biases}


def cycles_per_instruction(core: Core) -> tuple[float, float]:
    """(value, factor of its 90 % interval). Raises UserError for a stack without published results."""
    timing_core = core.timing_core or core.core
    stacks = constants()["stacks"]
    found = stacks.get(f"{timing_core} {core.stack}")
    if found is None:
        known = [name.removeprefix(timing_core).strip() for name in stacks if name.startswith(timing_core)]
        raise UserError(
            f"no MLPerf Tiny results for stack {core.stack!r} on {timing_core}; known: {', '.join(known)}"
        )
    assumed = ASSUMED_STACK_FACTOR if core.timing_core not in ("", core.core) else 1.0
    return found["cycles_per_instruction"], exp(found["interval_log"]) * assumed


def activation_bytes(pairs: Pairs) -> Floats:
    """Input and output of a layer; kernels hold activations in whole bytes (s8, s16, float32)."""
    size: Floats = pairs.inputs * np.ceil(pairs.a_storage / 8) + pairs.results * np.ceil(
        pairs.out_storage / 8
    )
    return size
