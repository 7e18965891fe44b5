"""The unit models on circuits whose widths they have not seen, and what their calibration files say about it."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from hwmodels.fitting import (
    SOURCES,
    Samples,
    Source,
    coverage,
    cross_validate,
    error_table,
    fit,
    read_samples,
)
from hwmodels.calibrate import describe
from hwmodels.units.model import STRUCTURES, Array, calibrated
from qsim.errors import UserError

BARS = {"lut": 5.0, "area_nand2": 8.0, "energy_fj": 9.0, "delay_ps": 10.0}
"""Mean absolute error in per cent on held-out widths (issue 5 and ../shared/research/hardware.md, section 3)."""
LUT_FAMILY_BAR = 15.0
BY_QUANTITY = {source.quantity: source for source in SOURCES}


@cache
def held_out(folder: Path, quantity: str) -> tuple[Samples, Array]:
    """Samples of a quantity and their predictions by models that have not seen their widths."""
    samples = read_samples(folder / "golden" / "hw", BY_QUANTITY[quantity])
    return samples, cross_validate(samples, BY_QUANTITY[quantity])


@pytest.mark.parametrize("quantity", BARS)
def test_held_out_widths_stay_within_the_bar(shared: Path, quantity: str) -> None:
    samples, predictions = held_out(shared, quantity)
    table = error_table(samples, predictions)
    lines = [f"{name:16s} {row['units']:4.0f} {row['mape_percent']:6.2f} %" for name, row in table.items()]
    print(f"\n{quantity}, held-out widths\n" + "\n".join(lines))
    assert table["all"]["mape_percent"] <= BARS[quantity]
    if quantity == "lut":
        worst = max((row["mape_percent"], name) for name, row in table.items())
        assert worst[0] <= LUT_FAMILY_BAR, worst


@pytest.mark.parametrize("quantity", BARS)
def test_ninety_per_cent_intervals_hold_ninety_per_cent(shared: Path, quantity: str) -> None:
    assert 0.85 <= coverage(*held_out(shared, quantity)) <= 0.95


@pytest.mark.parametrize("quantity", STRUCTURES)
def test_shipped_calibration_is_the_fit_to_the_golden_files(shared: Path, quantity: str) -> None:
    shipped = json.loads((resources.files("hwmodels") / "calibration" / f"{quantity}.json").read_text())
    folder = shared / "golden" / "hw"
    fresh = fit(read_samples(folder, BY_QUANTITY[quantity]), BY_QUANTITY[quantity])
    data = (folder / shipped["data"]).read_bytes()
    assert shipped["data_sha256"] == hashlib.sha256(data).hexdigest()
    assert shipped["constants"] == pytest.approx(dict(fresh.constants), rel=1e-6, abs=1e-9)


@pytest.mark.slow
def test_the_whole_calibration_can_be_repeated(shared: Path) -> None:
    shipped = json.loads((resources.files("hwmodels") / "calibration" / "lut.json").read_text())
    fresh = json.loads(json.dumps(describe(shared / "golden" / "hw", BY_QUANTITY["lut"])))
    for name in ("cv_mape_percent", "fit_mape_percent", "cv_coverage_of_90_percent_interval"):
        assert shipped[name] == pytest.approx(fresh[name], abs=0.01)


def test_integer_circuits_are_counted_exactly(shared: Path) -> None:
    """Products, dot products, adder trees: arithmetic rows, whose LUTs structure alone gives."""
    samples = read_samples(shared / "golden" / "hw", BY_QUANTITY["lut"])
    exact = ("mul_int", "mul_int_su", "mac_int", "dot_int", "dot_xnor", "addtree", "bitserial")
    integers = samples.subset(np.isin(samples.families, exact))
    predicted = calibrated("lut").predict(integers.units)[:, 0]
    assert np.array_equal(np.rint(predicted), integers.values)


def test_the_fit_ignores_the_order_of_rows(shared: Path) -> None:
    source = BY_QUANTITY["lut"]
    samples = read_samples(shared / "golden" / "hw", source)
    order = np.random.default_rng(0).permutation(len(samples.values))
    shuffled = type(samples)(tuple(samples.units[i] for i in order), samples.values[order])
    assert fit(shuffled, source).constants == pytest.approx(
        dict(fit(samples, source).constants), rel=1e-5, abs=1e-6
    )


def test_a_folder_without_results_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"fpga_xilinx_yosys\.csv"):
        read_samples(tmp_path, BY_QUANTITY["lut"])
    (tmp_path / "asic_nangate45.csv").write_text("family,id\nmul_int,x\n")
    with pytest.raises(UserError, match="area_nand2 is missing"):
        read_samples(tmp_path, BY_QUANTITY["area_nand2"])
    (tmp_path / "x.csv").write_text("family,id,w,a,y\nmul_int,bad,four,4,3\n")
    with pytest.raises(UserError, match="unit bad: column w must be a whole number"):
        read_samples(tmp_path, Source("lut", "x.csv", "y", "LUT", "none"))
