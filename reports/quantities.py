"""What a column of a result table measures, in which unit, and how a person wants to read it.

Cost columns carry their unit in their name (`latency_s`, `energy_j`, `weight_bytes`); metrics are known by
their name.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n"))
PREFIXES_BELOW = ((1e-12, "p"), (1e-15, "f"))
NONE = "-"  # how a missing number is shown


@dataclass(frozen=True)
class Quantity:
    """One measured thing: `unit` takes SI prefixes; a percentage is held as a fraction."""

    name: str
    label: str
    unit: str = ""
    higher_is_better: bool = False

    def text(self, value: float) -> str:
        """A number for a table: three significant digits and a prefix; percentages with one decimal."""
        if math.isnan(value):
            return NONE
        if self.unit == "%":
            return f"{100 * value:.1f} %"
        if math.isinf(value):
            return "inf" if value > 0 else "-inf"
        factor, unit = self.scale([value])
        shown = value / factor
        if self.unit == "" and self.name in METRICS:
            return f"{shown:.4g}"
        if self.unit in ("", "B") and factor == 1 and shown == int(shown):
            return f"{shown:.0f} {unit}".rstrip()  # three DSP blocks, not 3.00
        return f"{_three_digits(shown)} {unit}".rstrip()

    def difference_text(self, value: float) -> str:
        """A signed difference; of percentages in points."""
        if math.isnan(value):
            return NONE
        if self.unit == "%":
            return f"{100 * value:+.1f}"
        return f"{value:+.3g}"

    def scale(self, values: Iterable[float]) -> tuple[float, str]:
        """(factor, unit) such that value / factor is a readable number for the largest of the values."""
        largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
        if self.unit == "%":
            return 0.01, "%"
        if self.name in METRICS or self.unit == "dB":
            return 1.0, self.unit
        if self.unit == "µm²":  # a squared unit takes no prefix: square millimetres instead
            return (1e6, "mm²") if largest >= 1e4 else (1.0, "µm²")
        if self.unit in ("", "B", "GE"):
            candidates: tuple[tuple[float, str], ...] = PREFIXES[
                :5
            ]  # counts and bytes have no small fractions
        else:
            candidates = PREFIXES + PREFIXES_BELOW
        for factor, prefix in candidates:
            if largest >= factor * 0.9995:
                return factor, f"{prefix}{self.unit}"
        return (
            (1.0, self.unit) if largest == 0 or len(candidates) == 5 else (candidates[-1][0], f"f{self.unit}")
        )

    @property
    def short_label(self) -> str:
        """The label as a column header."""
        return self.label.removesuffix(" per inference").removesuffix(" per second")

    def axis_label(self, unit: str) -> str:
        """Text of a plot axis whose numbers are in `unit`."""
        unit = {"k": "thousands", "M": "millions", "G": "billions"}.get(unit, unit)
        return f"{self.label} ({unit})" if unit else self.label


METRICS = {
    quantity.name: quantity
    for quantity in (
        Quantity("top1", "Top-1 accuracy", "%", True),
        Quantity("agreement", "Agreement with float32", "%", True),
        Quantity("perplexity", "Perplexity"),
        Quantity("auc", "Area under ROC curve", higher_is_better=True),
        Quantity("reconstruction_auc", "Area under ROC curve", higher_is_better=True),
        Quantity("sqnr", "SQNR", "dB", True),
    )
}

_LABELS = {
    "lut": "LUTs",
    "ff": "Flip-flops",
    "carry": "Carry chains",
    "dsp": "DSP blocks",
    "bram18k": "Block RAMs (18 kbit)",
    "uram": "UltraRAMs",
    "cycles": "Cycles per inference",
    "fmax_hz": "Clock",
    "latency_s": "Latency per inference",
    "throughput_hz": "Inferences per second",
    "power_w": "Power",
    "energy_j": "Energy per inference",
    "energy_compute_j": "Compute energy",
    "energy_sram_j": "SRAM energy",
    "energy_dram_j": "DRAM energy",
    "area_um2": "Area",
    "area_nand2": "Area",
    "sram_bytes": "SRAM",
    "dram_bytes": "DRAM",
    "flash_bytes": "Flash",
    "weight_bytes": "Weight memory",
    "macs": "Multiply-accumulates",
    "bops": "Bit operations",
}
_UNITS = {"hz": "Hz", "s": "s", "w": "W", "j": "J", "um2": "µm²", "nand2": "GE", "bytes": "B"}
_HIGHER_IS_BETTER = {"throughput_hz", "fmax_hz"}


def cost_quantity(name: str) -> Quantity:
    """The quantity of a cost column, read off its name's last word."""
    stem, _, suffix = name.rpartition("_")
    unit = _UNITS.get(suffix, "") if stem else ""
    label = _LABELS.get(name) or (stem if unit else name).replace("_", " ").capitalize()
    return Quantity(name, label, unit, name in _HIGHER_IS_BETTER)


def metric_quantity(name: str) -> Quantity:
    """The quantity of a metric; a user's own metric has no unit and counts as better when higher."""
    return METRICS.get(name) or Quantity(name, name, higher_is_better=True)


def _three_digits(value: float) -> str:
    size = abs(value)
    if size >= 100:
        return f"{value:.0f}"
    if size >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}"
