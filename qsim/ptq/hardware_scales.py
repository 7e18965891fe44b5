"""Scales that a shifter can apply: ZeroQuant-FP's two constraints.

Wu, Yao, He, "ZeroQuant-FP: A Leap Forward in LLMs Post-Training W4A8 Quantization Using Floating-Point Formats",
2023: so that FP4 weights become FP8 by adding to their exponents, either every scale is a power of two (M1), or
the scales of a group are one real scale times powers of two (M2).

Here both are number systems: `@channel:e8m0` is M1, `@channel:e8m0@tensor:float32` is M2, and calibration by
least squares finds the best of them directly (qsim.ptq.weight_scales). The functions below are the paper's own: they
constrain scales that were found without the constraint.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.errors import UserError

Array = NDArray[Any]


def nearest_powers(scale: Array) -> Array:
    """M1: every scale as the nearest power of two (in the exponent; a tie goes up), in its dtype."""
    checked = _checked(scale)
    return np.exp2(np.floor(np.log2(checked) + 0.5)).astype(np.asarray(scale).dtype)


def shared_scale_powers(scale: Array, axis: int | None = None) -> tuple[Array, Array]:
    """M2: scales as shared * 2^-shift: (the real scale that a group shares, keepdims; shifts int64 >= 0).

    axis: along which scales form a group; None: all of them. The shared scale is the group's largest, and the shift
    that of the power of two nearest to the ratio (in the exponent).
    """
    checked = _checked(scale)
    shared = checked.max(axis=axis, keepdims=True)
    shift = np.floor(np.log2(shared / checked) + 0.5).astype(np.int64)
    return shared.astype(np.asarray(scale).dtype), shift


def _checked(scale: Array) -> NDArray[np.float64]:
    values = np.asarray(scale, np.float64)
    if not values.size or not (np.isfinite(values) & (values > 0)).all():
        raise UserError("scales to constrain must be finite and above zero, at least one")
    return values
