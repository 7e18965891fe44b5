"""Which measure to believe: rank correlation of predicted with measured losses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qsim.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
DRAWS = 500


def rank_correlation(
    predicted: Mapping[str, ArrayLike], measured: ArrayLike, *, draws: int = DRAWS, seed: int = 0
) -> pd.DataFrame:
    """Spearman's rho and Kendall's tau-b of each predictor with what was measured, 95 % bootstrap over the points.

    predicted: {name: [points]}; measured: [points]. A row a predictor, the best rho first: measure, points, spearman,
    spearman_low95, spearman_high95, kendall, kendall_low95, kendall_high95. A predictor that is constant, or fewer
    than 3 points, has no rank: NaN. Raises UserError for another number of points or for values that are not finite.
    """
    import pandas as pd

    target = _points(measured, "the measured losses")
    rows = []
    for name, values in predicted.items():
        points = _points(values, f"predictor '{name}'")
        if len(points) != len(target):
            raise UserError(f"predictor '{name}' has {len(points)} points, {len(target)} were measured")
        row: dict[str, Any] = {"measure": name, "points": len(target)}
        for kind, statistic in (("spearman", spearman), ("kendall", kendall)):
            random = np.random.default_rng(seed)
            row[kind] = statistic(points, target)
            picks = random.integers(max(1, len(target)), size=(draws, len(target)))
            drawn = np.array([statistic(points[pick], target[pick]) for pick in picks])
            drawn = drawn[np.isfinite(drawn)]
            low, high = np.quantile(drawn, [0.025, 0.975]) if len(drawn) else (np.nan, np.nan)
            row |= {f"{kind}_low95": float(low), f"{kind}_high95": float(high)}
        rows.append(row)
    table = pd.DataFrame(rows)
    return table.sort_values("spearman", ascending=False, kind="stable", ignore_index=True)


def spearman(a: Floats, b: Floats) -> float:
    """Correlation of the ranks, ties sharing their mean rank; NaN where one of them is constant."""
    from scipy.stats import rankdata

    x, y = rankdata(a), rankdata(b)
    x, y = x - x.mean(), y - y.mean()
    size = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / size if len(a) > 2 and size > 0 else float("nan")


def kendall(a: Floats, b: Floats) -> float:
    """tau-b: pairs in the same order minus pairs in the other, ties taken out of the norm; NaN where constant."""
    first, second = np.sign(a[:, None] - a), np.sign(b[:, None] - b)
    size = float(np.sqrt((first**2).sum() * (second**2).sum()))
    return float((first * second).sum()) / size if len(a) > 2 and size > 0 else float("nan")


def _points(values: ArrayLike, what: str) -> Floats:
    points = np.asarray(values, np.float64).reshape(-1)
    if not np.isfinite(points).all():
        raise UserError(f"{what} are not all finite numbers")
    return points
