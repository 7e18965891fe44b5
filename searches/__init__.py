"""The choice: which number system for which layer, under which budgets.

`Problem` states it, the solvers (`searches.ilp`, `searches.front`, ...) answer it, `searches.store` remembers
what was measured. Names are loaded on first use, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME = {
    "Option": "searches.problem",
    "Group": "searches.problem",
    "Column": "searches.problem",
    "Peak": "searches.problem",
    "Pairwise": "searches.problem",
    "Problem": "searches.problem",
    "Selection": "searches.problem",
    "SearchResult": "searches.problem",
    "LayerPair": "searches.build",
    "from_tables": "searches.build",
    "problem_from_layers": "searches.build",
    "Store": "searches.store",
}
__all__ = [*_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'searches' has no attribute '{name}'")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
