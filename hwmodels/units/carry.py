"""Carry chains, flip-flops and DSP slices of a unit on a Xilinx fabric (flows xcup_rows and xcup_dsp)."""

from __future__ import annotations

from functools import lru_cache
from math import ceil

from hwmodels.units.families import circuit
from hwmodels.units.lut import Terms, sum_terms
from hwmodels.units.operations import Operation
from hwmodels.units.unit import Unit

DSP_MIN_PRODUCT_BITS = 9
"""Yosys leaves products narrower than this in LUTs (DSP_Y_MINWIDTH of its xcup mapping; agrees with xcup_dsp)."""
DSP_WIDTHS = (27, 18)
"""Signed multiplier ports of a DSP48E2 (AMD UG579, table 1-1)."""


@lru_cache(maxsize=4096)
def product_carries(a: int, b: int) -> int:
    """CARRY4 of a signed a x b product, a >= b, over the same tree as units.lut.product_rows."""
    if b <= 1:
        return 0
    if b == 2:
        return ceil((a + 1) / 4)
    low = 16 if b > 16 else 8 if b > 8 else 4 if b > 4 else 2
    high = b - low
    return product_carries(a, low) + product_carries(a, high) + ceil((a + high) / 4)


def carry_terms(op: Operation) -> Terms:
    """CARRY4 of one operation by fitted constant; chains of whole words are exact, those of float logic fitted."""
    bits = op.bits
    match op.kind:
        case "multiply":
            chain = "significand" if op.variant == "unsigned" else "chain"
            negates = op.other == 1 and op.variant in (
                "signed",
                "rows",
            )  # the one bit of a signed operand is its sign
            return {chain: ceil((bits + 1) / 4) if negates else product_carries(bits, op.other)}
        case "add":
            return {"chain": ceil((bits + 1) / 4)}
        case "accumulate" | "add_rows" | "add_word":
            return {"chain": ceil(bits / 4)}
        case "accumulate_signed":  # a sum and a difference, one chosen
            return {"chain": 2 * ceil(bits / 4)}
        case "popcount_xnor":
            return {"chain": bits // 4}
        case "compare":
            return {"chain": 0 if bits <= 4 else ceil(ceil(bits / 3) / 4)}
        case "count_ones":  # up to three ones fit LUTs
            return {"count_ones": max(0, bits - 3)}
        case "exponent_add" | "exponent_sum" | "increment" | "add_subtract" | "negate" | "negate_gate":
            return {op.kind + op.variant: ceil(bits / 4)}
        case "round_half_up" | "offset" | "clamp":
            return {"requant": ceil(bits / 4)}
    return {}


def unit_carry_terms(unit: Unit) -> Terms:
    """CARRY4 of a whole unit by fitted constant."""
    return sum_terms((count, carry_terms(op)) for count, op in circuit(unit).operations)


def flip_flops(unit: Unit) -> int:
    """Flip-flops of a unit: its accumulator and registers, exactly."""
    return round(sum(count * op.bits for count, op in circuit(unit).operations if op.kind == "register"))


def slices_of_product(w: int, a: int, guard: int = 0) -> int:
    """DSP48E2 of one signed w x a product: one where both ports are wide enough, else parts of a bit less a port.

    guard: zero bits in front of unsigned operands.
    """
    count = 1
    for width, port in zip((max(w, a) + guard, min(w, a) + guard), DSP_WIDTHS):
        count *= 1 if width <= port else ceil((width - 1) / (port - 1))
    return count


def dsp_slices(unit: Unit) -> int:
    """DSP48E2 that Yosys infers for the products of a unit: none below nine product bits, else by port width."""
    total = 0.0
    for count, op in circuit(unit).operations:
        if op.kind == "multiply" and op.bits + op.other >= DSP_MIN_PRODUCT_BITS:
            total += count * slices_of_product(op.bits, op.other, 1 if op.variant == "unsigned" else 0)
    return round(total)
