"""NSGA-III (Deb and Jain 2014, pymoo): three and more measured objectives, along reference directions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pymoo.algorithms.moo.nsga3 import NSGA3
from pymoo.util.ref_dirs import get_reference_directions

from searches.evolution import Evaluate, Mapper, evolve
from searches.problem import Problem, SearchResult, Selection


def solve(
    problem: Problem,
    evaluate: Evaluate,
    *,
    n_objectives: int = 3,
    seeds: Sequence[Selection] = (),
    population: int = 40,
    generations: int = 20,
    seed: int = 0,
    mapper: Mapper = map,
) -> SearchResult:
    """The best selections found; `n_objectives` is how many numbers `evaluate` returns, else as nsga2."""

    def algorithm(pop_size: int, **settings: Any) -> NSGA3:
        # As many directions as selections at most: with more, directions compete for the same selection.
        partitions = 1
        while len(_directions(n_objectives, partitions + 1)) <= pop_size:
            partitions += 1
        return NSGA3(_directions(n_objectives, partitions), pop_size=pop_size, **settings)

    return evolve(
        algorithm, "nsga3", problem, evaluate,
        seeds=seeds, population=population, generations=generations, seed=seed, mapper=mapper,
    )  # fmt: skip


def _directions(n_objectives: int, partitions: int) -> Any:
    return get_reference_directions("das-dennis", n_objectives, n_partitions=partitions)
