"""What each circuit family is made of: from bit widths to word-level operations.

One function a family, in the order of ../shared/golden/hw/README.md, whose RTL they mirror. Floats are the golden
circuits' minifloats: subnormals kept, no infinities, no NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from math import ceil, log2

from hwmodels.units.operations import Circuit
from hwmodels.units.unit import Unit
from qsim.errors import UserError


def levels(n: int) -> int:
    """Levels of a balanced binary tree over n leaves."""
    return ceil(log2(n)) if n > 1 else 0


def _multiply(c: Circuit, w: int, a: int, variant: str = "signed", count: float = 1) -> None:
    c.add("multiply", max(w, a), min(w, a), variant=variant, count=count)


def _tree(c: Circuit, n: int, bits: int) -> int:
    """A balanced adder tree over n words that widens by one bit a level; returns the width of its sum."""
    words = n
    for level in range(levels(n)):
        c.add("add", bits + level, count=words // 2)
        words -= words // 2
    c.add("carry_propagate", bits + levels(n))
    return bits + levels(n)


def mul_int(u: Unit) -> Circuit:
    """p = w * a, both signed."""
    c = Circuit()
    _multiply(c, u.w, u.a)
    return c


def mul_int_su(u: Unit) -> Circuit:
    """Signed w by unsigned a: the longer operand carries the zero extension when it is the unsigned one."""
    c = Circuit()
    _multiply(c, u.w, u.a, "mixed" if u.a >= u.w else "signed")
    return c


def mac_int(u: Unit) -> Circuit:
    """acc <= (clr ? 0 : acc) + w * a."""
    c = Circuit()
    _multiply(c, u.w, u.a, "rows")
    c.add("accumulate", u.acc, min(u.w, u.a), reach=u.w + u.a)
    c.add("register", u.acc)
    return c


def pe_ws(u: Unit) -> Circuit:
    """po <= pi + wr * ai: no clear gate; weight (with enable), activation and partial-sum registers."""
    c = Circuit()
    _multiply(c, u.w, u.a, "rows")
    c.add("add_rows", u.acc, min(u.w, u.a), reach=u.w + u.a)
    c.add("register", u.acc + u.w + u.a)
    c.add("enable", u.w, on_path=False)
    return c


def dot_int(u: Unit) -> Circuit:
    """Sum of n products in a balanced tree."""
    c = Circuit()
    _multiply(c, u.w, u.a, "rows", count=u.n)
    c.add("fold", u.w + u.a, count=u.n / 2, on_path=False)
    _tree(c, u.n, u.w + u.a)
    return c


def dot_xnor(u: Unit) -> Circuit:
    """Population count of n xnor gates."""
    c = Circuit()
    c.add("popcount_xnor", u.n)
    _tree(c, u.n // 4, 3)
    return c


def addtree(u: Unit) -> Circuit:
    """Sum of n signed words in a balanced tree."""
    c = Circuit()
    _tree(c, u.n, u.b)
    return c


def max_of(u: Unit) -> Circuit:
    """Maximum of n signed words, a tree of comparators and multiplexers."""
    c = Circuit()
    for level in range(levels(u.n)):
        c.add("compare", u.b, count=u.n // 2 ** (level + 1))
        c.add("mux", u.b, count=u.n // 2 ** (level + 1))
    return c


def threshold(u: Unit) -> Circuit:
    """How many of 2^k - 1 thresholds an input reaches."""
    c = Circuit()
    steps = 2**u.k - 1
    c.add("compare", u.b, count=steps)
    if steps > 1:
        c.add("count_ones", steps)
    return c


def _decode(c: Circuit, exponent: int, count: float = 1) -> None:
    """Hidden bit and subnormal exponent of one minifloat."""
    c.add("any", exponent, count=count)


def _product(c: Circuit, ew: int, mw: int, ea: int, ma: int, count: float = 1) -> tuple[int, int]:
    """Decode two minifloats, multiply significands, add exponents; widths (exponent sum, product)."""
    _decode(c, ew, count)
    c.add("any", ea, count=count, on_path=False)
    _multiply(c, mw + 1, ma + 1, "unsigned", count=count)
    c.add("exponent_sum", max(ew, ea), min(ew, ea), count=count, on_path=False)
    return max(ew, ea) + 1, mw + ma + 2


def mul_fp_exact(u: Unit) -> Circuit:
    """{sign, exponent sum, significand product}, unnormalised."""
    c = Circuit()
    _product(c, u.ew, u.mw, u.ea, u.ma)
    c.add("sign", 1, on_path=False)
    return c


def _fixed_point(c: Circuit, ew: int, mw: int, ea: int, ma: int, count: float = 1, variant: str = "") -> int:
    """A product shifted to exact fixed point and given its sign; returns the signed width."""
    exponent, product = _product(c, ew, mw, ea, ma, count)
    width = product + (1 << ew) + (1 << ea) - 4
    c.add("exponent_add", exponent, 2, count=count)
    c.add("shift", product, exponent, reach=width, count=count)
    c.add("negate", width, count=count, variant=variant)
    return width + 1


def mac_fp_kulisch(u: Unit) -> Circuit:
    """An exact product added to a fixed-point register."""
    c = Circuit()
    width = _fixed_point(c, u.ew, u.mw, u.ea, u.ma)
    acc = u.acc or width + 8
    c.add("accumulate", acc, 0)
    c.add("register", acc)
    return c


def _round(c: Circuit, bits: int, exponent: int, eo: int, mo: int, variant: str = "") -> None:
    """Round a `bits`-wide significand with an `exponent`-bit exponent to E(eo)M(mo), nearest even, saturating."""
    padded = max(bits, mo + 3)
    internal = max(exponent, eo) + 3
    c.add("normalize", bits, variant=variant)
    c.add("any", bits, on_path=False)
    c.add("exponent_add", internal, 2, count=2)
    c.add("compare", internal, on_path=False)
    c.add("shift", bits, padded.bit_length(), reach=padded + bits, variant="sticky" + variant)
    c.add("sticky", bits)
    c.add("kept", mo + 2, padded.bit_length(), on_path=False)
    c.add("increment", mo + internal)
    c.add("saturate", eo + mo)


def _add_floats(c: Circuit, e: int, m: int) -> None:
    """A single-path floating adder: order by magnitude, align, add or subtract, normalize, round."""
    c.add("compare", e + m)
    c.add("mux", e + m, count=2)
    c.add("any", e, count=2, on_path=False)
    c.add("exponent_add", e, e)
    c.add("shift", m + 1, e, reach=2 * m + 4, variant="align")
    c.add("sticky", m + 1)
    c.add("add_subtract", m + 4)
    c.add("count_zeros", m + 5)
    c.add("exponent_add", e + 2, e + 2, count=2)
    c.add("shift", m + 5, min(levels(m + 5), e), reach=m + 5, variant="left")
    c.add("any", m + 5, on_path=False)
    c.add("increment", m + e + 1)
    c.add("saturate", e + m)


def mac_fp_float(u: Unit) -> Circuit:
    """A rounded product added to a float register, rounded again."""
    c = Circuit()
    exponent, product = _product(c, u.ew, u.mw, u.ea, u.ma)
    _round(c, product, exponent, u.eo, u.mo)
    c.add("clear", u.eo + u.mo + 1, on_path=False)
    _add_floats(c, u.eo, u.mo)
    c.add("register", u.eo + u.mo + 1)
    return c


def fp_mul(u: Unit) -> Circuit:
    """E(eo)M(mo) times itself, rounded."""
    c = Circuit()
    exponent, product = _product(c, u.eo, u.mo, u.eo, u.mo)
    _round(c, product, exponent, u.eo, u.mo)
    return c


def fp_add(u: Unit) -> Circuit:
    """E(eo)M(mo) plus itself, rounded."""
    c = Circuit()
    _add_floats(c, u.eo, u.mo)
    return c


def cvt_fp(u: Unit) -> Circuit:
    """E(ew)M(mw) to E(eo)M(mo)."""
    c = Circuit()
    _decode(c, u.ew)
    _round(c, u.mw + 1, u.ew, u.eo, u.mo, "_same_range" if u.eo == u.ew else "_decoded")
    return c


def mx_dot(u: Unit) -> Circuit:
    """Block dot product with two shared E8M0 scales; impl decode widens both operands before an integer multiply."""
    c = Circuit()
    if u.impl == "int":
        _multiply(c, u.ma, u.ma, "rows", count=u.n)
        width = 2 * u.ma
        c.add("fold", width, count=u.n / 2, on_path=False)
    elif u.impl == "shift":
        width = _fixed_point(c, u.ew, u.mw, u.ea, u.ma, u.n, "_lane")
    elif u.impl == "decode":
        integer = u.mw + 1 + 2**u.ew - 2
        _decode(c, u.ew, count=2 * u.n)
        c.add("shift", u.mw + 1, u.ew, reach=integer, count=2 * u.n)
        c.add("negate", integer, count=2 * u.n, variant="_operand")
        _multiply(c, integer + 1, integer + 1, "rows", count=u.n)
        width = 2 * (integer + 1)
        c.add("fold", width, count=u.n / 2, on_path=False)
    else:
        raise UserError(f"mx_dot: impl must be shift, decode or int, got {u.impl!r}")
    total = _tree(c, u.n, width)
    c.add("exponent_add", 8, 8, on_path=False)
    if u.out == "fp32acc":
        c.add("negate", total)
        _round(c, total, 10, 8, 23)
        c.add("clear", 32, on_path=False)
        _add_floats(c, 8, 23)
        c.add("register", 32)
    return c


def mac_pot(u: Unit) -> Circuit:
    """acc += +-(a << shift): each addend is a shifter, a conditional negation and a zero gate."""
    c = Circuit()
    terms = u.terms or 1
    width = u.a + 2**u.k - 1
    c.add("shift", u.a, u.k, reach=width, variant="pot", count=terms)
    c.add("negate_gate", width, count=terms)
    c.add("accumulate", u.acc, 0)
    c.add("add_word", u.acc, count=terms - 1)
    c.add("register", u.acc)
    return c


def requant(u: Unit) -> Circuit:
    """sat(((x * mult + half) >> sh) + zp) with a variable shift of all product bits."""
    c = Circuit()
    width = u.acc
    if u.impl == "dyadic":
        width = u.acc + u.m + 1
        _multiply(c, u.acc, u.m, "signed" if u.m < u.acc else "mixed")
    c.add("shift", width, 6, reach=width, variant="requant")
    c.add("round_half_up", width + 1)
    c.add("offset", width + 2)
    c.add("clamp", width)
    c.add("mux", u.ob)
    return c


def bitserial(u: Unit) -> Circuit:
    """acc <= 2 acc +- the sum of the lanes whose weight bit is set."""
    c = Circuit()
    c.add("gate_lanes", u.a, u.n)
    total = _tree(c, u.n, u.a)
    acc = u.a + u.w + levels(u.n)
    c.add("accumulate_signed", acc, total)
    c.add("register", acc)
    return c


def accumulator(u: Unit) -> Circuit:
    """acc <= (clr ? 0 : acc) + sum: what follows a dot product of several lanes (not measured on its own)."""
    c = Circuit()
    c.add("accumulate", u.acc, 0)
    c.add("register", u.acc)
    return c


def mul_pot(u: Unit) -> Circuit:
    """The shifters of mac_pot without its accumulator (not measured on its own)."""
    c = Circuit()
    width = u.a + 2**u.k - 1
    c.add("shift", u.a, u.k, reach=width, variant="pot", count=max(u.terms, 1))
    c.add("negate_gate", width, count=max(u.terms, 1))
    return c


def int_to_fp(u: Unit) -> Circuit:
    """A b-bit two's complement sum to E(eo)M(mo): the converter inside mx_dot (not measured on its own)."""
    c = Circuit()
    c.add("negate", u.b)
    _round(c, u.b, 10, u.eo, u.mo)
    return c


def mac_add_fp(u: Unit) -> Circuit:
    """A floating adder with its register and clear gate, as inside mx_dot (not measured on its own)."""
    c = Circuit()
    c.add("clear", u.eo + u.mo + 1, on_path=False)
    _add_floats(c, u.eo, u.mo)
    c.add("register", u.eo + u.mo + 1)
    return c


def registers(u: Unit) -> Circuit:
    """b flip-flops."""
    c = Circuit()
    c.add("register", u.b)
    return c


def table(u: Unit) -> Circuit:
    """A look-up of k-bit codes to b-bit words (not measured on its own)."""
    c = Circuit()
    c.add("table", u.b, u.k)
    return c


FAMILIES: dict[str, Callable[[Unit], Circuit]] = {
    "mul_int": mul_int,
    "mul_int_su": mul_int_su,
    "mac_int": mac_int,
    "pe_ws": pe_ws,
    "dot_int": dot_int,
    "dot_xnor": dot_xnor,
    "addtree": addtree,
    "max": max_of,
    "threshold": threshold,
    "mul_fp_exact": mul_fp_exact,
    "mac_fp_kulisch": mac_fp_kulisch,
    "mac_fp_float": mac_fp_float,
    "fp_mul": fp_mul,
    "fp_add": fp_add,
    "cvt_fp": cvt_fp,
    "mx_dot": mx_dot,
    "mac_pot": mac_pot,
    "requant": requant,
    "bitserial": bitserial,
    "accumulator": accumulator,
    "mul_pot": mul_pot,
    "int_to_fp": int_to_fp,
    "mac_add_fp": mac_add_fp,
    "registers": registers,
    "table": table,
}


@lru_cache(maxsize=65536)
def circuit(unit: Unit) -> Circuit:
    """The operations of a unit. Raises UserError on an unknown family."""
    if unit.family not in FAMILIES:
        raise UserError(f"unknown circuit family {unit.family!r}; known: {', '.join(FAMILIES)}")
    return FAMILIES[unit.family](unit)
