"""Which points of a front to measure: spread over its cost, then closing in on where the metric still accepts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np


def spread_indices(costs: Sequence[float], count: int) -> list[int]:
    """At most `count` indices, evenly spaced in the logarithm of the cost, both ends included."""
    if len(costs) <= count:
        return list(range(len(costs)))
    logarithms = np.log(np.maximum(costs, 1e-30))
    wanted = np.linspace(logarithms.min(), logarithms.max(), count)
    return sorted({int(np.abs(logarithms - value).argmin()) for value in wanted})


def next_index(accepted: Mapping[int, bool], count: int) -> int:
    """The point of a front of `count`, cheapest first, to measure next.

    Half-way between the cheapest accepted point and the next cheaper measured one; while all measured points are of
    one kind, ever longer steps towards the other kind. Where accepted and rejected are neighbours, the nearest
    unmeasured one below (measured curves are not monotone), failing that above.
    """
    stride = max(1, count // 16) << min(len(accepted), 16)
    upper = min((index for index, good in accepted.items() if good), default=count)
    lower = max((index for index in accepted if index < upper), default=-1)
    if upper - lower > 1:
        middle = (lower + upper) // 2
        if upper == count and lower >= 0:
            return max(min(lower + stride, count - 1), lower + 1)
        return max(middle, upper - stride) if lower < 0 and upper < count else middle
    unmeasured = [index for index in range(count) if index not in accepted]
    below = [index for index in unmeasured if index < upper]
    return max(below) if below else min(unmeasured)
