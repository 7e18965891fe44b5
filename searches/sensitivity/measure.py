"""The scan: one group quantized at a time, everything else in float32, each choice scored by one measure or several.

The additive model sums these over the groups. It ranks candidates; what a report says is measured on the whole plan.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import qsim
from qsim.errors import UserError
from searches.sensitivity.measures import MEASURES
from searches.sensitivity.scan import MakePlan, Parts, Scan, Score, Trial

if TYPE_CHECKING:
    import pandas as pd

    from qsim.plan import BitPlan
    from searches.candidates import Candidates
    from searches.evaluate import Evaluator
    from searches.sensitivity.measures import Measure

Array = NDArray[Any]
Track = Callable[[Iterable[Any]], Iterable[Any]]
# A choice whose outputs are not finite scores this many times the worst finite one: out of reach, but a number.
DEAD = 100.0


def measure_sensitivities(
    groups: Sequence[Candidates],
    make_plan: MakePlan,
    evaluator: Evaluator,
    samples: Array,
    measure: str,
    track: Track = lambda trials: trials,
    *,
    parts: Parts = "both",
    seed: int = 0,
    base: BitPlan | None = None,
) -> list[Array]:
    """One array a group, one value a choice: `measure` (a name of MEASURES) on the evaluation samples `samples`
    (from the choosing half). Larger is worse, 0 unharmed.

    make_plan: builds a plan from (group, choice) pairs, with the rounding that ships. track: wraps the loop over
    choices (a progress bar). parts: "weights" or "activations" leave the others in float32. seed: of measures
    that draw. base: a plan that all other groups keep instead of float32; make_plan must build it in.
    A choice that makes outputs which are not finite scores 100 times the worst finite one.
    """
    scan = Scan(groups, make_plan, evaluator, np.asarray(samples), parts, seed, base)
    return [np.array([score.value for score in row]) for row in scan_scores(scan, [measure], track)[measure]]


def sensitivity_table(
    groups: Sequence[Candidates],
    make_plan: MakePlan,
    evaluator: Evaluator,
    samples: Array,
    measures: Sequence[str],
    track: Track = lambda trials: trials,
    *,
    parts: Parts = "both",
    seed: int = 0,
) -> pd.DataFrame:
    """A row a (group, format), a column a measure, and <measure>_standard_error where it draws at random."""
    import pandas as pd

    scan = Scan(groups, make_plan, evaluator, np.asarray(samples), parts, seed)
    scores = scan_scores(scan, measures, track)
    rows = []
    for g, group in enumerate(groups):
        for c, choice in enumerate(group.choices):
            row: dict[str, Any] = {"group": group.name, "format": choice.label}
            for name in scores:
                score = scores[name][g][c]
                row[name] = score.value
                if score.standard_error is not None:
                    row[f"{name}_standard_error"] = score.standard_error
            rows.append(row)
    return pd.DataFrame(rows)


def by_group(table: pd.DataFrame, groups: Sequence[Candidates], measure: str) -> list[Array]:
    """A column of `sensitivity_table` as `measure_sensitivities` gives it: one array a group."""
    ends = np.cumsum([len(group.choices) for group in groups])
    return np.split(table[measure].to_numpy(np.float64), ends[:-1])


def scan_scores(
    scan: Scan, measures: Sequence[str], track: Track = lambda trials: trials
) -> dict[str, list[list[Score]]]:
    """{measure: [group][choice]} in one pass over the trials; what the store holds is not measured again."""
    prepared = {name: _Prepared(_measure(name), scan) for name in dict.fromkeys(measures)}
    scores: dict[str, list[list[Score]]] = {name: [[] for _ in scan.groups] for name in prepared}
    for trial in track(list(scan.trials())):
        for name, measure in prepared.items():
            scores[name][trial.takes[0][0]].append(measure.score(trial))
        trial.forget()
    return {name: _finite(rows) for name, rows in scores.items()}


def score_of(scan: Scan, measure: str) -> Callable[[Trial], Score]:
    """What scores trials of `scan` by a measure, through the store."""
    return _Prepared(_measure(measure), scan).score


class _Prepared:
    """A measure on its way through a scan: prepared once, when the first answer is missing in the store."""

    def __init__(self, measure: Measure, scan: Scan) -> None:
        self._measure, self._scan = measure, scan
        self._known: dict[str, Score] = {}

    @cached_property
    def _function(self) -> Callable[[Trial], Score]:
        return self._measure.prepare(self._scan)

    def score(self, trial: Trial) -> Score:
        if trial.plan.id not in self._known:  # choices that differ in a part left in float32 are one plan
            self._known[trial.plan.id] = self._measured(trial)
        return self._known[trial.plan.id]

    def _measured(self, trial: Trial) -> Score:
        store = self._scan.evaluator.store
        if store is None:
            return self._function(trial)
        found = store.measure(self._key(trial), lambda: self._function(trial)._asdict())
        return Score(found["value"], found["standard_error"])

    def _key(self, trial: Trial) -> dict[str, Any]:
        scan = self._scan
        drawn = [] if self._measure.runs_network else [scan.seed, *(group.name for group in scan.groups)]
        return {
            "kind": "sensitivity",
            "model": scan.graph.hash,
            "data": scan.evaluator.dataset.hash,
            "plan": trial.plan.id,
            "base": None if scan.base is None else scan.base.id,
            "measure": self._measure.name,
            "metric": scan.evaluator.metric.name,
            "drawn": drawn,  # random draws depend on the seed, and on the tensors that are drawn for
            "samples": scan.samples.tolist(),
            "arithmetic": scan.evaluator.arithmetic,
            "qsim_version": qsim.__version__,
        }


def _measure(name: str) -> Measure:
    if name not in MEASURES:
        raise UserError(f"sensitivity.measure '{name}' is unknown; there are {', '.join(MEASURES)}")
    return MEASURES[name]


def _finite(rows: list[list[Score]]) -> list[list[Score]]:
    values = [abs(score.value) for row in rows for score in row if np.isfinite(score.value)]
    dead = Score(DEAD * max(values, default=1.0) or DEAD)
    return [[score if np.isfinite(score.value) else dead for score in row] for row in rows]
