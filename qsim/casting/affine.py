"""x / scale, and what is rounded: the four ways in which stacks quantize with a scale and a zero point.

    divide          round(x / s) + z              ONNX QuantizeLinear, the default
    reciprocal      round(x * (1/s)) + z          torch.fake_quantize; NVFP4 in torchao, 1/s being (1/global) / block
    reciprocal_fma  round(fma(x, 1/s, z))         torch.quantize_per_tensor
    reciprocal_add  round((x * (1/s)) + z)        torch.quantize_per_channel

Every operation outside round() rounds to the dtype of x (nearest even), as the kernels do; division by a
scale that is a power of two by its format is exact. Dequantization is (code - z) * s, rounded once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.casting.elements import cast_to_code, cast_to_element
from qsim.errors import UserError
from qsim.formats import Element, TwosComplement
from qsim.spec import Cast, Spec

AFFINE = ("divide", "reciprocal", "reciprocal_fma", "reciprocal_add")

Array = NDArray[np.floating[Any]]
ElementCast = Callable[[NDArray[np.float64], Element, Cast, Any], NDArray[np.float64]]


def check_affine(affine: str, spec: Spec, dtype: np.dtype[Any]) -> None:
    """Raise UserError for an unknown rule, or one that does not fit the element or dtype."""
    if affine not in AFFINE:
        raise UserError(f"unknown affine rule '{affine}': one of {', '.join(AFFINE)}")
    adds_before_rounding = affine in ("reciprocal_fma", "reciprocal_add")
    if adds_before_rounding and not isinstance(spec.element, TwosComplement):
        raise UserError(f"affine rule '{affine}' is for int elements, not {spec.element}")
    if affine == "reciprocal_fma" and dtype != np.float32:
        raise UserError("affine rule 'reciprocal_fma' is torch's float32 kernel: give float32, not float64")


def divides(spec: Spec, affine: str) -> bool:
    """Whether x is divided by the scale; otherwise it is multiplied by its inverse."""
    return affine == "divide" or (spec.scale is not None and spec.scale.is_power_of_two)


def scaled_values(
    x: Array,
    spec: Spec,
    factor: Array,
    zero_point: Array | float,
    affine: str,
    random_bits: Any,
    cast: ElementCast = cast_to_element,
) -> NDArray[np.float64]:
    """The element values (for two's complement: codes less zero point, in steps) that `x` becomes.

    factor: the scale where `divides(spec, affine)`, else its inverse; it and `zero_point` broadcast against `x`.
    Multiplied by the scale the result is the quantized tensor. cast: `cast_to_element` or what gives its bits.
    """
    element = spec.element
    with np.errstate(all="ignore"):
        quotient = _quotient(x, spec, factor, zero_point, affine)
        if not element.has_zero_point:
            return cast(quotient, element, spec.cast, random_bits)
        assert isinstance(element, TwosComplement)
        if np.isnan(quotient).any():
            raise UserError(f"NaN in the input, but {element} has no NaN")
        shift = zero_point if affine in ("divide", "reciprocal") else 0.0
        code = cast_to_code(quotient, element, spec.cast, random_bits, shift)
    return np.ldexp(code - zero_point, element.step_exponent)


def _quotient(
    x: Array, spec: Spec, factor: Array, zero_point: Array | float, affine: str
) -> NDArray[np.float64]:
    wide, offset = x.astype(np.float64), np.asarray(zero_point, np.float64)
    if affine == "divide" and not (spec.scale and spec.scale.is_power_of_two):
        return (x / factor).astype(np.float64)
    if divides(spec, affine):
        product = wide / factor.astype(np.float64)
    elif affine == "reciprocal_fma":
        product = wide * factor.astype(np.float64)
    else:
        product = (x * factor).astype(np.float64)
    if affine in ("divide", "reciprocal"):
        return product
    return _fused(product, offset) if x.dtype == np.float32 else product + offset


def _fused(product: NDArray[np.float64], addend: Array) -> NDArray[np.float64]:
    """float32(product + addend) rounded once: the float64 sum is first rounded to odd, which a second
    rounding to fewer than 52 bits cannot tell from the exact sum (Boldo and Melquiond 2008).
    """
    total = product + addend
    virtual = total - product
    error = (product - (total - virtual)) + (addend - virtual)
    is_even = total.view(np.int64) & 1 == 0
    toward = np.where(error > 0, np.inf, -np.inf)
    odd = np.where((error != 0) & is_even, np.nextafter(total, toward), total)
    return odd.astype(np.float32).astype(np.float64)
