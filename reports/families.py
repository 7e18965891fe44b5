"""Families of formats side by side: the cheapest member of each that stays within some points of float32.

A family is what the `search` column names: uniform plans of a grid, or the plans of one search.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from reports.quantities import Quantity
from reports.results import float_value, is_searched, metric_of

LOSSES = (0.005, 0.01, 0.02, 0.04, 0.08)


def cheapest_members(table: pd.DataFrame, cost: Quantity, losses: Sequence[float] = LOSSES) -> pd.DataFrame:
    """A row for every allowed loss and family: the cheapest plan whose metric on the choosing half is within
    `loss` of float32's (in the metric's own unit, a fraction for accuracies).

    Columns: loss, family, label, cost, ratio (to the cheapest family of that loss), report_value,
    report_difference. A family without such a plan has no row. Equal costs: the better metric.
    """
    metric = metric_of(table)
    sign = 1.0 if metric.higher_is_better else -1.0
    rows = table[is_searched(table) & table[cost.name].notna()]
    lost = sign * (float_value(table, "choose") - rows["choose_value"])
    found = []
    for loss in losses:
        within = rows[lost <= loss + 1e-12].assign(merit=-sign * rows["choose_value"])
        best = within.sort_values([cost.name, "merit", "label"]).groupby("search", sort=True).first()
        for family, row in best.iterrows():
            found.append(
                {
                    "loss": loss,
                    "family": family,
                    "label": row["label"],
                    "cost": row[cost.name],
                    "ratio": row[cost.name] / best[cost.name].min(),
                    "report_value": row["report_value"],
                    "report_difference": row["report_value"] - float_value(table),
                }
            )
    columns = ["loss", "family", "label", "cost", "ratio", "report_value", "report_difference"]
    return pd.DataFrame(found, columns=columns).sort_values(["loss", "cost", "family"], ignore_index=True)


def family_sentences(
    table: pd.DataFrame, cost: Quantity, losses: Sequence[float] = LOSSES
) -> tuple[str, ...]:
    """What the table says about its families, a sentence for every loss; none where it holds a single one."""
    families = sorted(set(table.loc[is_searched(table), "search"]))
    if len(families) < 2:
        return ()
    metric = metric_of(table)
    members = cheapest_members(table, cost, losses)
    sentences = []
    for loss in losses:
        rows = members[members["loss"] == loss]
        parts = [
            f"{row['label']} {cost.text(row['cost'])} ({_ratio(row['ratio'])}, "
            f"{metric.difference_text(row['report_difference'])} on the other half)"
            for row in rows.to_dict("records")
        ]
        missing = [family for family in families if family not in set(rows["family"])]
        if missing:
            parts.append(f"no {', no '.join(missing)}")
        allowed = f"{100 * loss:g} points" if metric.unit == "%" else f"{loss:g}"
        sentences.append(f"Within {allowed} of float32: {'; '.join(parts)}.")
    return tuple(sentences)


def _ratio(ratio: float) -> str:
    return "cheapest" if ratio <= 1.0 else f"{ratio:.2f} x"
