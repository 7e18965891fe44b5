"""Operations in standard cells: gates for area and energy, logic levels for delay.

Yosys maps products, sums of products and chains of additions to one carry-save tree and one parallel-prefix adder, so
an addition inside a tree is a row of full adders, and only the last one propagates carries.
"""

from __future__ import annotations

from math import log2

from hwmodels.units.families import circuit, levels
from hwmodels.units.lut import Terms, sum_terms
from hwmodels.units.operations import Operation
from hwmodels.units.unit import Unit

NAND2_PER_GATE = {
    "partial_product": 1.33,  # AND2_X1
    "full_adder": 6.7,  # two XOR2_X1 (2.0 each) and a majority gate of AOI and INV
    "tree_adder": 6.7,
    "sign_row": 6.7,
    "merge": 6.7,
    "signed_rows": 0.7,  # INV_X1
    "accumulate": 10.0,  # prefix adder: XOR2 twice, AND2, a few AO21 of the tree
    "accumulate_signed": 12.0,
    "prefix": 5.3,
    "prefix_log": 1.3,
    "gate": 1.33,
    "xnor": 5.0,
    "count_ones": 5.3,
    "compare": 4.0,
    "compare_log": 0.5,
    "mux": 2.33,  # MUX2_X1
    "or": 1.33,  # OR2_X1
    "exponent": 6.0,
    "shift_": 2.33,
    "shift_sticky": 2.33,
    "shift_align": 2.33,
    "shift_left": 2.33,
    "shift_pot": 2.33,
    "shift_requant": 2.33,
    "normalize": 2.33,
    "normalize_decoded": 1.2,  # redundant below the output's range, which ABC partly finds
    "normalize_same_range": 0.3,  # redundant, and so is the shift
    "shift_sticky_decoded": 2.33,
    "shift_sticky_same_range": 0.3,
    "count_zeros": 4.0,
    "increment": 3.33,  # HA_X1
    "round_half_up": 3.33,
    "clamp": 3.0,
    "negate": 5.3,
    "negate_lane": 5.3,
    "negate_operand": 5.3,
    "negate_gate": 5.3,
    "add_subtract": 10.0,
    "register": 5.67,  # DFF_X1
}
"""NAND2 equivalents a bit before fitting: cell areas of the Nangate 45 nm library over its NAND2_X1's 0.798 um^2."""
FJ_PER_NAND2 = 1.2
"""Toggle energy a cycle of one NAND2 equivalent under random inputs before fitting: the data's median ratio."""
PS_PER_LEVEL = {
    "start": 60.0,
    "save_level": 110.0,  # a full adder
    "tree_level": 110.0,
    "carry_log": 60.0,
    "carry_bits": 8.0,
    "increment_level": 50.0,
    "count_level": 80.0,
    "reduce_level": 40.0,
    "gate_level": 50.0,
    "shift_level": 55.0,  # a 2:1 multiplexer with fan-out
    "zeros_level": 55.0,
    "zeros_bits": 8.0,
}
"""Delay of one level before fitting, ps: one to three cells of 20 to 40 ps at the fan-outs of these circuits."""


def carry_save_levels(rows: int) -> int:
    """Full-adder levels that reduce `rows` words to two, three words to two at a time (Wallace 1964)."""
    depth = 0
    while rows > 2:
        rows = rows - rows // 3
        depth += 1
    return depth


def _spread(live: int, stages: int, reach: int) -> int:
    """2:1 multiplexers of a barrel shifter, counted on live bits."""
    total, bits = 0, live
    for stage in range(stages):
        if 2**stage >= reach:
            break
        bits = min(reach, bits + 2**stage)
        total += bits
    return total


def _adder(bits: int) -> Terms:
    return {"prefix": bits, "prefix_log": bits * log2(max(bits, 2))}


def _sign_rows(op: Operation) -> Terms:
    """Full adders where the accumulator meets the sign copies of the product's carry-save rows."""
    if not op.other:
        return {}
    beyond = max(op.bits - op.reach, 0)
    return {"sign_row": beyond * carry_save_levels(op.other), "merge": min(op.reach, op.bits)}


def gate_terms(op: Operation) -> Terms:
    """Gate counts of one operation by fitted constant."""
    bits = op.bits
    match op.kind:
        case "multiply":
            terms: Terms = {"partial_product": bits * op.other, "full_adder": bits * max(op.other - 2, 0)}
            if op.variant in ("signed", "rows"):
                terms["signed_rows"] = op.other**2
            if op.other > 1 and op.variant != "rows":
                terms |= _adder(bits + op.other - 2)
            return terms
        case "add" | "fold":
            return {"tree_adder": bits * (2 if op.kind == "fold" else 1)}
        case "carry_propagate" | "offset":
            return _adder(bits)
        case "accumulate" | "add_rows":
            gated = bits if op.kind == "accumulate" else 0
            return {"accumulate": bits, "gate": gated, **_sign_rows(op)}
        case "accumulate_signed":
            return {"accumulate_signed": bits}
        case "add_word":
            return {"tree_adder": bits}
        case "popcount_xnor":
            return {"xnor": bits}
        case "count_ones":
            return {"count_ones": bits - bits.bit_length()}
        case "compare":
            return {"compare": bits, "compare_log": bits * log2(bits)}
        case "mux" | "enable":
            return {"mux": bits}
        case "gate_lanes":
            return {"gate": bits * op.other}
        case "clear":
            return {"gate": bits}
        case "any" | "sticky" | "saturate":
            return {"or": bits}
        case "exponent_add" | "exponent_sum":
            return {"exponent": bits}
        case "shift":
            return {"shift_" + op.variant: _spread(bits, op.other, op.reach)}
        case "normalize":
            return {"normalize" + op.variant: bits * levels(bits)}
        case "count_zeros":
            return {"count_zeros": bits}
        case "increment" | "round_half_up" | "clamp":
            return {op.kind: bits}
        case "negate" | "negate_gate" | "add_subtract":
            return {op.kind + op.variant: bits}
        case "register":
            return {"register": bits}
        case "table":
            return {"mux": bits * 2**op.other / 2}
        case "sign" | "kept":
            return {}
    raise AssertionError(f"no gate model for operation {op.kind}")


def level_terms(op: Operation) -> Terms:
    """Logic levels of one operation on the critical path by fitted constant."""
    bits = op.bits
    match op.kind:
        case "multiply":
            rows: Terms = {"save_level": carry_save_levels(op.other)}
            return rows if op.variant == "rows" else rows | _carry(bits + op.other - 2)
        case "add" | "add_word":
            return {"tree_level": 1}
        case (
            "carry_propagate"
            | "offset"
            | "negate"
            | "negate_gate"
            | "add_subtract"
            | "exponent_add"
            | "exponent_sum"
        ):
            return _carry(bits)
        case "accumulate" | "add_rows" | "accumulate_signed":
            return {"save_level": 1 if op.other else 0} | _carry(bits)
        case "increment" | "round_half_up":
            return {"increment_level": log2(bits)}
        case "popcount_xnor" | "count_ones":
            return {"count_level": levels(bits)}
        case "compare" | "clamp" | "any" | "sticky" | "saturate":
            return {"reduce_level": log2(max(bits, 2))}
        case "mux" | "gate_lanes" | "clear" | "enable" | "sign" | "kept" | "table":
            return {"gate_level": 1}
        case "shift":
            return {"shift_level": op.other}
        case "normalize" | "count_zeros":
            return {"zeros_level": levels(bits), "zeros_bits": bits}
        case "register" | "fold":
            return {}
    raise AssertionError(f"no delay model for operation {op.kind}")


def _carry(bits: int) -> Terms:
    return {"carry_log": log2(max(bits, 2)), "carry_bits": bits}


def unit_gate_terms(unit: Unit) -> Terms:
    """Gates of a whole unit by fitted constant."""
    return sum_terms((count, gate_terms(op)) for count, op in circuit(unit).operations)


def unit_level_terms(unit: Unit) -> Terms:
    """Logic levels on the critical path of a unit by fitted constant."""
    return sum_terms((1.0, level_terms(op)) for op in circuit(unit).path) | {"start": 1.0}
