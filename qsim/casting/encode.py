"""encode and decode: between values and the integer codes that a memory holds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.casting.elements import cast_to_element
from qsim.casting.groups import spread
from qsim.casting.quantize import (
    FLOAT64,
    as_float_array,
    check_call,
    draw_bits,
    fast_quantize,
    scale_of,
    to_dtype,
    values_under,
)
from qsim.casting.scales import effective_scale
from qsim.errors import UserError
from qsim.formats import Element, Float, Posit, TableElement, TwosComplement
from qsim.parse import parse
from qsim.spec import Cast, Spec


@dataclass(frozen=True, eq=False)
class Quantized:
    """A tensor as codes.

    codes: integers of spec.element.code_dtype in `shape`: two's complement integers for int and fixed
        elements (the raw code n of ap_fixed), else bit patterns.
    scale: effective scale in its group shape, or None. zero_point: integers in the same shape, or None.
    levels: the scale level by level, innermost first (scale is their product).
    dtype: of the decoded values.
    """

    codes: Any
    scale: Any
    zero_point: Any
    spec: Spec
    shape: tuple[int, ...]
    axis: int = -1
    levels: tuple[Any, ...] = ()
    dtype: str = "float32"


def encode(
    x: Any,
    spec: Spec | str,
    *,
    axis: int = -1,
    scale: Any = None,
    zero_point: Any = None,
    affine: str = "divide",
    random_bits: Any = None,
    seed: int | None = None,
) -> Quantized:
    """The codes of `x` in the number system `spec`, with scale and zero point: decode(encode(x)) == quantize(x).

    Arguments, specials and errors are those of `quantize`. A torch tensor gives torch tensors on its device.
    """
    spec = parse(spec)
    if type(x).__module__.partition(".")[0] == "torch":
        from qsim.casting.torch_tensors import encode_tensor

        options = {"axis": axis, "scale": scale, "zero_point": zero_point, "affine": affine}
        return encode_tensor(x, spec, random_bits=random_bits, seed=seed, **options)
    x = as_float_array(x)
    check_call(x, spec, axis, scale, zero_point, affine)
    axis = int(axis)
    bits, dtype = draw_bits(x.shape, spec, random_bits, seed), str(x.dtype)
    if spec.granularity is None:
        codes = codes_of(_cast(to_dtype(x, FLOAT64), spec.element, spec.cast, bits), spec.element)
        return Quantized(codes, None, None, spec, x.shape, axis, (), dtype)
    levels, offset = scale_of(x, spec, axis, scale, zero_point)
    values, shift = values_under(levels, offset, x, spec, axis, affine, bits, _cast)
    codes, total = codes_of(values, spec.element, shift), effective_scale(levels, spec, axis)
    return Quantized(codes, total, offset, spec, x.shape, axis, levels, dtype)


def _cast(
    x: NDArray[np.float64], element: Element, cast: Cast, bits: NDArray[Any] | None
) -> NDArray[np.float64]:
    """`cast_to_element` by the compiled kernels where they cover it: the same values."""
    fast = fast_quantize()
    values = fast and fast(x, _bare(element, cast), random_bits=bits)
    return cast_to_element(x, element, cast, bits) if values is None else values


@lru_cache(maxsize=256)
def _bare(element: Element, cast: Cast) -> Spec:
    """The element used as it is; a zero point comes with a scale only."""
    return Spec(element, cast)


def decode(q: Quantized) -> Any:
    """The values of `q` in its shape and dtype: (code - zero point) * scale, rounded once; codes that hold no
    number are NaN.
    """
    check_quantized(q, "decode")
    if type(q.codes).__module__.partition(".")[0] == "torch":
        from qsim.casting.torch_tensors import decode_tensor

        return decode_tensor(q)
    values = q.spec.element.decode(q.codes)
    if q.spec.granularity is not None:
        with np.errstate(all="ignore"):
            if q.zero_point is not None:
                values = values - spread(q.zero_point.astype(np.float64), q.spec.granularity, q.shape, q.axis)
            values = values * spread(q.scale, q.spec.granularity, q.shape, q.axis).astype(np.float64)
    return to_dtype(values, np.dtype(q.dtype)).reshape(q.shape)


def check_quantized(q: Any, verb: str) -> None:
    """Raise UserError for what `encode` has not given."""
    if not isinstance(q, Quantized):
        raise UserError(f"{verb} takes what encode gives, a Quantized, not {type(q).__name__}")


def codes_of(values: NDArray[np.float64], element: Element, zero_point: Any = 0.0) -> NDArray[Any]:
    """The code of each of `values`, which must be numbers of `element` (two's complement: less the zero point)."""
    if isinstance(element, TwosComplement):
        steps = np.ldexp(values, -element.step_exponent) + zero_point
        return np.asarray(steps).astype(element.code_dtype)
    if isinstance(element, Float):
        return _float_codes(values, element)
    assert isinstance(element, TableElement)
    index = np.searchsorted(element.grid.values, np.where(np.isnan(values), 0.0, values))
    codes = element.grid.codes[np.minimum(index, len(element.grid.values) - 1)]
    if isinstance(element, Posit):
        codes = np.where(np.isnan(values), element.nan_code, codes)
    return np.asarray(codes).astype(element.code_dtype)


def _float_codes(values: NDArray[np.float64], element: Float) -> NDArray[Any]:
    magnitude = np.abs(values)
    is_normal = magnitude >= 2.0**element.smallest_exponent
    bits = magnitude.view(np.uint64) >> np.uint64(
        52 - element.mantissa
    )  # exponent and mantissa, float64's bias
    rebias = np.uint64(1023 - element.bias << element.mantissa & (1 << 64) - 1)
    subnormal = np.ldexp(np.where(is_normal | np.isnan(values), 0.0, magnitude), -element.step_exponent)
    codes = np.where(is_normal, bits - rebias, subnormal.astype(np.uint64))
    if element.has_infinity:
        codes = np.where(np.isinf(magnitude), np.uint64(element.infinity_code), codes)
    if element.signed:
        sign = np.uint64(1 << element.exponent + element.mantissa)
        codes = np.where(
            np.signbit(values) & (element.has_negative_zero | (magnitude > 0)), codes | sign, codes
        )
    if element.nan_code is not None:
        codes = np.where(np.isnan(values), np.uint64(element.nan_code), codes)
    elif np.isnan(values).any():
        raise UserError(f"NaN in the input, but {element} has no NaN")
    return codes.astype(element.code_dtype)
