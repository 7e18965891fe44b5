"""Prices of lists of units, with memory: the same unit is predicted once for all layers, targets and calls."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from hwmodels.datapath import Parts
from hwmodels.units.carry import dsp_slices, flip_flops
from hwmodels.units.model import SHIPPED, calibrated
from hwmodels.units.unit import Unit

LOGIC = ("lut", "carry", "ff")
"""What programmable logic takes."""


@lru_cache(maxsize=1 << 18)
def price_unit(unit: Unit, quantities: tuple[str, ...], calibration: str = SHIPPED) -> tuple[float, ...]:
    """Estimate, low90, high90 of every quantity of one unit; `ff` and `dsp` are counted, not fitted.

    calibration: "shipped" or the path of a file that qsim-calibrate wrote.
    """
    prices: tuple[float, ...] = ()
    for quantity in quantities:
        if quantity in COUNTED:
            prices += (float(COUNTED[quantity](unit)),) * 3
        else:
            prices += calibrated(quantity, calibration).predict_one(unit)
    return prices


COUNTED: dict[str, Callable[[Unit], int]] = {"ff": flip_flops, "dsp": dsp_slices}


def price(quantities: tuple[str, ...], parts: Parts, calibration: str = SHIPPED) -> list[float]:
    """Estimate, low90, high90 of every quantity, summed over (count, unit).

    Errors of units are taken as fully dependent, so the interval is the widest.
    """
    total = [0.0] * (3 * len(quantities))
    for count, unit in parts:
        prices = price_unit(unit, quantities, calibration)
        total = [sum_ + count * value for sum_, value in zip(total, prices)]
    return total


@lru_cache(maxsize=1 << 18)
def slowest(quantity: str, parts: Parts, calibration: str = SHIPPED) -> tuple[float, ...]:
    """The largest over the units: the critical path when a register stands between any two of them."""
    return max((price_unit(unit, (quantity,), calibration) for _, unit in parts), default=(0.0, 0.0, 0.0))
