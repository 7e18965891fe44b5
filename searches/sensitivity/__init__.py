"""How much each group of layers minds each format, and which measure of that to believe.

`measure_sensitivities` scores every choice of every group alone, everything else in float32; `measure_pairs` what two
groups cost beyond the sum; `rank_correlation` compares a measure with what was measured. `MEASURES` lists the measures;
each is a file in `searches.sensitivity.measures`.
"""

from __future__ import annotations

from searches.sensitivity.correlation import rank_correlation
from searches.sensitivity.measure import by_group, measure_sensitivities, sensitivity_table
from searches.sensitivity.measures import MEASURES
from searches.sensitivity.pairs import count_pair_runs, joined_groups, measure_pairs
from searches.sensitivity.plans import scan_plans
from searches.sensitivity.scan import Scan, Score, Trial

__all__ = [
    "MEASURES",
    "Scan",
    "Score",
    "Trial",
    "by_group",
    "count_pair_runs",
    "joined_groups",
    "measure_pairs",
    "measure_sensitivities",
    "rank_correlation",
    "scan_plans",
    "sensitivity_table",
]
