"""Operations on a fabric of six-input look-up tables and carry chains: how many LUTs of which kind.

The structure is that of the flow xcup_rows of ../shared/golden/hw: every addition is one carry chain (one LUT a bit),
every product a balanced tree of AND rows, everything else is packed into six-input LUTs. Counts of arithmetic rows are
exact; the constants of the packed logic are fitted (hwmodels/calibrate.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from math import ceil

from hwmodels.units.families import circuit
from hwmodels.units.operations import Operation
from hwmodels.units.unit import Unit

Terms = dict[str, float]


@lru_cache(maxsize=4096)
def product_rows(a: int, b: int) -> int:
    """LUTs of a signed a x b product, a >= b, as a balanced tree of AND rows.

    Two AND rows share one chain: a four-input LUT a bit for the sum and one LUT a bit for the chain's other input, 2a
    together. Joining a low part of L rows (the largest power of two below b) and a high part of H rows takes one chain
    of a + H bits, one of which needs no LUT. A single high row joins in a chain of a bits.
    """
    if b <= 1:
        return a
    if b == 2:
        return 2 * a
    low = 16 if b > 16 else 8 if b > 8 else 4 if b > 4 else 2
    high = b - low
    if high == 1:
        return product_rows(a, low) + a
    return product_rows(a, low) + product_rows(a, high) + a + high - 1


def zero_extended_rows(a: int, b: int) -> int:
    """LUTs of a product whose longer operand is unsigned: chains save their sign ends (measured: mul_int_su)."""
    return product_rows(a, b) - 2 * (b // 4)


def unsigned_rows(a: int, b: int) -> int:
    """LUTs of an unsigned product: as above, and an odd last row is added in a chain one bit longer."""
    return zero_extended_rows(a, b) + (b % 2 if b > 1 else 0)


@lru_cache(maxsize=8192)
def mux_luts(live: int, stages: int, reach: int, first: int = 0) -> int:
    """LUTs of a barrel shifter of `live` bits whose result is looked at in `reach` positions.

    One to three stages share a LUT where selects and live candidates of an output bit fit six inputs: a 4:1
    multiplexer always does, an 8:1 one only when at most three of its inputs are live. The cheapest grouping counts.
    """
    if first >= stages or 2**first >= reach:
        return 0
    best = 10**9
    for group in (1, 2, 3):
        last = first + group
        if last > stages:
            break
        width = min(reach, live + 2**last - 2**first)
        candidates = min(2**group, ceil(live / 2**first))
        luts_per_bit = 1 if group < 3 or candidates <= 3 else 2 if candidates <= 6 else 3
        best = min(best, luts_per_bit * width + mux_luts(width, stages, reach, last))
    return best


def compare_luts(bits: int) -> int:
    """A comparison: generate and propagate of three bit pairs a carry position; four bits need no chain."""
    return bits - 1 if bits <= 4 else 2 * ceil(bits / 3)


def lut_terms(op: Operation) -> Terms:
    """LUT counts of one operation by fitted constant; `row` counts arithmetic rows, whose constant is near 1."""
    bits = op.bits
    match op.kind:
        case "multiply":
            if op.variant == "unsigned":
                return {"significand": unsigned_rows(bits, op.other)}
            rows = zero_extended_rows if op.variant == "mixed" else product_rows
            return {"row": rows(bits, op.other)}
        case "add" | "add_word" | "popcount_xnor":
            return {"row": bits}
        case "fold":
            return {"row": -1}
        case "accumulate":
            return {"row": 2 * bits - (1 if op.other else 0)}
        case "add_rows":
            return {"row": bits - 1}
        case "accumulate_signed":
            return {"row": 2 * bits - 1}
        case "gate_lanes":
            return {"row": bits * (op.other // 2 if op.other > 1 else 1)}
        case "compare":
            return {"compare": compare_luts(bits)}
        case "mux":
            return {"mux": bits}
        case "count_ones":
            return {"count_ones": 2 * bits - bits.bit_length() - 2}
        case "any" | "sticky":
            return {op.kind: bits / 5}
        case "exponent_add" | "exponent_sum":
            return {op.kind: bits}
        case "sign":
            return {"row": 1}
        case "shift":
            if op.variant == "requant":
                return {"requant": 3 * bits}  # six stages, two a LUT
            return {"shift_" + (op.variant.split("_")[0] or "fixed"): mux_luts(bits, op.other, op.reach)}
        case "normalize":
            return {"normalize": mux_luts(bits, max(1, (bits - 1).bit_length()), bits)}
        case "count_zeros":
            return {"count_zeros": bits}
        case "increment":
            return {"increment": bits}
        case "negate" | "negate_gate" | "saturate" | "clear" | "add_subtract":
            return {op.kind + op.variant: bits}
        case "table":
            return {"row": bits * max(1, 2 ** (op.other - 6))}
        case "kept":
            return {"kept": bits * op.other / 2}
        case "round_half_up" | "offset":
            return {"requant": bits}
        case "clamp" | "register" | "enable" | "carry_propagate":
            return {}
    raise AssertionError(f"no LUT model for operation {op.kind}")


def unit_lut_terms(unit: Unit) -> Terms:
    """LUT counts of a whole unit by fitted constant."""
    return sum_terms((count, lut_terms(op)) for count, op in circuit(unit).operations)


def sum_terms(parts: Iterable[tuple[float, Terms]]) -> Terms:
    """Terms of a bag: counts times amounts, added by name."""
    total: Terms = {}
    for count, terms in parts:
        for name, amount in terms.items():
            total[name] = total.get(name, 0.0) + count * amount
    return total
