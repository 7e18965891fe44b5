"""Softmax with logarithmic codes: the attention weights of FQ-ViT (arXiv 2111.13824) and RepQ-ViT (arXiv 2212.08254).

A probability p is stored as code c = clip(round(-log_b p), 0, 2^bits - 1) and stands for b^-c, with b = 2 (a product
with it is a shift) or b = sqrt 2 (twice the resolution; odd codes carry one factor sqrt 2, which RepQ-ViT moves into
the scale). The code is rounded once, in the logarithm: at most 1/2 code from -log_b p; the last code also holds
everything smaller. Relative to p itself that is a factor of at most sqrt(b).
"""

from __future__ import annotations

from decimal import Decimal, localcontext
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qsim.arithmetic.functions.exact import DIGITS
from qsim.errors import UserError

Base = Literal["2", "sqrt2"]
_TOLERANCE = 2.0**-40


def encode(x: ArrayLike, bits: int, base: Base = "2") -> NDArray[Any]:
    """Codes of softmax(x) over the last axis: uint8 or uint16 in the shape of x. Ties (p = b^-(c + 1/2)) go to even.

    -inf gets the last code. Raises UserError for NaN, +inf and rows without a finite element.
    """
    steps = _steps(base)
    if not 1 <= bits <= 16:
        raise UserError(f"logarithmic codes have 1 to 16 bits, not {bits}")
    rows = np.asarray(x, np.float64)
    if rows.ndim == 0 or rows.shape[-1] == 0 or not np.all(np.isfinite(rows.max(axis=-1))):
        raise UserError("a softmax row needs a finite largest element")
    shifted = rows - rows.max(axis=-1, keepdims=True)
    total = np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    logarithm = np.minimum((total - shifted) * (steps / np.log(2.0)), 2.0**17)
    nearest = np.rint(logarithm)
    is_open = np.abs(np.abs(logarithm - nearest) - 0.5) < _TOLERANCE * np.maximum(logarithm, 1.0)
    for row in np.argwhere(is_open):
        index = tuple(int(i) for i in row)
        nearest[index] = _precise(rows[index[:-1]], index[-1], steps)
    return np.asarray(np.minimum(nearest, 2**bits - 1), np.uint8 if bits <= 8 else np.uint16)


def decode(codes: ArrayLike, base: Base = "2") -> NDArray[np.float64]:
    """The numbers b^-c; for base 2 they are exact."""
    return np.asarray(np.exp2(-np.asarray(codes, np.float64) / _steps(base)))


def _steps(base: str) -> int:
    """Codes for each factor of two."""
    if base not in ("2", "sqrt2"):
        raise UserError(f"base '{base}' of a logarithmic softmax: 2 or sqrt2")
    return 1 if base == "2" else 2


def _precise(row: NDArray[np.float64], position: int, steps: int) -> int:
    with localcontext() as context:
        context.prec = DIGITS
        largest = Decimal(float(row.max()))
        total = sum((Decimal(float(v)) - largest).exp() if np.isfinite(v) else Decimal(0) for v in row)
        logarithm = (
            (Decimal(total).ln() - (Decimal(float(row[position])) - largest)) * steps / Decimal(2).ln()
        )
        return int(logarithm.to_integral_value())  # ROUND_HALF_EVEN
