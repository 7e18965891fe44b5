"""A circuit to be priced: its family and its bit widths, named as in the columns of ../shared/golden/hw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from qsim.errors import UserError


@dataclass(frozen=True, slots=True)
class Unit:
    """One parameter point of a circuit family; all widths in bits, 0 where a parameter does not apply.

    family: mul_int, mul_int_su, mac_int, pe_ws, dot_int, dot_xnor, addtree, max, threshold, mul_fp_exact,
        mac_fp_kulisch, mac_fp_float, fp_mul, fp_add, cvt_fp, mx_dot, mac_pot, requant, bitserial
    n: lanes or inputs; w, a: weight and activation bits; acc: accumulator bits (requant: input bits)
    ew, mw / ea, ma / eo, mo: exponent and mantissa bits of weight, activation and result
    b: bits of one input of a tree, maximum or threshold; k: output bits of a threshold, shift bits of a power of two
    m: multiplier bits of a requantizer; ob: its output bits; terms: addends of an APoT weight
    impl: mx_dot shift | decode | int, requant dyadic | pot; out: mx_dot fix | fp32acc
    """

    family: str
    n: int = 0
    w: int = 0
    a: int = 0
    acc: int = 0
    ew: int = 0
    mw: int = 0
    ea: int = 0
    ma: int = 0
    eo: int = 0
    mo: int = 0
    b: int = 0
    k: int = 0
    m: int = 0
    ob: int = 0
    terms: int = 0
    impl: str = ""
    out: str = ""


_INTEGERS = [field.name for field in fields(Unit) if field.type == "int"]


def unit_from_row(row: Mapping[str, Any]) -> Unit:
    """Read a unit from a CSV row with the golden columns (empty cell = does not apply).

    Raises UserError on a width that is no whole number.
    """
    widths = {}
    for name in _INTEGERS:
        text = str(row.get(name, "") or "0")
        try:
            widths[name] = int(float(text))
        except ValueError:
            raise UserError(
                f"unit {row.get('id', '?')}: column {name} must be a whole number, got {text!r}"
            ) from None
    return Unit(str(row["family"]), impl=str(row.get("impl") or ""), out=str(row.get("out") or ""), **widths)
