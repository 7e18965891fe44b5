"""Measured plans correct the additive model: the sensitivities under which the plans' measured losses add up best.

One-at-a-time sensitivities miss what errors do to each other, so a plan made of them is measured as a whole and the
model is fitted to what was measured, between solves. The fit is a ridge regression (Hoerl and Kennard 1970) towards
the sensitivities themselves, which keeps options that no measured plan holds where they were, and non-negative
(Lawson and Hanson 1974).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from qsim.errors import UserError

Array = NDArray[Any]
PRIOR = 1.0  # standard deviation of a sensitivity's error, as a share of it
NOISE = 0.1  # of a measured loss that the additive model cannot explain, as a share of it
ADDITIVE_LIMIT = 1.0  # losses (nats of KL, noise / signal) beyond which errors no longer add up


def corrected(
    sensitivities: Sequence[Array],
    plans: Sequence[Sequence[int]],
    losses: Sequence[float],
    *,
    prior: float = PRIOR,
    noise: float = NOISE,
    limit: float = ADDITIVE_LIMIT,
) -> list[Array]:
    """Sensitivities [group][choice] corrected by whole plans: `plans[i]` is a choice index a group, `losses[i]` what
    was measured of it, in the units of the sensitivities. Losses beyond `limit` (collapsed networks) are left out.

    Minimises sum_i ((sum_g t[g, c_ig] - a_i) / (noise a_i))^2 + sum ((t - k s) / (prior k s))^2 over t >= 0, where
    k is the median ratio of measured to added-up losses. Raises UserError for a loss that is no finite number >= 0.
    """
    if len(plans) != len(losses) or not all(np.isfinite(loss) and loss >= 0 for loss in losses):
        raise UserError("a correction needs one finite loss of 0 or more for each plan")
    start = np.cumsum([0, *(len(values) for values in sensitivities)])
    flat = np.concatenate([np.asarray(values, np.float64) for values in sensitivities])
    rows = [start[:-1] + np.asarray(choices) for choices in plans]
    added = [float(flat[row].sum()) for row in rows]
    used = [i for i, loss in enumerate(losses) if 0 < loss <= limit and added[i] > 0]
    if not used:
        return [np.array(values, np.float64) for values in sensitivities]
    ratio = float(np.median([losses[i] / added[i] for i in used]))
    expected = ratio * flat
    deviation = prior * np.maximum(expected, 1e-3 * min(losses[i] for i in used) / len(sensitivities))
    system = np.zeros((len(used) + len(flat), len(flat)))
    target = np.zeros(len(system))
    for place, i in enumerate(used):
        system[place, rows[i]] = 1.0 / (noise * losses[i])
        target[place] = 1.0 / noise
    system[len(used) :][np.diag_indices(len(flat))] = 1.0 / deviation
    target[len(used) :] = expected / deviation
    # In units of each deviation, so that the solver sees numbers of one size.
    fitted = nnls(system * deviation, target, maxiter=30 * len(flat))[0] * deviation
    return np.split(fitted, start[1:-1])
