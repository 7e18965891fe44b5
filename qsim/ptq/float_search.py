"""Which floating-point format fits a tensor: its clip, its exponent bias and its split of bits, chosen jointly.

Liu, Liu, Huang, Dong, Cheng, "LLM-FP4: 4-Bit Floating-Point Quantized Transformers", EMNLP 2023: a real-valued
exponent bias is a scale (bias = -log2 scale, up to the format's own), so clip and bias are one search, done for every
split of the bits into exponent and mantissa; the pair of least error wins. Here the error is the tensor's own
squared error, and the search is that of the calibration, for any granularity and scale format. A format without a
scale takes the best integer bias instead (`e2m1fn+bias3`), as a bias register would hold it.

The paper's activation side, biases a channel folded into the weights, is a transform of the network
(qsim.ptq.transforms).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.casting import quantize
from qsim.errors import SpecError, UserError
from qsim.formats import Float
from qsim.formats.floating import default_bias
from qsim.ptq.weight_scales import group_errors, least_squares_scales
from qsim.spec import Spec
from qsim.views import matrix_axis

Array = NDArray[Any]
BIAS_STEPS = range(-6, 3)  # about the bias whose largest value is the tensor's


@dataclass(frozen=True, eq=False)
class FloatChoice:
    """A format for one tensor: spec, its static scale (None where it has none) and the mean squared error."""

    spec: Spec
    scale: Array | None
    error: float


def splits(bits: int, specials: str = "none") -> tuple[Float, ...]:
    """Every signed float of `bits` bits with at least one exponent bit, by falling mantissa: e1m2, e2m1, e3m0 of 4.

    specials: which codes hold no number (qsim.formats.floating); splits that leave no number are left out.
    """
    if bits < 2:
        raise UserError(f"a signed float has at least 2 bits, not {bits}")
    found = []
    for exponent in range(1, min(bits - 1, 8) + 1):
        try:
            found.append(
                Float(exponent, bits - 1 - exponent, default_bias(exponent, specials), specials=specials)
            )
        except SpecError:
            continue
    return tuple(found)


def best_split(matrix: Array, spec: Spec, elements: Sequence[Float] | None = None) -> FloatChoice:
    """The element of least squared error for a tensor as a matrix [rows, K], each with its best clip or bias.

    spec: gives granularity, scale and width. elements: what to choose from; None: every split of spec's width.
    The first of equals wins.
    """
    choices = [best_clip(matrix, replace(spec, element=element)) for element in elements or splits(spec.bits)]
    if not choices:
        raise UserError(f"no floating-point format has {spec.bits} bits")
    return min(choices, key=lambda choice: choice.error)


def best_clip(matrix: Array, spec: Spec) -> FloatChoice:
    """The scale of least squared error of every group; without a scale, the integer exponent bias of least error."""
    if not isinstance(spec.element, Float):
        raise UserError(f"clip and bias are searched for floating-point elements, not for {spec.element}")
    if spec.scale is None:
        return _best_bias(matrix, spec, spec.element)
    axis = matrix_axis(spec)
    scale, zero_point = least_squares_scales(matrix, spec, axis)
    error = group_errors(matrix, spec, axis, scale, zero_point).sum()
    return FloatChoice(spec, scale, float(error) / max(matrix.size, 1))


def _best_bias(matrix: Array, spec: Spec, element: Float) -> FloatChoice:
    peak = float(np.abs(matrix[np.isfinite(matrix)]).max(initial=0.0))
    biases = [element.bias]
    if peak > 0:
        ideal = element.bias + int(np.floor(np.log2(element.largest / peak)))
        biases += [ideal + step for step in BIAS_STEPS]
    choices = []
    for bias in biases:
        try:
            own = replace(spec, element=replace(element, bias=bias))
        except SpecError:  # its values would not fit in float64
            continue
        error = np.square(matrix - quantize(matrix, own).astype(np.float64))
        choices.append(FloatChoice(own, None, float(error.mean()) if matrix.size else 0.0))
    return min(choices, key=lambda choice: choice.error)
