"""Predict what circuits cost: structure times fitted constants, a family's power law, and a 90 % interval.

prediction = (terms of the structure . constants) * exp(offset + sum of slopes * (log(1 + width) - center))

The constants are shared by all families; offset and slopes belong to one family, are shrunk towards none, and are
absent where structure alone does better. All of it stands in hwmodels/calibration/*.json, written by
hwmodels/calibrate.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib import resources
from math import exp, log1p
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwmodels.units.carry import unit_carry_terms
from hwmodels.units.gates import unit_gate_terms, unit_level_terms
from hwmodels.units.lut import Terms, unit_lut_terms
from hwmodels.units.unit import Unit
from qsim.errors import UserError

Array = NDArray[np.float64]

STRUCTURES: dict[str, Callable[[Unit], Terms]] = {
    "lut": unit_lut_terms,
    "carry": unit_carry_terms,
    "area_nand2": unit_gate_terms,
    "energy_fj": unit_gate_terms,
    "delay_ps": unit_level_terms,
    "ice40_period_ns": unit_level_terms,
}
"""What is counted for each predicted quantity (LUT, CARRY4, NAND2 equivalents, fJ a cycle, ps, ns)."""

SHIPPED = "shipped"
"""The name of the calibration that comes with the package."""
SCHEMA, SCHEMA_VERSION = "qsim-calibration", 1
"""What a calibration file says of itself."""

KIN = {"pe_ws": "mac_int"}
"""Families that were never measured, and the family whose power law and interval they take."""

WIDTHS = ("n", "w", "a", "acc", "ew", "mw", "ea", "ma", "eo", "mo", "b", "k", "m", "ob", "terms")
VARIANTS = ("decode", "shift", "dyadic", "fp32acc")


COMMUTATIVE = ("mul_int", "mac_int", "pe_ws", "dot_int")
"""Families whose operands may change places."""


_widths = attrgetter(*WIDTHS)


def features(unit: Unit) -> Array:
    """log(1 + width) of every parameter, the narrower operand first, then 0 or 1 for every variant."""
    if unit.family in COMMUTATIVE and unit.w > unit.a:
        unit = replace(unit, w=unit.a, a=unit.w)
    widths = [log1p(width) for width in _widths(unit)]
    return np.array([*widths, *(float(name in (unit.impl, unit.out)) for name in VARIANTS)])


@dataclass(frozen=True)
class Family:
    """One family's correction, and the half-width of its 90 % interval as a log ratio."""

    offset: float = 0.0
    center: Array = field(default_factory=lambda: np.zeros(len(WIDTHS) + len(VARIANTS)))
    slopes: Array = field(default_factory=lambda: np.zeros(len(WIDTHS) + len(VARIANTS)))
    interval_log: float = 0.0


@dataclass(frozen=True)
class UnitModel:
    """A calibrated model of one quantity.

    largest_interval_log stands for families without measurements and without kin.
    """

    quantity: str
    constants: Mapping[str, float]
    families: Mapping[str, Family]
    largest_interval_log: float = 0.3

    def predict_one(self, unit: Unit) -> tuple[float, float, float]:
        """(estimate, low90, high90) of one unit."""
        terms = STRUCTURES[self.quantity](unit)
        structural = sum(amount * self.constants.get(name, 0.0) for name, amount in terms.items())
        family = self.families.get(KIN.get(unit.family, unit.family))
        if family is None:
            spread = exp(self.largest_interval_log)
            return structural, structural / spread, structural * spread
        power_law = family.offset + float(family.slopes @ (features(unit) - family.center))
        value = structural * exp(power_law)
        spread = exp(family.interval_log)
        return value, value / spread, value * spread

    def predict(self, units: Sequence[Unit]) -> Array:
        """[number of units, 3]: estimate, low90, high90; every different unit is computed once."""
        known: dict[Unit, tuple[float, float, float]] = {}
        for unit in units:
            if unit not in known:
                known[unit] = self.predict_one(unit)
        return np.array([known[unit] for unit in units], dtype=np.float64).reshape(len(units), 3)


def model_from_json(data: Mapping[str, Any]) -> UnitModel:
    """Read what calibrate.py wrote. Raises UserError on an unknown version."""
    if data.get("version") != 1:
        raise UserError(f"calibration version {data.get('version')!r} is not readable here; expected 1")
    families = {
        name: Family(
            offset=entry["offset"],
            center=np.array(entry["center"]),
            slopes=np.array(entry["slopes"]),
            interval_log=entry["interval_log"],
        )
        for name, entry in data["families"].items()
    }
    return UnitModel(data["quantity"], data["constants"], families, data["largest_interval_log"])


@lru_cache(maxsize=16)
def calibrated(quantity: str, calibration: str = SHIPPED) -> UnitModel:
    """The model of a quantity: the shipped one, or that of a calibration file, which may leave quantities out.

    Raises UserError if there is none.
    """
    if calibration != SHIPPED:
        models = read_calibration(Path(calibration))
        if quantity in models:
            return models[quantity]
    path = resources.files("hwmodels") / "calibration" / f"{quantity}.json"
    if not path.is_file():
        raise UserError(f"no calibration for {quantity!r}; known: {', '.join(STRUCTURES)}")
    return model_from_json(json.loads(path.read_text(encoding="utf-8")))


def read_calibration(path: Path) -> dict[str, UnitModel]:
    """The models of a file that qsim-calibrate wrote, by quantity. Raises UserError, one line, for anything else."""
    if not path.is_file():
        raise UserError(f"{path}: no such calibration file; qsim-calibrate writes one")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON: {error}") from None
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise UserError(
            f"{path}: no calibration: key schema is not {SCHEMA!r}; qsim-calibrate writes such files"
        )
    if content.get("version") != SCHEMA_VERSION:
        raise UserError(f"{path}: calibration schema {content.get('version')!r}, expected {SCHEMA_VERSION}")
    try:
        models = {str(name): model_from_json(model) for name, model in content["models"].items()}
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(f"{path}: a model in it is incomplete: {error!r}") from None
    unknown = set(models) - set(STRUCTURES)
    if unknown:
        raise UserError(
            f"{path}: unknown quantity {', '.join(sorted(unknown))}; known: {', '.join(STRUCTURES)}"
        )
    return models
