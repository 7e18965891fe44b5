"""Numbers for people: units from column names, SI prefixes, three significant digits."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.quantities import cost_quantity, metric_quantity

PREFIX = {
    "T": 1e12,
    "G": 1e9,
    "M": 1e6,
    "k": 1e3,
    "": 1.0,
    "m": 1e-3,
    "µ": 1e-6,
    "n": 1e-9,
    "p": 1e-12,
    "f": 1e-15,
}


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("latency_s", 4.2e-6, "4.20 µs"),
        ("latency_s", 0.5, "500 ms"),
        ("latency_s", 12.0, "12.0 s"),
        ("energy_j", 1.234e-9, "1.23 nJ"),
        ("energy_j", 0.99996e-6, "1.00 µJ"),
        ("energy_dram_j", 3e-14, "30.0 fJ"),
        ("lut", 12345.0, "12.3 k"),
        ("lut", 7.0, "7"),
        ("dsp", 0.0, "0"),
        ("weight_bytes", 10218.0, "10.2 kB"),
        ("weight_bytes", 512.0, "512 B"),
        ("fmax_hz", 3.0e8, "300 MHz"),
        ("area_um2", 1234.0, "1234 µm²"),
        ("area_um2", 45_300.0, "0.05 mm²"),
        ("area_nand2", 45_300.0, "45.3 kGE"),
        ("bops", 5.5e11, "550 G"),
        ("latency_s", math.nan, "-"),
        ("latency_s", math.inf, "inf"),
    ],
)
def test_costs(name: str, value: float, text: str) -> None:
    assert cost_quantity(name).text(value) == text


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("top1", 0.985, "98.5 %"),
        ("agreement", 1.0, "100.0 %"),
        ("perplexity", 3.608, "3.608"),
        ("perplexity", 25_320.0, "2.532e+04"),
        ("auc", 0.8721, "0.8721"),
        ("sqnr", 31.25, "31.2 dB"),
        ("sqnr", math.inf, "inf"),
        ("my_score", 1.5, "1.50"),
        ("top1", math.nan, "-"),
    ],
)
def test_metrics(name: str, value: float, text: str) -> None:
    assert metric_quantity(name).text(value) == text


def test_differences_are_signed_and_accuracies_in_points() -> None:
    assert metric_quantity("top1").difference_text(-0.0123) == "-1.2"
    assert metric_quantity("top1").difference_text(0.004) == "+0.4"
    assert metric_quantity("perplexity").difference_text(0.5) == "+0.5"
    assert metric_quantity("perplexity").difference_text(math.nan) == "-"


def test_unknown_costs_keep_their_name_and_unit() -> None:
    assert cost_quantity("noc_energy_j").label == "Noc energy"
    assert cost_quantity("noc_energy_j").unit == "J"
    assert cost_quantity("tiles").label == "Tiles"
    assert cost_quantity("tiles").unit == ""


def test_perplexity_is_better_when_lower_and_a_users_metric_when_higher() -> None:
    assert not metric_quantity("perplexity").higher_is_better
    assert metric_quantity("my_score").higher_is_better


@given(st.floats(1e-14, 1e14))
def test_a_text_is_within_half_a_percent_of_its_number(value: float) -> None:
    match = re.fullmatch(r"([\d.]+) (\D?)J", cost_quantity("energy_j").text(value))
    assert match is not None
    assert float(match[1]) * PREFIX[match[2]] == pytest.approx(value, rel=0.0051)
