"""Which units are synthesized: every family over a few integer widths, minifloats, lanes and accumulators."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from hwmodels.rtl.units import circuit_of
from hwmodels.units.unit import Unit
from qsim.errors import UserError

Format = tuple[int, int]
"""Exponent and mantissa bits."""


@dataclass(frozen=True)
class Grid:
    """Integer widths, minifloats without infinities, float accumulators (eo, mo) and lanes of dot products.

    The defaults give about 100 units: some three seconds each on a quiet core, so a few minutes on two.
    """

    widths: tuple[int, ...] = (2, 4, 8)
    formats: tuple[Format, ...] = ((2, 1), (3, 2), (4, 3))
    accumulators: tuple[Format, ...] = ((5, 10), (8, 23))
    lanes: tuple[int, ...] = (4, 8)


LARGE = Grid(
    widths=(2, 3, 4, 6, 8, 12, 16),
    formats=((2, 1), (2, 3), (3, 0), (3, 2), (3, 4), (4, 1), (4, 3), (5, 2)),
    accumulators=((5, 10), (8, 7), (8, 23)),
    lanes=(4, 8, 16, 32),
)
"""Almost 400 units, some of them large: half an hour or more on two cores."""
GRIDS = {"small": Grid(), "large": LARGE}


def parse_format(text: str) -> Format:
    """(exponent, mantissa) of e<E>m<M>. Raises UserError for anything else."""
    match = re.fullmatch(r"e([1-9]\d*)m(\d+)", text)
    if match is None:
        raise UserError(f"format {text!r} of a grid must look like e4m3")
    return int(match[1]), int(match[2])


def _pairs(widths: Sequence[int]) -> Iterator[tuple[int, int]]:
    """(w, a) with w >= a: a product does not mind which operand is longer."""
    return ((w, a) for w in widths for a in widths if w >= a)


def _mac_int(grid: Grid) -> Iterator[Unit]:
    for w, a in _pairs(grid.widths):
        for acc in (16, 32):
            if acc >= w + a:
                yield Unit("mac_int", w=w, a=a, acc=acc)


def _operands(family: str) -> Callable[[Grid], Iterator[Unit]]:
    def units(grid: Grid) -> Iterator[Unit]:
        for ew, mw in grid.formats:
            yield Unit(family, ew=ew, mw=mw, ea=ew, ma=mw)

    return units


def _mac_fp_float(grid: Grid) -> Iterator[Unit]:
    for ew, mw in grid.formats:
        for eo, mo in grid.accumulators:
            yield Unit("mac_fp_float", ew=ew, mw=mw, ea=ew, ma=mw, eo=eo, mo=mo)


def _same_format(family: str) -> Callable[[Grid], Iterator[Unit]]:
    def units(grid: Grid) -> Iterator[Unit]:
        for e, m in (*grid.formats, grid.accumulators[0]):
            if m:
                yield Unit(family, eo=e, mo=m)

    return units


def _mx_dot(grid: Grid) -> Iterator[Unit]:
    n = max(grid.lanes)
    for e, m in grid.formats[:2]:
        for impl in ("shift", "decode"):
            yield Unit("mx_dot", n=n, ew=e, mw=m, ea=e, ma=m, impl=impl, out="fix")
        yield Unit("mx_dot", n=n, ew=e, mw=m, ea=e, ma=m, impl="shift", out="fp32acc")
    for width in grid.widths[1:]:
        yield Unit("mx_dot", n=n, mw=width, ma=width, impl="int", out="fix")


def _mac_pot(grid: Grid) -> Iterator[Unit]:
    for a in grid.widths[1:]:
        for k in (2, 3):
            yield Unit("mac_pot", a=a, k=k, acc=24, terms=1)
    yield Unit("mac_pot", a=grid.widths[-1], k=2, acc=24, terms=2)


def _requant(grid: Grid) -> Iterator[Unit]:
    for acc in (16, 24):
        for ob in grid.widths[1:]:
            yield Unit("requant", acc=acc, m=8, ob=ob, impl="dyadic")
            yield Unit("requant", acc=acc, ob=ob, impl="pot")


UNITS: dict[str, Callable[[Grid], Iterator[Unit]]] = {
    "mul_int": lambda g: (Unit("mul_int", w=w, a=a) for w, a in _pairs(g.widths)),
    "mul_int_su": lambda g: (Unit("mul_int_su", w=w, a=a) for w, a in _pairs(g.widths)),
    "mac_int": _mac_int,
    "pe_ws": lambda g: (Unit("pe_ws", w=w, a=a, acc=w + a + 8) for w, a in _pairs(g.widths)),
    "dot_int": lambda g: (Unit("dot_int", n=n, w=w, a=w) for n in g.lanes for w in g.widths),
    "dot_xnor": lambda g: (Unit("dot_xnor", n=8 * n) for n in g.lanes),
    "addtree": lambda g: (Unit("addtree", n=n, b=b) for n in g.lanes for b in g.widths),
    "max": lambda g: (Unit("max", n=n, b=b) for n in (2, 4) for b in g.widths),
    "threshold": lambda g: (Unit("threshold", b=b, k=k) for b in (8, 16) for k in (1, 2)),
    "mul_fp_exact": _operands("mul_fp_exact"),
    "mac_fp_kulisch": _operands("mac_fp_kulisch"),
    "mac_fp_float": _mac_fp_float,
    "fp_mul": _same_format("fp_mul"),
    "fp_add": _same_format("fp_add"),
    "cvt_fp": lambda g: (
        Unit("cvt_fp", ew=e, mw=m, eo=eo, mo=mo) for e, m in g.accumulators for eo, mo in g.formats if mo
    ),
    "mx_dot": _mx_dot,
    "mac_pot": _mac_pot,
    "requant": _requant,
    "bitserial": lambda g: (Unit("bitserial", n=n, w=w, a=w) for n in g.lanes for w in g.widths[1:]),
}
"""The units of each family over a grid."""


def units_of(grid: Grid, families: Sequence[str] = ()) -> tuple[Unit, ...]:
    """All units of the families (none named: all), each once, in a fixed order.

    Raises UserError for a family without a circuit of its own or an empty grid.
    """
    for family in families:
        if family not in UNITS:
            circuit_of(Unit(family))  # its error says which families have a circuit
            raise UserError(f"family {family!r} is in no grid; known: {', '.join(UNITS)}")
    if not (grid.widths and grid.formats and grid.accumulators and grid.lanes):
        raise UserError("a grid needs at least one width, format, accumulator and number of lanes")
    if min(*grid.widths, *grid.lanes) < 1 or max(*grid.widths, *grid.lanes) > 64:
        raise UserError("widths and lanes of a grid lie between 1 and 64")
    return tuple(dict.fromkeys(unit for family in families or UNITS for unit in UNITS[family](grid)))
