"""Cycles of a systolic array, in the closed form that SCALE-Sim 3.0.0 computes (verified on all its anchors)."""

from __future__ import annotations

from typing import TypeVar

from hwmodels.columns import Floats
from qsim.errors import UserError

Count = TypeVar("Count", int, Floats)


def systolic_cycles(
    dataflow: str, vectors: Count, reduction: Count, outputs: Count, rows: int, columns: int
) -> Count:
    """Compute cycles of one matrix product [vectors, reduction] x [reduction, outputs] on a rows x columns array.

    ws (weights stay): ceil(K/R) ceil(N/C) (2R + C + M - 2) - 1; os (outputs stay): ceil(M/R) ceil(N/C)
    (K + R + C - 2) - 1; is (inputs stay): ceil(M/R) ceil(K/C) (2R + C + N - 2) - 1, with M vectors, K reduction,
    N outputs. Source: ../shared/research/hardware.md, section 6. Raises UserError on another dataflow.
    """
    match dataflow:
        case "ws":
            tall, wide, cycles = reduction, outputs, vectors + (2 * rows + columns - 2)
        case "os":
            tall, wide, cycles = vectors, outputs, reduction + (rows + columns - 2)
        case "is":
            tall, wide, cycles = vectors, reduction, outputs + (2 * rows + columns - 2)
        case _:
            raise UserError(f"dataflow must be ws, os or is, got {dataflow!r}")
    folds = (-(-tall // rows)) * (-(-wide // columns))
    return folds * cycles - 1
