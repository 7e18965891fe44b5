"""Functions of a whole row, rounded once: softmax, layer norm, RMS norm along the last axis."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qsim.arithmetic.functions.exact import SMALLEST, Index, Reals, round_once
from qsim.errors import UserError
from qsim.spec import Spec

ERROR_PER_TERM = (
    2.0**-48
)  # of a float64 sum, relative to the largest term; one bit at most is lost per 2^5 terms


def softmax(x: ArrayLike, output: Spec | str, **options: Any) -> NDArray[Any]:
    """exp(x) / sum(exp(x)) over the last axis, rounded once: at most 1/2 ulp of `output` (nearest roundings).

    -inf has weight 0; a row of -inf alone, or one with +inf or NaN, gives NaN (a UserError in formats without NaN).
    """
    rows = _rows(x)
    with np.errstate(all="ignore"):
        exponentials = np.exp(rows - rows.max(axis=-1, keepdims=True))
        approximate = exponentials / exponentials.sum(axis=-1, keepdims=True)

    def precise(index: Index) -> Decimal:
        row = rows[index[:-1]]
        terms = [Decimal(float(v) - float(row.max())).exp() if np.isfinite(v) else Decimal(0) for v in row]
        return terms[index[-1]] / sum(terms, Decimal(0))

    return round_once(
        approximate, np.maximum(approximate * _tolerance(rows), SMALLEST), precise, output, **options
    )


def layer_norm(
    x: ArrayLike,
    output: Spec | str,
    *,
    weight: ArrayLike = 1.0,
    bias: ArrayLike = 0.0,
    epsilon: float = 1e-5,
    **options: Any,
) -> NDArray[Any]:
    """(x - mean) / sqrt(variance + epsilon) * weight + bias over the last axis, rounded once: at most 1/2 ulp.

    The variance is that of the row itself (divided by its length). weight and bias have the shape of the row.
    """
    return _normalised(x, output, True, weight, bias, epsilon, options)


def rms_norm(
    x: ArrayLike, output: Spec | str, *, weight: ArrayLike = 1.0, epsilon: float = 1e-5, **options: Any
) -> NDArray[Any]:
    """x / sqrt(mean(x^2) + epsilon) * weight over the last axis, rounded once: at most 1/2 ulp."""
    return _normalised(x, output, False, weight, 0.0, epsilon, options)


def _normalised(
    x: ArrayLike,
    output: Spec | str,
    centre: bool,
    weight: ArrayLike,
    bias: ArrayLike,
    epsilon: float,
    options: dict[str, Any],
) -> NDArray[Any]:
    rows = _rows(x)
    gains, offsets = (np.broadcast_to(np.asarray(v, np.float64), rows.shape[-1:]) for v in (weight, bias))
    if not epsilon > 0:
        raise UserError(f"epsilon must be above 0, not {epsilon}: a constant row would divide by zero")
    with np.errstate(all="ignore"):
        centred = rows - rows.mean(axis=-1, keepdims=True) if centre else rows
        deviation = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + epsilon)
        approximate = centred / deviation * gains + offsets
        largest = np.abs(rows).max(axis=-1, keepdims=True)
        tolerance = (largest / deviation * np.abs(gains) * 4.0 + np.abs(offsets)) * _tolerance(rows)
        # The deviation itself may cancel: a row of nearly equal large numbers.
        tolerance = tolerance * (1.0 + (largest / deviation) ** 2 * centre)

    def precise(index: Index) -> Decimal:
        row = [Decimal(float(v)) for v in rows[index[:-1]]]
        mean = sum(row, Decimal(0)) / len(row) if centre else Decimal(0)
        variance = sum(((v - mean) ** 2 for v in row), Decimal(0)) / len(row)
        gain, offset = Decimal(float(gains[index[-1]])), Decimal(float(offsets[index[-1]]))
        return (row[index[-1]] - mean) / (variance + Decimal(epsilon)).sqrt() * gain + offset

    return round_once(approximate, tolerance, precise, output, **options)


def _rows(x: ArrayLike) -> Reals:
    rows = np.asarray(x, np.float64)
    if rows.ndim == 0 or rows.shape[-1] == 0:
        raise UserError(
            f"a row function needs at least one element along the last axis, not shape {rows.shape}"
        )
    return rows


def _tolerance(rows: Reals) -> float:
    return float(ERROR_PER_TERM * (1.0 + rows.shape[-1] / 32.0))
