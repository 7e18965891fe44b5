"""The costs that a search adds up are those of the plan that is built."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qsim.errors import UserError
from searches import option_costs
from searches.schedule import PEAK
from tests.searches.jobs import parts_of, random_choices, small_job


@pytest.mark.parametrize(
    "target, cost", [("fpga_zcu104", "lut"), ("asic_45nm", "energy_j"), ("asic_45nm", "area_um2"),
                     ("asic_45nm", "latency_s"), ("fpga_zcu104_array", "lut"), ("fpga_zcu104", "weight_bytes"),
                     ("mcu_cortex_m4", PEAK), ("fpga_zcu104", "latency_s")],
)  # fmt: skip
def test_with_conversions_a_selection_costs_what_its_plan_costs(
    tmp_path: Path, target: str, cost: str
) -> None:
    ledger, groups = small_job(tmp_path, target)
    costs = option_costs.price(ledger, groups, conversions=True)
    sensitivities = [np.zeros(len(group.choices)) for group in groups]
    problem = costs.problem(groups, sensitivities, cost, {})
    for seed in range(4):
        choices = random_choices(groups, seed)
        row = ledger.record(parts_of(groups, choices), "test")
        added = problem.values(problem.evaluate(choices))[cost]
        # A maximum takes each layer's own output format: what a neighbour changes of it is not in the model.
        tolerance = 0.05 if costs.rules.get(cost) == "max" else 1e-6
        assert added == pytest.approx(row[cost], rel=tolerance)


def test_a_cost_that_does_not_combine_is_refused(tmp_path: Path) -> None:
    ledger, groups = small_job(tmp_path)
    costs = option_costs.price(ledger, groups)
    assert costs.rules["lut"] == "sum" and costs.rules["sram_bytes"] == "max"
    with pytest.raises(UserError, match="'fmax_hz' is no cost that a search on fpga_zcu104 can trade"):
        costs.check(["fmax_hz"], "fpga_zcu104")


def test_a_shared_array_takes_its_largest_layer(tmp_path: Path) -> None:
    ledger, groups = small_job(tmp_path, "fpga_zcu104_array")
    assert option_costs.price(ledger, groups).rules["lut"] == "max"
