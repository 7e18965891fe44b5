"""The other way to fold: not to a given rate with the least resources, but to the best rate a device has room for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from hwmodels.fpga.device import Fpga
from qsim.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

    from hwmodels.target import Specs, Target
    from qsim.graph import Layer

USABLE = 0.8
"""Share of each resource that a placed design can take before routing and timing suffer (AMD UG949 recommends at most
70 to 80 %; recalled)."""
SEARCH_STEPS = 24
"""Bisections of the rate's logarithm between 1 Hz and the clock: a factor below 1.00001 remains."""


def fits(totals: pd.Series, fpga: Fpga, usable: float = USABLE) -> bool:
    """Whether a design's totals leave room on the device, by estimate (not by the upper end of the interval)."""
    return all(totals.get(name, 0.0) <= usable * room for name, room in fpga.resources.items())


def fastest_within_device(
    target: Target,
    layers: Sequence[Layer],
    weights: Specs,
    inputs: Specs,
    outputs: Specs,
    accumulators: Specs,
    usable: float = USABLE,
) -> Target:
    """The streaming target whose throughput_hz is the highest that still fits `usable` of every resource.

    Raises UserError for another kind of target, and where even one sample a second does not fit.
    """
    if target.kind != "fpga_streaming":
        raise UserError(f"{target.name}: only a fpga_streaming target is folded to a rate, not {target.kind}")

    def attempt(rate: float) -> Target | None:
        candidate = replace(target, design=replace(target.design, throughput_hz=rate))
        costs = candidate.layer_costs(layers, weights, inputs, outputs, accumulators)
        return candidate if fits(candidate.total(costs), candidate.design, usable) else None

    best = attempt(1.0)
    if best is None:
        raise UserError(
            f"{target.name}: the network does not fit {target.design.device} even at 1 sample a second"
        )
    low, high = 1.0, float(target.design.clock_hz)
    for _ in range(SEARCH_STEPS):
        middle = (low * high) ** 0.5
        candidate = attempt(middle)
        if candidate is None:
            high = middle
        else:
            best, low = candidate, middle
    return best
