"""Read a target from configs/hardware, from a YAML file or from a mapping."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import MISSING, fields
from importlib import resources
from pathlib import Path
from typing import Any

from hwmodels.kinds import KINDS
from hwmodels.target import Target
from hwmodels.units.model import SHIPPED, read_calibration
from qsim.errors import UserError


def known_targets() -> tuple[str, ...]:
    """Names of the hardware files that ship with the package."""
    folder = resources.files("configs") / "hardware"
    return tuple(sorted(entry.name[:-5] for entry in folder.iterdir() if entry.name.endswith(".yaml")))


def load_target(source: str | Path | Mapping[str, Any]) -> Target:
    """The target of a shipped name ("fpga_zcu104"), of a YAML file's path, or of a mapping with the same keys.

    Raises UserError, one line, for an unknown name, key, kind or a value of the wrong type.
    """
    if isinstance(source, Mapping):
        return _target(source, str(source.get("name", "hardware")))
    path = Path(source)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise UserError(f"{path}: no such hardware file")
        return _target(_read(path.read_text(encoding="utf-8"), str(path)), str(path))
    if source not in known_targets():
        near = difflib.get_close_matches(str(source), known_targets(), 1)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known_targets())}"
        raise UserError(f"unknown hardware {str(source)!r}; {hint}")
    entry = resources.files("configs") / "hardware" / f"{source}.yaml"
    return _target(_read(entry.read_text(encoding="utf-8"), f"{source}.yaml"), f"{source}.yaml")


def _read(text: str, where: str) -> Mapping[str, Any]:
    import yaml

    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"{where}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, Mapping):
        raise UserError(f"{where}: expected keys and values, got {type(content).__name__}")
    return content


def _target(content: Mapping[str, Any], where: str) -> Target:
    rest = dict(content)
    name, kind = rest.pop("name", None), rest.pop("kind", None)
    if not isinstance(name, str) or not name:
        raise UserError(f"{where}: key name is missing")
    if kind not in KINDS:
        raise UserError(f"{where}: kind must be one of {', '.join(KINDS)}, got {kind!r}")
    design = KINDS[kind].design
    known = {field.name: field for field in fields(design)}
    for key in rest:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
            raise UserError(f"{where}: unknown key {key!r}; {hint}")
    for key, field in known.items():
        if key not in rest and field.default is MISSING and field.default_factory is MISSING:
            raise UserError(f"{where}: key {key} is missing")
    values = {key: _checked(where, key, value, str(known[key].type)) for key, value in rest.items()}
    _check_choices(where, values)
    _check_calibration(where, values)
    return Target(name, kind, design(**values))


CHOICES = {"multipliers": ("lut", "dsp", "auto"), "dataflow": ("ws", "os", "is")}


def _check_choices(where: str, values: Mapping[str, Any]) -> None:
    for key, allowed in CHOICES.items():
        if key in values and values[key] not in allowed:
            raise UserError(f"{where}: {key} must be one of {', '.join(allowed)}, got {values[key]!r}")


def _check_calibration(where: str, values: Mapping[str, Any]) -> None:
    path = values.get("calibration", SHIPPED)
    if path != SHIPPED:
        try:
            read_calibration(Path(path))
        except UserError as error:
            raise UserError(f"{where}: calibration: {error}") from None


def _checked(where: str, key: str, value: Any, kind: str) -> Any:
    """A value of the dataclass field's type; numbers must be positive or zero."""
    if kind in ("float", "int"):
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not value >= 0
            or value == float("inf")
        ):
            raise UserError(f"{where}: {key} must be a finite number of at least 0, got {value!r}")
        if kind == "int" and int(value) != value:
            raise UserError(f"{where}: {key} must be a whole number, got {value!r}")
        if value == 0 and key not in ("static_power_w", "throughput_hz"):
            raise UserError(f"{where}: {key} must be above 0")
        return int(value) if kind == "int" else float(value)
    if kind == "bool":
        if not isinstance(value, bool):
            raise UserError(f"{where}: {key} must be true or false, got {value!r}")
        return value
    if kind.startswith("Mapping"):
        if not isinstance(value, Mapping):
            raise UserError(f"{where}: {key} must be a mapping, got {value!r}")
        return {str(k): _checked(where, f"{key}.{k}", v, "float") if v else 0.0 for k, v in value.items()}
    if not isinstance(value, str):
        raise UserError(f"{where}: {key} must be text, got {value!r}")
    return value
