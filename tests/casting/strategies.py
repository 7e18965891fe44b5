"""Specs and numbers for hypothesis: every kind of element and cast, and the values where casts go wrong."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from qsim.errors import SpecError
from qsim.formats import Element, Float, TableElement, TwosComplement
from qsim.parse import parse
from qsim.spec import OVERFLOWS, ROUNDINGS, STOCHASTIC_ROUNDINGS, Cast, Rounding

small = st.integers(1, 8)
names = st.one_of(
    st.builds("{}int{}".format, st.sampled_from(["", "u"]), st.integers(1, 24)),
    st.builds("{}fixed{}.{}".format, st.sampled_from(["", "u"]), st.integers(1, 24), st.integers(-12, 30)),
    st.builds("e{}m{}{}".format, small, st.integers(1, 10), st.sampled_from(["", "fn", "fnuz", "-inf-nan"])),
    st.builds("e{}m{}-subnormals".format, small, st.integers(1, 10)),
    st.builds("e{}m{}+bias{}-inf-sign".format, small, st.integers(1, 6), st.integers(-20, 40)),
    st.builds("e{}m0-inf-nan{}".format, small, st.sampled_from(["", "-sign", "-subnormals"])),
    st.builds(
        "binary{}p{}{}{}".format, st.integers(4, 10), small, st.sampled_from("su"), st.sampled_from("ef")
    ),
    st.sampled_from(["float16", "bfloat16", "tf32", "float32", "e8m0", "e2m1fn", "e3m2fn", "e4m3b11fnuz"]),
    st.sampled_from(["binary", "ternary", "nf4", "bipolar3", "pot3", "apot2x2", "log2_4", "power5_0.7"]),
    st.builds("posit{}.{}".format, st.integers(3, 10), st.integers(0, 2)),
)


def is_spec(name: str) -> bool:
    try:
        parse(name)
    except SpecError:
        return False
    return True


elements = names.filter(is_spec).map(lambda name: parse(name).element)
roundings = st.one_of(
    st.builds(Rounding, st.sampled_from(ROUNDINGS)),
    st.builds(Rounding, st.sampled_from(STOCHASTIC_ROUNDINGS), st.integers(1, 32)),
)


def fits(pair: tuple[Element, Cast]) -> bool:
    try:
        pair[1].check(pair[0])
    except SpecError:
        return False
    return True


casts = st.tuples(elements, st.builds(Cast, roundings, st.sampled_from(OVERFLOWS))).filter(fits)


def landmarks(element: Element) -> list[float]:
    """Numbers of a format spread over its range: ends, smallest, and a few dozen between."""
    if element.bits <= 10 or isinstance(element, TableElement):
        codes = np.arange(1 << element.bits)
    else:
        codes = np.unique(np.r_[0:8, np.geomspace(1, 2 ** min(element.bits - 1, 60), 40)]).astype(np.int64)
    values = element.decode(codes)
    step = getattr(element, "step_exponent", 0) if isinstance(element, Float | TwosComplement) else 0
    extra = [element.largest, element.lowest, element.smallest, element.largest * 1.5, 2.0**step * 0.5]
    return sorted({abs(v) for v in [*values[np.isfinite(values)].tolist(), *extra]})


@st.composite
def hard_numbers(draw: st.DrawFn, element: Element) -> float:
    """A number of the format, a midpoint or quarter point, one ulp beside it, a threshold, or anything."""
    points = landmarks(element)
    index = draw(st.integers(0, len(points) - 1))
    low = points[index]
    high = points[index + 1] if index + 1 < len(points) else 2 * low
    position = draw(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1 / 3, 15 / 16]))
    x = low + (high - low) * position
    x = draw(st.sampled_from([x, float(np.nextafter(x, np.inf)), float(np.nextafter(x, 0.0))]))
    x = draw(st.one_of(st.just(x), st.floats(allow_nan=False), st.sampled_from([0.0, np.inf, 5e-324, 1e300])))
    return draw(st.sampled_from([x, -x]))
