"""From number systems to circuits: which units compute, accumulate and requantize one layer's products."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import ceil, log2
from typing import Any

from hwmodels.units.unit import Unit
from qsim.formats import AdditivePowerOfTwo, Bipolar, Element, Fixed, Float, Integer, PowerOfTwo, Ternary
from qsim.spec import Spec

MAX_KULISCH_BITS = 128
"""An exact register wider than this is replaced by a float32 accumulator: 128 bits hold every product of 8-bit
floats and of float16 (80 bits); bfloat16 would need over 500."""
TABLE_BITS = 8
"""Codebooks (nf4, power functions, logarithms, posits) are looked up to integers of this width before multiplying."""
DYADIC_BITS = 16
"""Multiplier bits of a requantizer; more than the 15 that keep an 8-bit result within half a step of exact."""


SCALE_EXTRA_BITS = 8
"""Significand bits that a float requantizer's scale has beyond its result's, as DYADIC_BITS has for 8-bit integers."""


@dataclass(frozen=True, slots=True)
class Operand:
    """One operand as a multiplier sees it.

    kind: integer (bits, signed), float (exponent, mantissa) or pot (shift bits in `exponent`, `terms` addends).
    table_bits: code bits of a look-up in front. block: values that share one scale along the reduction, 0 for none.
    """

    kind: str
    bits: int
    signed: bool = True
    exponent: int = 0
    mantissa: int = 0
    terms: int = 0
    table_bits: int = 0
    block: int = 0
    power_of_two_scale: bool = True


FLOAT32 = Operand("float", 32, True, 8, 23)


def operand(spec: Spec | None) -> Operand:
    """What a spec means to a multiplier; None is float32."""
    if spec is None:
        return FLOAT32
    block = 0
    if spec.granularity is not None and spec.granularity.kind == "block":
        block = spec.granularity.block[-1]
    power_of_two = spec.scale is None or spec.scale.is_power_of_two
    return _of_element(spec.element, block, power_of_two)


def _of_element(element: Element, block: int, power_of_two: bool) -> Operand:
    rest: dict[str, Any] = {"block": block, "power_of_two_scale": power_of_two}
    match element:
        case Integer() | Fixed() | Ternary():
            return Operand("integer", element.bits, element.signed, **rest)
        case Bipolar():
            bits = 1 if element.bits == 1 else element.bits + 1
            return Operand("integer", bits, True, **rest)
        case Float():
            return Operand("float", element.bits, element.signed, element.exponent, element.mantissa, **rest)
        case PowerOfTwo():
            return Operand("pot", element.bits, True, element.shift_bits, terms=1, **rest)
        case AdditivePowerOfTwo():
            return Operand("pot", element.bits, True, element.shift_bits, terms=element.terms, **rest)
    return Operand("integer", TABLE_BITS, True, table_bits=element.bits, **rest)


@dataclass(frozen=True, slots=True)
class Accumulator:
    """Where products are summed: a two's complement register, or a float of `exponent` and `mantissa` bits."""

    bits: int
    exponent: int = 0
    mantissa: int = 0

    @property
    def is_float(self) -> bool:
        return self.exponent > 0


@dataclass(frozen=True, slots=True)
class Product:
    """Operands of a multiply-accumulate and where it is summed."""

    w: Operand
    a: Operand
    acc: Accumulator

    @property
    def block(self) -> int:
        """Values along the reduction that share one scale, 0 for none."""
        return min(self.w.block, self.a.block) or max(self.w.block, self.a.block)


def guard_bits(reduction: int) -> int:
    """Bits by which a sum of `reduction` products is wider than one."""
    return ceil(log2(max(reduction, 1)))


def _as_float(x: Operand) -> tuple[int, int]:
    """Exponent and mantissa bits; an integer is a significand with a one-bit exponent."""
    if x.kind == "float":
        return x.exponent, x.mantissa
    if x.kind == "pot":
        return x.exponent, 0
    return 1, max(x.bits - 2, 0)


def kulisch_bits(w: Operand, a: Operand) -> int:
    """Width of the exact sum of two products' range: the register formula of ../shared/golden/hw without guard."""
    (ew, mw), (ea, ma) = _as_float(w), _as_float(a)
    return mw + ma + (1 << ew) + (1 << ea) - 1


def accumulator(spec: Spec | None, w: Operand, a: Operand, reduction: int) -> Accumulator:
    """The accumulator a spec names; None: exact for `reduction` products, or float32 where exact is too wide."""
    if spec is not None:
        element = spec.element
        if isinstance(element, Float):
            return Accumulator(element.bits, element.exponent, element.mantissa)
        return Accumulator(element.bits)
    guard = guard_bits(reduction)
    if w.block or a.block:
        return Accumulator(32, 8, 23)
    if w.kind == "float" or a.kind == "float":
        exact = (
            kulisch_bits(w, a) + guard if max(_as_float(w)[0], _as_float(a)[0]) < 8 else MAX_KULISCH_BITS + 1
        )
        return Accumulator(exact) if exact <= MAX_KULISCH_BITS else Accumulator(32, 8, 23)
    if w.kind == "pot" or a.kind == "pot":
        pot, other = (w, a) if w.kind == "pot" else (a, w)
        return Accumulator(other.bits + 2**pot.exponent + pot.terms - 1 + guard)
    if w.bits == a.bits == 1:
        return Accumulator(guard + 2)
    return Accumulator(w.bits + a.bits + guard)


Parts = tuple[tuple[float, Unit], ...]


def lane_units(w: Operand, a: Operand, acc: Accumulator, lanes: int, block: int) -> Parts:
    """The circuits of one processing element: `lanes` products a cycle, summed into one accumulator.

    block: length of the shared-scale blocks along the reduction; what follows a block (block_end_units) is then needed
    once in max(1, block / lanes) cycles, and that share of it is included.
    """
    inside = dot_units(w, a, acc, lanes, block)
    if not block:
        return inside
    share = 1 / max(1.0, block / lanes)
    return (*inside, *((share * count, unit) for count, unit in block_end_units(w, a, block)))


@lru_cache(maxsize=65536)
def dot_units(w: Operand, a: Operand, acc: Accumulator, lanes: int, block: int) -> Parts:
    """The circuits that every processing element has: products, their sum and its register."""
    parts: list[tuple[float, Unit]] = []
    for x in (w, a):
        if x.table_bits:
            parts.append((lanes, Unit("table", k=x.table_bits, b=x.bits)))
    if block:
        return (*parts, *_block_units(w, a, lanes, block))
    if w.kind == "float" or a.kind == "float":
        return (*parts, *_float_units(w, a, acc, lanes))
    if w.kind == "pot" or a.kind == "pot":
        return (*parts, *_pot_units(w, a, acc, lanes))
    return (*parts, *_integer_units(w, a, acc, lanes))


def _integer_units(w: Operand, a: Operand, acc: Accumulator, lanes: int) -> Parts:
    if acc.is_float:
        return _float_units(w, a, acc, lanes)
    if w.bits == 1 and a.bits == 1 and lanes >= 4:
        return (1, Unit("dot_xnor", n=lanes)), (1, Unit("accumulator", acc=acc.bits))
    if w.signed and a.signed:
        product = Unit("mac_int", w=w.bits, a=a.bits, acc=acc.bits)
        dot = Unit("dot_int", n=lanes, w=w.bits, a=a.bits)
        return ((1, product),) if lanes == 1 else ((1, dot), (1, Unit("accumulator", acc=acc.bits)))
    signed, unsigned = (w, a) if w.signed else (a, w)
    product = Unit("mul_int_su", w=signed.bits, a=unsigned.bits)
    tree = ((1.0, Unit("addtree", n=lanes, b=w.bits + a.bits)),) if lanes > 1 else ()
    return (lanes, product), *tree, (1, Unit("accumulator", acc=acc.bits))


def _float_units(w: Operand, a: Operand, acc: Accumulator, lanes: int) -> Parts:
    (ew, mw), (ea, ma) = _as_float(w), _as_float(a)
    if acc.is_float:
        return ((lanes, Unit("mac_fp_float", ew=ew, mw=mw, ea=ea, ma=ma, eo=acc.exponent, mo=acc.mantissa)),)
    if lanes == 1:
        return ((1, Unit("mac_fp_kulisch", ew=ew, mw=mw, ea=ea, ma=ma, acc=acc.bits)),)
    dot = Unit("mx_dot", n=lanes, ew=ew, mw=mw, ea=ea, ma=ma, impl="shift", out="fix")
    return (1, dot), (1, Unit("accumulator", acc=acc.bits))


def _pot_units(w: Operand, a: Operand, acc: Accumulator, lanes: int) -> Parts:
    pot, other = (w, a) if w.kind == "pot" else (a, w)
    if other.kind != "integer" or acc.is_float:
        return _float_units(w, a, acc, lanes)
    product = Unit("mul_pot", a=other.bits, k=pot.exponent, terms=pot.terms)
    width = other.bits + 2**pot.exponent
    words = lanes * max(pot.terms, 1)
    tree = ((1.0, Unit("addtree", n=words, b=width)),) if words > 1 else ()
    return (lanes, product), *tree, (1, Unit("accumulator", acc=acc.bits))


def _block_dot(w: Operand, a: Operand, lanes: int) -> tuple[Unit, int]:
    """The products of a block and the width of one of them."""
    (ew, mw), (ea, ma) = _as_float(w), _as_float(a)
    if w.kind == a.kind == "integer":
        return Unit("dot_int", n=max(lanes, 1), w=w.bits, a=a.bits), w.bits + a.bits
    dot = Unit("mx_dot", n=max(lanes, 1), ew=ew, mw=mw, ea=ea, ma=ma, impl="shift", out="fix")
    return dot, kulisch_bits(w, a)


def _block_units(w: Operand, a: Operand, lanes: int, block: int) -> Parts:
    dot, width = _block_dot(w, a, lanes)
    return (1, dot), (1, Unit("accumulator", acc=width + ceil(log2(max(block, 2)))))


@lru_cache(maxsize=65536)
def block_end_units(w: Operand, a: Operand, block: int) -> Parts:
    """What turns the sum of one block into an addend of the float32 accumulator: nothing without blocks.

    A converter, which also adds exponents that are powers of two, a multiplier for other scales, a float adder.
    """
    if not block:
        return ()
    total = _block_dot(w, a, 1)[1] + ceil(log2(max(block, 2)))
    parts: Parts = ((1, Unit("int_to_fp", b=total, eo=8, mo=23)), (1, Unit("mac_add_fp", eo=8, mo=23)))
    if w.power_of_two_scale and a.power_of_two_scale:
        return parts
    return (*parts, (1, Unit("fp_mul", eo=8, mo=23)))


@lru_cache(maxsize=65536)
def output_units(w: Operand, a: Operand, acc: Accumulator, out: Operand) -> Parts:
    """The circuits that turn one accumulator into one output value, once an output.

    Integers: a shift where every scale is a power of two, else a dyadic multiply; a target may use thresholds instead.
    Floats: a converter, after a multiplier for scales that are no powers of two, whose operands have SCALE_EXTRA_BITS
    more than the result. Block outputs: a running maximum, too; the division by a block's scale, where it is no power
    of two, is not priced.
    """
    shift_only = w.power_of_two_scale and a.power_of_two_scale and out.power_of_two_scale
    if out.kind == "integer":
        parts = _to_integer(acc, out, shift_only)
    else:
        parts = _to_float(acc, *_as_float(out), shift_only)
    return (*parts, (1, Unit("max", n=2, b=acc.bits))) if out.block else parts


def _to_integer(acc: Accumulator, out: Operand, shift_only: bool) -> Parts:
    if not acc.is_float:
        if shift_only:
            return ((1, Unit("requant", acc=acc.bits, ob=out.bits, impl="pot")),)
        return ((1, Unit("requant", acc=acc.bits, m=DYADIC_BITS, ob=out.bits, impl="dyadic")),)
    shift: Parts = ((1, Unit("requant", acc=acc.mantissa + 1 + out.bits, ob=out.bits, impl="pot")),)
    scale = Unit("fp_mul", eo=acc.exponent, mo=out.bits + SCALE_EXTRA_BITS)
    return shift if shift_only else ((1, scale), *shift)


def _to_float(acc: Accumulator, exponent: int, mantissa: int, shift_only: bool) -> Parts:
    inner = (exponent, mantissa) if shift_only else (8, min(mantissa + SCALE_EXTRA_BITS, 23))
    scale: Parts = () if shift_only else ((1, Unit("fp_mul", eo=inner[0], mo=inner[1])),)
    if not acc.is_float:
        first = Unit("int_to_fp", b=acc.bits, eo=inner[0], mo=inner[1])
        return ((1, first), *scale, *_convert(*inner, exponent, mantissa))
    if shift_only:
        return _convert(acc.exponent, acc.mantissa, exponent, mantissa)
    return (*scale, *_convert(*inner, exponent, mantissa))


def _convert(ew: int, mw: int, eo: int, mo: int) -> Parts:
    """A converter, unless both formats are the same."""
    return () if (ew, mw) == (eo, mo) else ((1, Unit("cvt_fp", ew=ew, mw=mw, eo=eo, mo=mo)),)
