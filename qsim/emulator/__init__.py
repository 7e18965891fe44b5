"""The emulator: a plan on a network, layer by layer.

Loaded on first use: importers ask `qsim.emulator.operators` what is supported without needing the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qsim.emulator.emulate import Emulation, LayerTrace, emulate

__all__ = ["Emulation", "LayerTrace", "emulate"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'qsim.emulator' has no attribute '{name}'")
    import qsim.emulator.emulate as home

    for public in __all__:  # rebinds `emulate`, which importing the module of that name has just shadowed
        globals()[public] = getattr(home, public)
    return globals()[name]
