"""NSGA-II (Deb et al. 2002, pymoo): two measured objectives, seeded with the exact front of the additive
model.
"""

from __future__ import annotations

from collections.abc import Sequence

from pymoo.algorithms.moo.nsga2 import NSGA2

from searches.evolution import Evaluate, Mapper, evolve
from searches.problem import Problem, SearchResult, Selection


def solve(
    problem: Problem,
    evaluate: Evaluate,
    *,
    seeds: Sequence[Selection] = (),
    population: int = 40,
    generations: int = 20,
    seed: int = 0,
    mapper: Mapper = map,
) -> SearchResult:
    """The best selections found; `evaluation` and the fields of the result are described in
    `evolution.evolve`.
    """
    return evolve(
        NSGA2, "nsga2", problem, evaluate,
        seeds=seeds, population=population, generations=generations, seed=seed, mapper=mapper,
    )  # fmt: skip
