"""Pairwise sensitivities: what two groups cost together beyond what each costs alone.

CLADO (Deng et al., arXiv 2307.05657) adds cross-layer terms to the additive model, each measured with two layers
quantized at once: L(i, j) - L(i) - L(j). "fisher_output" has them for nothing: to second order the term is the
product of what the two errors do to the output, E (J' u . e_i)(J' u . e_j), which one scan of single groups yields.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from qsim.errors import UserError
from searches.build import LayerPair
from searches.sensitivity.measure import Track, scan_scores, score_of
from searches.sensitivity.measures import MEASURES
from searches.sensitivity.measures.fisher_output import responses
from searches.sensitivity.scan import MakePlan, Parts, Scan, Trial

if TYPE_CHECKING:
    from qsim.graph import Graph
    from searches.candidates import Candidates
    from searches.evaluate import Evaluator

Array = NDArray[Any]
PairChoice = str | Iterable[tuple[int, int]]
AFFORDABLE_RUNS = 2000  # "auto" takes all pairs up to this many runs of the network


def measure_pairs(
    groups: Sequence[Candidates],
    make_plan: MakePlan,
    evaluator: Evaluator,
    samples: Array,
    measure: str = "fisher_output",
    pairs: PairChoice = "auto",
    track: Track = lambda trials: trials,
    *,
    singles: Sequence[Array] | None = None,
    column: str = "sensitivity",
    parts: Parts = "both",
    seed: int = 0,
) -> list[LayerPair]:
    """Pairwise terms for `problem_from_layers(pairwise=...)`: `values[choice of first, choice of second]`, to be added
    to the `measure` of the two groups alone, in the same unit.

    measure: "fisher_output" (no further runs: the cost of its scan of single groups), or one that runs the network
    (kl, noise, mse, loss), which then runs once for each pair of choices: `count_pair_runs`, from the earlier of the
    two groups on. pairs: "all"; "adjacent" (groups with no other layer on some way between them); "auto" (all
    where they are free or few, else adjacent); or index pairs. singles: what measure_sensitivities gave, else it is
    measured here. Raises UserError for a measure without pairs.
    """
    scan = Scan(groups, make_plan, evaluator, np.asarray(samples), parts, seed)
    free = measure == "fisher_output"
    if not free and not (measure in MEASURES and MEASURES[measure].runs_network):
        able = ["fisher_output", *(name for name, known in MEASURES.items() if known.runs_network)]
        raise UserError(f"'{measure}' has no pairwise terms; there are {', '.join(able)}")
    chosen = _pairs(scan, pairs, free)
    if free:
        return _from_responses(scan, chosen, column, track)
    alone = singles
    if alone is None:
        alone = [np.array([s.value for s in row]) for row in scan_scores(scan, [measure])[measure]]
    terms = {(i, j): np.zeros((len(groups[i].choices), len(groups[j].choices))) for i, j in chosen}
    cells = [(i, j, a, b) for (i, j), term in terms.items() for a, b in np.ndindex(*term.shape)]
    score = score_of(scan, measure)
    for i, j, a, b in track(cells):
        together = score(Trial(scan, ((i, a), (j, b)))).value
        terms[i, j][a, b] = together - alone[i][a] - alone[j][b] if np.isfinite(together) else 0.0
    return [LayerPair(i, j, column, term) for (i, j), term in terms.items()]


def count_pair_runs(groups: Sequence[Candidates], pairs: Iterable[tuple[int, int]]) -> int:
    """Runs of the network that measured pairs take."""
    return sum(len(groups[i].choices) * len(groups[j].choices) for i, j in pairs)


def joined_groups(graph: Graph, groups: Sequence[Candidates]) -> list[tuple[int, int]]:
    """Pairs of groups with a way through the network between them that meets no other group's layer, in order."""
    home = {layer.node: g for g, group in enumerate(groups) for layer in group.layers}
    reach: dict[str, set[int]] = {}  # the groups whose layers were last on the ways to each tensor
    found: set[tuple[int, int]] = set()
    for node in graph.nodes:
        before = set().union(*(reach.get(name, set()) for name in node.inputs if name))
        if node.name in home:
            own = home[node.name]
            found.update((min(own, g), max(own, g)) for g in before if g != own)
            before = {own}
        reach.update(dict.fromkeys(node.outputs, before))
    return sorted(found)


def _pairs(scan: Scan, pairs: PairChoice, free: bool) -> list[tuple[int, int]]:
    count = len(scan.groups)
    if not isinstance(pairs, str):
        chosen = sorted({(min(pair), max(pair)) for pair in pairs})
        if any(i == j or not 0 <= i < j < count for i, j in chosen):
            raise UserError(f"pairs join two of the {count} groups, by index: {chosen}")
        return chosen
    every = list(combinations(range(count), 2))
    if pairs == "all" or (
        pairs == "auto" and (free or count_pair_runs(scan.groups, every) <= AFFORDABLE_RUNS)
    ):
        return every
    if pairs not in ("auto", "adjacent"):
        raise UserError(f"pairs is '{pairs}'; it can be auto, adjacent, all or index pairs")
    return joined_groups(scan.graph, scan.groups)


def _from_responses(
    scan: Scan, pairs: Sequence[tuple[int, int]], column: str, track: Track
) -> list[LayerPair]:
    respond = responses(scan)
    rows: list[list[list[Array]]] = [[] for _ in scan.groups]
    for trial in track(list(scan.trials())):
        rows[trial.takes[0][0]].append(respond(trial))
        trial.forget()
    matrices = [np.array([_aligned(row, rows) for row in group]) for group in rows]
    return [LayerPair(i, j, column, matrices[i] @ matrices[j].T) for i, j in pairs]


def _aligned(row: Sequence[Array], rows: Sequence[Sequence[Sequence[Array]]]) -> Array:
    """One trial's responses as a vector that any other's can be multiplied with.

    Sums over the samples of a batch where some trial has no others: products of different samples vanish on average.
    """
    shapes = [{other[batch].shape for group in rows for other in group} for batch in range(len(row))]
    draws = [max(shape[0] for shape in of) for of in shapes]
    parts = [
        part if len(of) == 1 else np.broadcast_to(part.sum(1), (count,))
        for part, of, count in zip(row, shapes, draws, strict=True)
    ]
    return np.concatenate([part.ravel() for part in parts])
