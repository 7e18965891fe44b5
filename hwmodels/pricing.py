"""Prices of lists of units, with memory: the same unit is predicted once for all layers, targets and calls."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import numpy as np

from hwmodels.datapath import Parts
from hwmodels.units.carry import dsp_slices, flip_flops
from hwmodels.units.model import SHIPPED, calibrated
from hwmodels.units.unit import Unit


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


@lru_cache(maxsize=1 << 18)
def price_row(parts: Parts, calibration: str = SHIPPED) -> Mapping[str, float]:
    """`price` of lut, carry and ff as columns with their intervals."""
    return {
        name + suffix: value
        for name in ("lut", "carry", "ff")
        for suffix, value in zip(("", "_low90", "_high90"), price(name, parts, calibration))
    }


@lru_cache(maxsize=1 << 18)
def slowest(quantity: str, parts: Parts, calibration: str = SHIPPED) -> tuple[float, float, float]:
    """The largest over the units: the critical path when a register stands between any two of them."""
    return max((price_unit(quantity, unit, calibration) for _, unit in parts), default=(0.0, 0.0, 0.0))
