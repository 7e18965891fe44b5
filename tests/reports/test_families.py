import numpy as np
import pandas as pd
import pytest

from reports.families import cheapest_members, family_sentences
from reports.quantities import cost_quantity
from reports.results import check_table

LUT = cost_quantity("lut")


def table_of(plans: list[tuple[str, str, float, float]]) -> pd.DataFrame:
    """(family, label, LUTs, accuracy on both halves) below a float32 network of 90 %."""
    rows = [("float", "float32", np.nan, 0.90), *plans]
    frame = pd.DataFrame(rows, columns=["search", "label", "lut", "choose_value"])
    return check_table(
        frame.assign(
            plan_id=[f"p{index}" for index in range(len(frame))],
            metric="top1",
            report_value=frame["choose_value"],
        )
    )


PLANS = [
    ("integer", "integer w8a8", 200.0, 0.90),
    ("integer", "integer w4a4", 100.0, 0.885),
    ("minifloat", "minifloat w8a8", 300.0, 0.895),
    ("minifloat", "minifloat w4a4", 80.0, 0.60),
]


def test_the_cheapest_member_within_the_loss_is_found_for_each_family() -> None:
    members = cheapest_members(table_of(PLANS), LUT, losses=(0.01, 0.02))
    found = {(row.loss, row.family): (row.label, row.ratio) for row in members.itertuples()}
    assert found == {
        (0.01, "integer"): ("integer w8a8", 1.0),
        (0.01, "minifloat"): ("minifloat w8a8", 1.5),
        (0.02, "integer"): ("integer w4a4", 1.0),
        (0.02, "minifloat"): ("minifloat w8a8", 3.0),
    }


def test_a_family_that_never_gets_there_is_said_to_be_missing() -> None:
    (sentence,) = family_sentences(table_of(PLANS[:2] + PLANS[3:]), LUT, losses=(0.02,))
    assert sentence.startswith(
        "Within 2 points of float32: integer w4a4 100 (cheapest, -1.5 on the other half)"
    )
    assert sentence.endswith("no minifloat.")


def test_a_lower_metric_may_be_the_better_one() -> None:
    table = table_of([("a", "a1", 10.0, 0.95), ("b", "b1", 5.0, 1.2)]).assign(metric="perplexity")
    members = cheapest_members(table, LUT, losses=(0.06,))
    assert list(members["family"]) == ["a"]


@pytest.mark.parametrize("plans", [PLANS[:2], []])
def test_one_family_has_nothing_to_be_compared_with(plans: list[tuple[str, str, float, float]]) -> None:
    assert family_sentences(table_of(plans), LUT) == ()
