"""Far beyond the measured widths: prices stay finite and positive, and grow with widths and lanes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hwmodels.units.model import STRUCTURES, calibrated
from hwmodels.units.unit import Unit

SWEPT = [
    (Unit("mul_int", a=4), "w", (1, 2, 3, 5, 8, 16, 24, 32, 64)),
    (Unit("mul_int_su", a=4), "w", (1, 2, 4, 8, 16, 32)),
    (Unit("mac_int", w=3, a=7), "acc", (10, 16, 24, 32, 48, 64)),
    (Unit("mac_int", a=4, acc=40), "w", (1, 2, 4, 8, 16, 32)),
    (Unit("pe_ws", a=4, acc=40), "w", (1, 2, 4, 8, 16, 32)),
    (Unit("dot_int", w=16, a=4), "n", (2, 3, 4, 8, 16, 32, 64, 256)),
    (Unit("dot_int", n=7, a=1), "w", (1, 2, 4, 8)),
    (Unit("dot_xnor"), "n", (4, 8, 24, 64, 128, 512)),
    (Unit("addtree", b=8), "n", (2, 3, 5, 8, 64, 128)),
    (Unit("max", b=8), "n", (2, 4, 8, 32)),
    (Unit("threshold", b=16), "k", (1, 2, 3, 4, 6, 8)),
    (Unit("mul_fp_exact", ew=5, ea=5, ma=10), "mw", (0, 1, 2, 3, 5, 10, 23)),
    (Unit("mac_fp_kulisch", mw=2, ea=3, ma=2), "ew", (1, 2, 3, 4, 5)),
    (Unit("mac_fp_float", ew=4, mw=3, ea=4, ma=3, eo=8), "mo", (3, 7, 10, 16, 23)),
    (Unit("fp_mul", eo=8), "mo", (1, 3, 7, 10, 16, 23)),
    (Unit("fp_add", eo=8), "mo", (1, 3, 7, 10, 16, 23)),
    (Unit("cvt_fp", ew=8, mw=23, eo=5), "mo", (1, 2, 3, 7, 10, 16)),
    (Unit("mx_dot", ew=2, mw=3, ea=2, ma=3, impl="shift", out="fix"), "n", (2, 4, 8, 16, 32, 64)),
    (Unit("mx_dot", ew=3, mw=2, ea=3, ma=2, impl="decode", out="fp32acc"), "n", (4, 8, 16, 32, 64)),
    (Unit("mx_dot", n=16, impl="int", out="fp32acc"), "ma", (2, 4, 6, 8, 16)),
    (Unit("mac_pot", a=8, acc=48, terms=1), "k", (1, 2, 3, 4, 5)),
    (Unit("requant", m=16, ob=8, impl="dyadic"), "acc", (12, 16, 24, 32, 48, 64)),
    (Unit("requant", ob=8, impl="pot"), "acc", (12, 16, 24, 32, 48, 64)),
    (Unit("bitserial", a=8, w=8), "n", (1, 4, 8, 32, 64)),
]


@pytest.mark.parametrize("quantity", STRUCTURES)
@pytest.mark.parametrize(("unit", "width", "values"), SWEPT, ids=lambda v: getattr(v, "family", None))
def test_prices_grow_with_a_width(quantity: str, unit: Unit, width: str, values: tuple[int, ...]) -> None:
    if width == "ma" and unit.impl == "int":
        units = [replace(unit, ma=value, mw=value) for value in values]
    else:
        units = [replace(unit, **{width: value}) for value in values]
    prices = calibrated(quantity).predict(units)
    assert np.isfinite(prices).all() and (prices >= 0).all()
    assert (prices[:, 1] <= prices[:, 0]).all() and (prices[:, 0] <= prices[:, 2]).all()
    slack = (
        1e-6 if quantity in ("lut", "carry") else 0.10
    )  # a family's fitted exponents may bend the small ends
    assert (np.diff(prices[:, 0]) >= -slack * prices[:-1, 0]).all(), prices[:, 0]


@pytest.mark.parametrize("pair", [(2, 1), (3, 2), (2, 3), (4, 3), (5, 2), (3, 4), (5, 10), (8, 7)])
def test_units_of_every_pair_of_minifloats_have_a_price(pair: tuple[int, int]) -> None:
    (ew, mw), model = pair, calibrated("lut")
    for ea, ma in ((2, 0), (1, 2), (4, 3), (5, 2), (5, 10)):
        exact = model.predict_one(Unit("mul_fp_exact", ew=ew, mw=mw, ea=ea, ma=ma))
        kulisch = model.predict_one(Unit("mac_fp_kulisch", ew=ew, mw=mw, ea=ea, ma=ma))
        rounded = model.predict_one(Unit("mac_fp_float", ew=ew, mw=mw, ea=ea, ma=ma, eo=8, mo=23))
        assert 0 < exact[0] < kulisch[0] and exact[0] < rounded[0]


def test_the_order_of_operands_does_not_change_a_price() -> None:
    model = calibrated("lut")
    for w, a in ((4, 8), (2, 16), (3, 7), (1, 8)):
        for family in ("mul_int", "mac_int", "dot_int"):
            unit = Unit(family, w=w, a=a, n=8 * (family == "dot_int"), acc=32 * (family == "mac_int"))
            assert model.predict_one(unit)[0] == pytest.approx(model.predict_one(replace(unit, w=a, a=w))[0])
