"""Cycles of a systolic array, in the closed form that SCALE-Sim 3.0.0 computes (verified on all its anchors)."""

from __future__ import annotations

from math import ceil

from qsim.errors import UserError


def systolic_cycles(
    dataflow: str, vectors: int, reduction: int, outputs: int, rows: int, columns: int
) -> int:
    """Compute cycles of one matrix product [vectors, reduction] x [reduction, outputs] on a rows x columns array.

    ws (weights stay): ceil(K/R) ceil(N/C) (2R + C + M - 2) - 1; os (outputs stay): ceil(M/R) ceil(N/C)
    (K + R + C - 2) - 1; is (inputs stay): ceil(M/R) ceil(K/C) (2R + C + N - 2) - 1, with M vectors, K reduction,
    N outputs. Source: ../shared/research/hardware.md, section 6. Raises UserError on another dataflow.
    """
    match dataflow:
        case "ws":
            folds, cycles = ceil(reduction / rows) * ceil(outputs / columns), 2 * rows + columns + vectors - 2
        case "os":
            folds, cycles = ceil(vectors / rows) * ceil(outputs / columns), reduction + rows + columns - 2
        case "is":
            folds, cycles = ceil(vectors / rows) * ceil(reduction / columns), 2 * rows + columns + outputs - 2
        case _:
            raise UserError(f"dataflow must be ws, os or is, got {dataflow!r}")
    return folds * cycles - 1
