"""The circuit behind a unit that the cost models price: from the families and widths of hwmodels.units to specs."""

from __future__ import annotations

from collections.abc import Callable

from hwmodels.rtl.accumulators import MacUnit
from hwmodels.rtl.arrays import BitSerialDot, ProcessingElement
from hwmodels.rtl.blocks import BlockDot, BlockSum
from hwmodels.rtl.converters import Adder, Converter
from hwmodels.rtl.design import Circuit
from hwmodels.rtl.products import AdderTree, DotUnit, Multiplier
from hwmodels.rtl.requantizers import Maximum, Requantizer, ThresholdUnit
from hwmodels.units.unit import Unit
from qsim.arithmetic.mac import Mac
from qsim.errors import UserError


def minifloat(exponent: int, mantissa: int) -> str:
    """The measured circuits' floats have no infinities and no NaN; without an exponent, an integer."""
    return f"e{exponent}m{mantissa}-inf-nan" if exponent else f"int{mantissa}"


def circuit_of(unit: Unit) -> Circuit:
    """The circuit with the function of a unit of ../shared/golden/hw.

    Differences, both as the emulator has it: mac_pot counts its shift from the other end, and mx_dot with out=fp32acc
    rounds a block's sum before its scale is applied. Raises UserError for families that are only priced as parts of
    others.
    """
    if unit.family not in _CIRCUITS:
        raise UserError(
            f"family '{unit.family}' has no circuit of its own: {', '.join(sorted(_CIRCUITS))} have"
        )
    return _CIRCUITS[unit.family](unit)


def _wrapping(bits: int) -> Mac:
    return Mac(accumulator=f"int{bits}/wrap")


def _mac_fp_float(u: Unit) -> Circuit:
    result = minifloat(u.eo, u.mo)
    return MacUnit(minifloat(u.ew, u.mw), minifloat(u.ea, u.ma), Mac(product=result, accumulator=result))


def _mac_pot(u: Unit) -> Circuit:
    fraction = (1 << u.k) - 1
    weight = f"pot{u.k}" if u.terms <= 1 else f"apot{u.k}x{u.terms}"
    return MacUnit(weight, f"int{u.a}", Mac(accumulator=f"fixed{u.acc}.{u.acc - fraction}/wrap"))


def _mx_dot(u: Unit) -> Circuit:
    scale, decoded = f"@block{u.n}:e8m0", u.impl == "decode"
    weight, activation = minifloat(u.ew, u.mw) + scale, minifloat(u.ea, u.ma) + scale
    if u.out != "fp32acc":
        return BlockSum(weight, activation, decoded)
    mac = Mac(accumulator="float32", lanes=u.n, chunk=u.n)
    return BlockDot(weight, activation, mac, decoded)


def _requant(u: Unit) -> Circuit:
    rule = "dyadic" if u.impl == "dyadic" else "shift"
    return Requantizer(rule, f"int{u.ob}", u.acc, u.m or 1)


_CIRCUITS: dict[str, Callable[[Unit], Circuit]] = {
    "mul_int": lambda u: Multiplier(f"int{u.w}", f"int{u.a}"),
    "mul_int_su": lambda u: Multiplier(f"int{u.w}", f"uint{u.a}"),
    "mac_int": lambda u: MacUnit(f"int{u.w}", f"int{u.a}", _wrapping(u.acc)),
    "pe_ws": lambda u: ProcessingElement(f"int{u.w}", f"int{u.a}", u.acc),
    "dot_int": lambda u: DotUnit(f"int{u.w}", f"int{u.a}", u.n),
    "addtree": lambda u: AdderTree(f"int{u.b}", u.n),
    "dot_xnor": lambda u: DotUnit("binary", "binary", u.n),
    "max": lambda u: Maximum(f"int{u.b}", u.n),
    "threshold": lambda u: ThresholdUnit(f"int{u.b}", (1 << u.k) - 1),
    "mul_fp_exact": lambda u: Multiplier(minifloat(u.ew, u.mw), minifloat(u.ea, u.ma)),
    "mac_fp_kulisch": lambda u: MacUnit(minifloat(u.ew, u.mw), minifloat(u.ea, u.ma), Mac(), terms=256),
    "mac_fp_float": _mac_fp_float,
    "fp_mul": lambda u: Multiplier(minifloat(u.eo, u.mo), minifloat(u.eo, u.mo), minifloat(u.eo, u.mo)),
    "fp_add": lambda u: Adder(minifloat(u.eo, u.mo)),
    "cvt_fp": lambda u: Converter(minifloat(u.ew, u.mw), minifloat(u.eo, u.mo)),
    "mx_dot": _mx_dot,
    "mac_pot": _mac_pot,
    "requant": _requant,
    "bitserial": lambda u: BitSerialDot(f"int{u.w}", f"int{u.a}", u.n),
}
