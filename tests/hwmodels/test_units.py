"""What must hold for every circuit: more bits cost no less, structure follows the RTL, unknown families are told."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwmodels.units.carry import dsp_slices, flip_flops
from hwmodels.units.families import circuit
from hwmodels.units.gates import carry_save_levels
from hwmodels.units.lut import mux_luts, product_rows
from hwmodels.units.model import calibrated
from hwmodels.units.unit import Unit, unit_from_row
from qsim.errors import UserError

WIDENED = [
    (Unit("mul_int", w=4, a=4), ("w", "a")),
    (Unit("mul_int_su", w=4, a=4), ("w", "a")),
    (Unit("mac_int", w=4, a=4, acc=24), ("w", "a", "acc")),
    (Unit("pe_ws", w=4, a=4, acc=24), ("w", "a", "acc")),
    (Unit("dot_int", n=8, w=4, a=4), ("w", "a", "n")),
    (Unit("addtree", n=8, b=4), ("b", "n")),
    (Unit("dot_xnor", n=16), ("n",)),
    (Unit("threshold", b=8, k=2), ("b", "k")),
    (Unit("max", n=2, b=8), ("b", "n")),
    (Unit("mul_fp_exact", ew=3, mw=3, ea=3, ma=3), ("mw", "ma", "ew", "ea")),
    (Unit("mac_fp_kulisch", ew=2, mw=2, ea=2, ma=2), ("mw", "ma", "ew", "ea")),
    (Unit("mac_fp_float", ew=3, mw=3, ea=3, ma=3, eo=5, mo=8), ("mw", "ma", "mo", "eo")),
    (Unit("fp_mul", eo=5, mo=3), ("eo", "mo")),
    (Unit("fp_add", eo=5, mo=3), ("eo", "mo")),
    (Unit("cvt_fp", ew=8, mw=10, eo=4, mo=3), ("mw", "mo")),
    (Unit("mx_dot", n=8, ew=2, mw=2, ea=2, ma=2, impl="shift", out="fix"), ("mw", "ma", "n")),
    (Unit("mac_pot", a=4, k=2, acc=24, terms=1), ("a", "k", "acc", "terms")),
    (Unit("requant", acc=24, m=8, ob=8, impl="dyadic"), ("acc", "m", "ob")),
    (Unit("bitserial", n=8, w=4, a=4), ("n", "w", "a")),
]


@pytest.mark.parametrize("unit,widths", WIDENED, ids=lambda value: getattr(value, "family", None))
@pytest.mark.parametrize("steps", [1, 2, 4])
def test_more_bits_never_take_fewer_luts(unit: Unit, widths: tuple[str, ...], steps: int) -> None:
    model = calibrated("lut")
    for name in widths:
        value = getattr(unit, name)
        wider = replace(unit, **{name: value * 2**steps if name == "n" else value + steps})
        assert model.predict_one(wider)[0] >= model.predict_one(unit)[0] - 1e-9, (name, wider)


@given(a=st.integers(1, 40), b=st.integers(1, 40))
def test_products_grow_with_both_operands(a: int, b: int) -> None:
    long, short = max(a, b), min(a, b)
    assert product_rows(long + 1, short) >= product_rows(long, short)
    if short < long:
        assert product_rows(long, short + 1) >= product_rows(long, short)


@given(live=st.integers(1, 40), stages=st.integers(1, 6), reach=st.integers(1, 80))
def test_a_barrel_shifter_takes_at_most_a_lut_a_bit_and_two_stages(
    live: int, stages: int, reach: int
) -> None:
    reach = max(live, reach)
    luts = mux_luts(live, stages, reach)
    assert 0 < luts <= reach * -(-stages // 2) or reach == 1
    assert mux_luts(live, stages, reach + 1) >= luts


def test_the_multiplier_tree_by_hand() -> None:
    """4 x 4: two pairs of AND rows (8 LUTs each) and a joining chain of 6 bits, one without LUT."""
    assert product_rows(4, 4) == 8 + 8 + 6 - 1
    assert product_rows(8, 2) == 16


def test_carry_save_levels_are_wallace_s() -> None:
    assert [carry_save_levels(n) for n in (1, 2, 3, 4, 6, 9, 13)] == [0, 0, 1, 2, 3, 4, 5]


def test_flip_flops_are_the_registers() -> None:
    assert flip_flops(Unit("mac_int", w=8, a=8, acc=32)) == 32
    assert flip_flops(Unit("pe_ws", w=8, a=8, acc=24)) == 24 + 8 + 8
    assert flip_flops(Unit("mul_int", w=8, a=8)) == 0


def test_dsp_inference_starts_at_nine_product_bits() -> None:
    assert [dsp_slices(Unit("mul_int", w=w, a=a)) for w, a in ((4, 4), (6, 2), (6, 3), (8, 8), (16, 16))] == [
        0,
        0,
        1,
        1,
        1,
    ]
    assert dsp_slices(Unit("fp_mul", eo=8, mo=23)) == 2


def test_a_pe_without_measurements_is_multiplier_plus_adder() -> None:
    """pe_ws has no clear gate: a MAC's LUTs less one an accumulator bit, exactly as its RTL synthesizes."""
    model = calibrated("lut")
    mac = model.predict_one(Unit("mac_int", w=8, a=8, acc=24))[0]
    pe = model.predict_one(Unit("pe_ws", w=8, a=8, acc=24))[0]
    assert mac - pe == pytest.approx(24, abs=0.1)


def test_low_estimate_high_are_ordered_and_interval_names_the_family() -> None:
    for quantity in ("lut", "carry", "area_nand2", "energy_fj", "delay_ps"):
        for unit, _ in WIDENED:
            value, low, high = calibrated(quantity).predict_one(unit)
            assert 0 <= low <= value <= high


def test_unknown_families_and_forms_are_one_clear_error() -> None:
    with pytest.raises(UserError, match="unknown circuit family 'mul_quat'"):
        circuit(Unit("mul_quat"))
    with pytest.raises(UserError, match="impl must be shift, decode or int"):
        circuit(Unit("mx_dot", n=8, ew=2, mw=1, ea=2, ma=1, impl="magic", out="fix"))
    assert unit_from_row({"family": "mul_int", "w": "4", "a": "4.0", "n": ""}) == Unit("mul_int", w=4, a=4)
