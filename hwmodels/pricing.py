"""Prices of lists of units, with memory: the same unit is predicted once for all layers, targets and calls."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from hwmodels.datapath import Parts
from hwmodels.units.carry import dsp_slices, flip_flops
from hwmodels.units.model import SHIPPED, calibrated
from hwmodels.units.unit import Unit

LOGIC = ("lut", "carry", "ff")
"""What programmable logic takes, in the order of `price_logic`."""


@lru_cache(maxsize=1 << 18)
def price_unit(quantity: str, unit: Unit, calibration: str = SHIPPED) -> tuple[float, float, float]:
    """(estimate, low90, high90) of one unit; `ff` and `dsp` are counted, not fitted.

    calibration: "shipped" or the path of a file that qsim-calibrate wrote.
    """
    if quantity == "ff":
        return (float(flip_flops(unit)),) * 3
    if quantity == "dsp":
        return (float(dsp_slices(unit)),) * 3
    return calibrated(quantity, calibration).predict_one(unit)


@lru_cache(maxsize=1 << 18)
def price(quantity: str, parts: Parts, calibration: str = SHIPPED) -> tuple[float, float, float]:
    """Sum over (count, unit): errors of units are taken as fully dependent, so the interval is the widest."""
    total = np.zeros(3)
    for count, unit in parts:
        total += count * np.array(price_unit(quantity, unit, calibration))
    return float(total[0]), float(total[1]), float(total[2])


def price_logic(parts: Parts, calibration: str = SHIPPED) -> tuple[float, ...]:
    """The nine numbers of LOGIC x (estimate, low90, high90)."""
    return tuple(value for name in LOGIC for value in price(name, parts, calibration))


@lru_cache(maxsize=1 << 18)
def slowest(quantity: str, parts: Parts, calibration: str = SHIPPED) -> tuple[float, float, float]:
    """The largest over the units: the critical path when a register stands between any two of them."""
    return max((price_unit(quantity, unit, calibration) for _, unit in parts), default=(0.0, 0.0, 0.0))
