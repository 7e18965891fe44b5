"""What a config lists, as objects: names with options become the frozen dataclasses of a registry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from qsim.errors import UserError


def make_entries(entries: Sequence[Any], registry: Mapping[str, type[Any]], key: str) -> tuple[Any, ...]:
    """Objects from a config list: names, {name: {option: value}}, or the objects themselves.

    key: where the list stands in the config, for UserError, which names the entry that is wrong.
    """
    made = []
    for entry in entries:
        if is_dataclass(entry):
            made.append(entry)
            continue
        named = {entry: {}} if isinstance(entry, str) else dict(entry)
        name, options = next(iter(named.items()), ("", {}))
        if len(named) != 1 or name not in registry:
            raise UserError(f"{key}: '{name}' is unknown; there are {', '.join(registry)}")
        known = [field.name for field in fields(registry[name])]
        unknown = sorted(set(options or {}) - set(known))
        if unknown:
            raise UserError(
                f"{key}: {name} has no option '{unknown[0]}'; it has {', '.join(known) or 'none'}"
            )
        made.append(registry[name](**(options or {})))
    return tuple(made)
