"""One call of `quantize` for a tensor that stays on its device: which program, its arguments, fused on CUDA.

Covered: int, fixed and minifloat elements in every rounding, overflows but the wrapping ones, on every granularity,
with given or computed scales of any depth. `quantize_on_device` answers None for the rest, and for every mistake of the
caller, which the general path names better.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from types import FunctionType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from qsim.casting.fast.facts import choose_mode
from qsim.casting.random_bits import keys
from qsim.casting.torch_kernels import (
    divisors_of,
    group,
    level_of,
    plain,
    random_bits_of,
    round_value,
    scale_and_zero_point,
    signed_word,
    ungroup,
)
from qsim.spec import Granularity, Spec

_TORCH = {np.float32: torch.float32, np.float64: torch.float64}
_NUMPY: dict[torch.dtype, Any] = {torch.float32: np.float32, torch.float64: np.float64}
# What makes torch.compile compute as eager torch does: true division, subnormals, no fused multiply-add.
_EAGER_NUMERICS = (
    "eager_numerics.division_rounding",
    "eager_numerics.disable_ftz",
    "emulate_precision_casts",
)

ROW = 1024  # elements that a tensor without groups is cut into, so that NaN is looked for in the pass that rounds


class _Arguments(NamedTuple):
    """The tensors of a call beside `x`.

    Divisors and seed are tensors too: torch.compile multiplies by the inverse of a constant divisor, and compiles
    anew for another constant.
    """

    scale: Tensor | None = None
    zero_point: Tensor | None = None
    random_bits: Tensor | None = None
    seed_keys: Tensor | None = None
    divisors: tuple[Tensor, ...] = ()


Run = Callable[[Tensor, _Arguments], tuple[Tensor, Tensor | None]]


@lru_cache(maxsize=256)
def program(spec: Spec, dtype: torch.dtype, axis: int, scale_is_given: bool) -> Run | None:
    """The function (x, arguments) -> (quantized x, where it met NaN that the element has not); None if not covered."""
    is_exact = spec.scale is not None and spec.scale.is_power_of_two
    needs_wide = is_exact and scale_is_given  # a given scale need be no power of two
    chosen = choose_mode(spec, _NUMPY[dtype], needs_wide)
    level = None if spec.scale is None else level_of(spec.element, spec.scale)
    if chosen is None or (spec.scale is not None and level is None):
        return None
    multiplies = is_exact and not scale_is_given  # by the inverse: the same as the quotient, and faster
    working, carrier = _TORCH[chosen[0]], _TORCH[type(chosen[1].grid.cap)]
    mode, granularity = plain(chosen[1]), spec.granularity or Granularity("tensor")
    count, has_nan = spec.cast.rounding.random_bits, spec.element.has_nan

    def run(x: Tensor, given: _Arguments) -> tuple[Tensor, Tensor | None]:
        groups, random, zero_point = group(x, granularity, axis), given.random_bits, given.zero_point
        if given.seed_keys is not None:
            random = random_bits_of(x.shape, given.seed_keys, count)
        random = None if random is None else group(random, granularity, axis).view
        value, scale = groups.view.to(working), given.scale
        if level is not None:
            if scale is None:
                scale, computed = scale_and_zero_point(groups, level, axis, given.divisors)
                zero_point = computed if zero_point is None else zero_point
            scale = groups.spread(scale)
            if multiplies:
                value = value * (1.0 / scale.to(torch.float64)).to(working)
            else:
                value = value / scale.to(working)
        offset = None if zero_point is None else groups.spread(zero_point).to(carrier)
        rounded = round_value(value.to(carrier), offset, random, mode)
        result = rounded if scale is None else (rounded * scale.to(carrier)).to(dtype)
        nan = None if has_nan else value.isnan().any(-1)
        return ungroup(result.to(dtype), x.shape, groups.dims), nan

    return run


@lru_cache(maxsize=256)
def _compiled(spec: Spec, dtype: torch.dtype, axis: int, scale_is_given: bool) -> Run | None:
    """`program` fused by torch.compile, where that can be told to compute as eager torch does."""
    run = program(spec, dtype, axis, scale_is_given)
    known = torch._inductor.list_options()
    if run is None or not all(option in known for option in _EAGER_NUMERICS):
        return run
    # torch counts compilations a code object, and gives up after a few: each program gets a code object of its own.
    own = FunctionType(run.__code__.replace(), run.__globals__, str(spec), None, run.__closure__)
    return torch.compile(own, fullgraph=True, options=dict.fromkeys(_EAGER_NUMERICS, True))


def quantize_on_device(
    x: Tensor,
    spec: Spec,
    *,
    axis: int = -1,
    scale: Any = None,
    zero_point: Any = None,
    affine: str = "divide",
    random_bits: Any = None,
    seed: int | None = None,
    compiled: bool | None = None,
) -> Tensor | None:
    """`qsim.quantize` of a float32 or float64 tensor, on its device; None where the general path has to see to it.

    compiled: whether torch.compile fuses the operations; None: on CUDA. Waits for the device only where an element
    without NaN, or a given tensor, has to be checked.
    """
    if x.dtype not in _TORCH.values() or x.ndim == 0 or x.numel() == 0:
        return None
    if not isinstance(axis, int) or not -x.ndim <= axis < x.ndim:
        return None
    if (affine != "divide" and spec.scale is not None) or len(
        spec.granularity.block if spec.granularity else ()
    ) > x.ndim:
        return None
    chosen = _compiled if (x.device.type == "cuda" if compiled is None else compiled) else program
    run = chosen(spec, x.dtype, axis % x.ndim, scale is not None)
    prepared = None if run is None else _arguments(x, spec, axis, scale, zero_point, random_bits, seed)
    if run is None or prepared is None:
        return None
    given, problems = prepared
    is_flat = spec.granularity is None and x.numel() % ROW == 0
    if is_flat and given.random_bits is not None:
        given = given._replace(random_bits=given.random_bits.reshape(-1, ROW))
    result, nan = run(x.reshape(-1, ROW) if is_flat else x, given)
    problems += [] if nan is None else [nan.any()]
    if problems and bool(torch.stack(problems).any()):
        return None
    return result.reshape(x.shape)


def _arguments(
    x: Tensor, spec: Spec, axis: int, scale: Any, zero_point: Any, random_bits: Any, seed: int | None
) -> tuple[_Arguments, list[Tensor]] | None:
    """The tensors of a call and what would be wrong with their values (0-d booleans); None for what does not fit."""
    given, problems, count = _Arguments(), list[Tensor](), spec.cast.rounding.random_bits
    if (spec.scale is None and scale is not None) or (zero_point is not None and not spec.has_zero_point):
        return None
    if count and random_bits is not None:
        bits = torch.as_tensor(random_bits, device=x.device)
        if bits.shape != x.shape or bits.is_floating_point() or bits.is_complex() or bits.dtype == torch.bool:
            return None
        bits = bits.to(torch.int64)
        given = given._replace(random_bits=bits)
        problems.append(torch.any(bits >> count != 0))
    elif count:
        if seed is None or x.numel() > 1 << 32:
            return None
        words = [signed_word(key) for key in keys(seed)]
        given = given._replace(seed_keys=torch.tensor(words, dtype=torch.int32, device=x.device))
    if spec.scale is None or spec.granularity is None:
        return given, problems
    shape = spec.granularity.scale_shape(x.shape, axis)
    divisors = tuple(_constant(value, x.device) for value in divisors_of(spec.element, spec.scale))
    given = given._replace(divisors=divisors)
    if scale is not None:
        values = _fitted(scale, shape, x.dtype, x.device)
        if values is None:
            return None
        problems.append(~(values.isfinite() & (values > 0)).all())
        given = given._replace(scale=values)
    offset = 0 if scale is not None and spec.has_zero_point and zero_point is None else zero_point
    if offset is not None:
        points = _fitted(offset, shape, torch.float64, x.device)
        if points is None:
            return None
        outside = (
            (points < spec.element.lowest) | (points > spec.element.largest) | (points != points.trunc())
        )
        problems.append(outside.any())
        given = given._replace(zero_point=points)
    return given, problems


def _fitted(given: Any, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor | None:
    """A given scale or zero point in its group shape; None where it has another (or several levels)."""
    if isinstance(given, tuple):
        return None
    try:
        values = torch.as_tensor(given, device=device).to(dtype)
    except (TypeError, ValueError, RuntimeError):
        return None
    if values.numel() == 1:
        return values.reshape(()).expand(shape)
    fits = [n for n in values.shape if n != 1] == [n for n in shape if n != 1]
    return values.reshape(shape) if fits else None


@lru_cache(maxsize=256)
def _constant(value: float, device: torch.device) -> Tensor:
    return torch.tensor(value, dtype=torch.float64, device=device)
