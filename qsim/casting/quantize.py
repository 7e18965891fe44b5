"""quantize: the values of a tensor in another number system, in the dtype it came in."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.casting.affine import ElementCast, check_affine, divides, scaled_values
from qsim.casting.elements import cast_to_element
from qsim.casting.groups import check_axis, fit, nested_axis, spread
from qsim.casting.random_bits import seeded_bits
from qsim.casting.scales import compute_levels, effective_scale, inverse_scale
from qsim.errors import UserError
from qsim.parse import parse
from qsim.spec import Spec

FLOAT64 = np.dtype(np.float64)


def quantize(
    x: Any,
    spec: Spec | str,
    *,
    axis: int = -1,
    scale: Any = None,
    zero_point: Any = None,
    affine: str = "divide",
    random_bits: Any = None,
    seed: int | None = None,
    out: Any = None,
) -> Any:
    """The values that `x` becomes in the number system `spec`, dequantized, in the shape and dtype of `x`.

    x: NumPy float32 or float64 array of any layout (float16 becomes float32, integers and lists float64), or
        a torch tensor on any device, which comes back on that device with a straight-through gradient.
    axis: the reduction axis for blocks, the channel axis for `channel`, the feature axis for `token`.
    scale: effective scale, a scalar or an array in the group shape (Granularity.scale_shape), used as given.
        None: computed from `x` by the scale rule. A tuple gives the levels of a nested scale, innermost first.
    zero_point: integer offset(s) in the group shape, for elements with +zp. None: by the rule minmax, or 0
        where a scale is given.
    affine: how an integer is computed from x, scale and zero point (qsim.casting.affine).
    random_bits: integers below 2^k in the shape of x, for stochastic<k>; or `seed`, from which they are
        hashed (qsim.casting.random_bits).
    out: an array of the shape and dtype of `x` to write the result into; it is also returned.

    Specials. float64 input rounds once. Infinity goes where the overflow mode says. NaN stays NaN in formats
    with NaN and is a UserError in others; it and infinity do not count for a computed scale. -0 stays -0
    where the format has it and is 0 elsewhere. An all-zero group gives zeros; an empty array gives an empty
    array; a ragged last block is a block of fewer elements. A product of element and scale beyond the dtype
    of `x` is rounded to that dtype.
    Raises UserError for shapes that do not fit, unusable scales and NaN as said.
    """
    spec = parse(spec)
    if type(x).__module__.partition(".")[0] == "torch":
        from qsim.casting.torch_tensors import quantize_tensor

        options = {"axis": axis, "scale": scale, "zero_point": zero_point, "affine": affine}
        return quantize_tensor(x, spec, out=out, random_bits=random_bits, seed=seed, **options)
    x = as_float_array(x)
    check_call(x, spec, axis, scale, zero_point, affine, out)
    options = {"axis": axis, "scale": scale, "zero_point": zero_point, "affine": affine}
    fast = fast_quantize()
    result = fast and fast(x, spec, random_bits=random_bits, seed=seed, out=out, **options)
    if result is not None:
        return result
    return write(quantize_generally(x, spec, random_bits=random_bits, seed=seed, **options), out)


@cache
def fast_quantize() -> Any:
    """The compiled kernels, where numba is installed."""
    try:
        return import_module("qsim.casting.fast").quantize
    except (ImportError, AttributeError):
        return None


def quantize_generally(
    x: NDArray[Any],
    spec: Spec,
    *,
    axis: int = -1,
    scale: Any = None,
    zero_point: Any = None,
    affine: str = "divide",
    random_bits: Any = None,
    seed: int | None = None,
) -> NDArray[Any]:
    """`quantize` of a NumPy array without the compiled kernels: the same bits for every spec."""
    bits = draw_bits(x.shape, spec, random_bits, seed)
    if spec.granularity is None:
        return to_dtype(cast_to_element(to_dtype(x, FLOAT64), spec.element, spec.cast, bits), x.dtype)
    levels, offset = scale_of(x, spec, axis, scale, zero_point)
    values, _ = values_under(levels, offset, x, spec, axis, affine, bits)
    step = spread(effective_scale(levels, spec, axis), spec.granularity, x.shape, axis)
    with np.errstate(all="ignore"):
        return to_dtype(values * step.astype(np.float64), x.dtype)


def values_under(
    levels: tuple[NDArray[Any], ...],
    offset: NDArray[np.int64] | None,
    x: NDArray[Any],
    spec: Spec,
    axis: int,
    affine: str,
    bits: NDArray[Any] | None,
    cast: ElementCast = cast_to_element,
) -> tuple[NDArray[np.float64], NDArray[Any] | float]:
    """The unscaled element values of `x` under a scale, and the zero point spread over `x`."""
    assert spec.granularity is not None
    factor = (
        effective_scale(levels, spec, axis) if divides(spec, affine) else inverse_scale(levels, spec, axis)
    )
    shift: NDArray[Any] | float = 0.0
    if offset is not None:
        shift = spread(offset.astype(np.float64), spec.granularity, x.shape, axis)
    factor = spread(factor, spec.granularity, x.shape, axis)
    return scaled_values(x, spec, factor, shift, affine, bits, cast), shift


def as_float_array(x: Any) -> NDArray[Any]:
    """`x` as a float32 or float64 array of this machine's byte order, without a copy where it is one."""
    try:
        array = np.asarray(x)
    except ValueError:
        raise UserError("quantize takes an array of numbers: these rows have different lengths") from None
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if array.dtype in (np.float32, np.float64):
        return array
    if array.dtype == np.float16:
        return array.astype(np.float32)
    if array.dtype.kind in "iub":
        wide = array.astype(np.float64)
        if array.dtype.itemsize == 8 and np.any(np.abs(wide) > 2.0**53):
            raise UserError("quantize takes integers up to 2^53 in magnitude, which float64 holds")
        return wide
    raise UserError(f"quantize takes real numbers, not an array of {array.dtype}")


def check_call(
    x: NDArray[Any], spec: Spec, axis: int, scale: Any, zero_point: Any, affine: str, out: Any = None
) -> None:
    """Raise UserError for options that do not go together."""
    check_axis(x.ndim, axis)
    check_affine(affine, spec, x.dtype)
    if spec.granularity is None and (scale is not None or zero_point is not None):
        raise UserError(
            f"spec {spec} has no scale, but one was given: say for example {spec.element}@tensor:float32"
        )
    if zero_point is not None and not spec.has_zero_point and np.any(np.asarray(zero_point) != 0):
        raise UserError(f"spec {spec} has no zero point, but one was given: say {spec.element}+zp")
    if out is None:
        return
    if getattr(out, "shape", None) != x.shape or out.dtype != x.dtype or not out.flags.writeable:
        raise UserError(f"out must be a writable array of shape {x.shape} and dtype {x.dtype}")


def draw_bits(shape: tuple[int, ...], spec: Spec, random_bits: Any, seed: int | None) -> NDArray[Any] | None:
    """The random integers of a stochastic cast, given or hashed from the seed; None for other roundings."""
    count = spec.cast.rounding.random_bits
    if count == 0:
        return None
    if random_bits is None:
        if seed is None:
            raise UserError(f"spec {spec} rounds stochastically: give random_bits or a seed")
        return seeded_bits(seed, shape, count)
    bits = np.asarray(random_bits)
    if bits.dtype.kind not in "iu" or (bits.size and (bits.min() < 0 or int(bits.max()) >> count)):
        raise UserError(f"random_bits must be integers from 0 to 2^{count} - 1 for spec {spec}")
    try:
        return np.broadcast_to(bits, shape)
    except ValueError:
        raise UserError(f"random_bits of shape {bits.shape} do not fit an input of shape {shape}") from None


def scale_of(
    x: NDArray[Any], spec: Spec, axis: int, scale: Any, zero_point: Any
) -> tuple[tuple[NDArray[Any], ...], NDArray[np.int64] | None]:
    """The levels of the scale and the zero point, computed or given, checked, in their group shapes."""
    assert spec.granularity is not None
    if scale is None:
        levels, offset = compute_levels(x, spec, axis)
    else:
        levels, offset = _given_levels(x, spec, axis, scale), None
    if spec.has_zero_point and zero_point is not None:
        fitted = fit(zero_point, spec.granularity, x.shape, axis, "zero_point")
        _check_zero_point(fitted, spec)
        offset = fitted.astype(np.int64)
    elif spec.has_zero_point and offset is None:
        offset = np.zeros(levels[0].shape, dtype=np.int64)
    return levels, offset


def _given_levels(x: NDArray[Any], spec: Spec, axis: int, scale: Any) -> tuple[NDArray[Any], ...]:
    assert spec.granularity is not None
    shape, level, levels = x.shape, spec.scale, []
    granularity = spec.granularity
    if isinstance(scale, tuple) and not scale:
        raise UserError(f"spec {spec} takes at least the innermost level of its scale, not an empty tuple")
    for part in scale if isinstance(scale, tuple) else (scale,):
        if level is None:
            raise UserError(f"spec {spec} has fewer scale levels than the {len(scale)} given")
        fitted = to_dtype(fit(part, granularity, shape, axis, "scale"), x.dtype)
        if not (np.isfinite(fitted) & (fitted > 0)).all():
            raise UserError(f"a scale of spec {spec} must be finite and above zero")
        levels.append(fitted)
        shape = fitted.shape
        granularity, level = level.granularity or granularity, level.scale
        axis = nested_axis(granularity, len(shape), axis)
    return tuple(levels)


def _check_zero_point(given: NDArray[Any], spec: Spec) -> None:
    low, high = spec.element.lowest, spec.element.largest
    if not ((given == np.trunc(given)) & (given >= low) & (given <= high)).all():
        raise UserError(f"a zero point of {spec.element} is an integer from {low:.0f} to {high:.0f}")


def to_dtype(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """`values` as `dtype`, silently where NaN or an overflow is converted."""
    with np.errstate(all="ignore"):
        return values.astype(dtype, copy=False)


def write(values: NDArray[Any], out: Any) -> NDArray[Any]:
    """`values`, copied into `out` where there is one."""
    if out is None:
        return values
    out[...] = values
    return np.asarray(out)
