"""HAWQ-V3 (Yao et al., ICML 2021): Hessian-weighted quantization error, one budget, solved as an integer
program.

The sensitivity of a layer at b bits is the mean Hessian trace of its weights times ||W - Q_b(W)||^2 (their
eq. 4), the budget lies at `ratio` between the cheapest and the dearest uniform selection of one cost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from numpy.typing import ArrayLike

from qsim.errors import UserError
from searches import ilp
from searches.baselines import uniform
from searches.build import problem_from_layers
from searches.problem import Option, Problem, SearchResult

# The published sums of trace x error are about 1; with 1e12 integers per unit, rounding is below the last
# digit of the published factors.
SENSITIVITY_SCALE = 1e12
LATENCY_SCALE = 1e8  # integers per millisecond: the published latencies have 8 decimals
COSTS = ("size_bits", "bops", "latency_ms")


def solve(problem: Problem, cost: str, ratio: float, *, solver: ilp.SolverName = "highs") -> SearchResult:
    """The proven optimum under a budget on `cost` at `ratio` between its cheapest and dearest uniform
    selection.
    """
    result = ilp.solve(replace(problem, budgets={cost: budget(problem, cost, ratio)}), solver=solver)
    return replace(result, solver=f"hawq_v3/{result.solver}")


def budget(problem: Problem, cost: str, ratio: float) -> int:
    """Low + ratio x (high - low) over the uniform selections, in the problem's integers."""
    if not 0 <= ratio <= 1:
        raise UserError(
            f"hawq_v3: the ratio of {cost} is {ratio}, it lies between 0 (cheapest) and 1 (dearest)"
        )
    totals = [selection.totals[cost] for selection in uniform(problem).values()]
    if not totals:
        raise UserError(
            "hawq_v3 sets its budget between uniform selections, but no option is offered to all groups"
        )
    return min(totals) + int(ratio * (max(totals) - min(totals)))


def problem_from_table(
    rows: Sequence[Mapping[str, str]], residual_pairs: Sequence[Sequence[int]] = ()
) -> Problem:
    """The problem of a published layer table with int4 and int8 options for weights and activations together.

    Columns: name, params, macs, hessian_trace_per_param, dw2_int<b> = ||W - Q_b(W)||^2, latency_int<b>_ms.
    Costs are size_bits, bops (macs x bits^2) and latency_ms. `residual_pairs` (row numbers) share their bits.
    """
    bits = (4, 8)
    tables: dict[str, Sequence[ArrayLike]] = {
        "sensitivity": [
            [float(r["hessian_trace_per_param"]) * float(r[f"dw2_int{b}"]) for b in bits] for r in rows
        ],
        "size_bits": [[int(r["params"]) * b for b in bits] for r in rows],
        "bops": [[int(r["macs"]) * b * b for b in bits] for r in rows],
        "latency_ms": [[float(r[f"latency_int{b}_ms"]) for b in bits] for r in rows],
    }
    return problem_from_layers(
        [r["name"] for r in rows],
        [[Option(f"int{b}") for b in bits]] * len(rows),
        tables,
        objectives=("sensitivity",),
        groups=residual_pairs,
        scales={"sensitivity": SENSITIVITY_SCALE, "latency_ms": LATENCY_SCALE},
    )
