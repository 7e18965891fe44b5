"""One call of `quantize` taken apart: which mode, which scales, which loop; then the loop, dealt out to threads."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.casting.elements import cast_to_element
from qsim.casting.fast import codebook
from qsim.casting.fast.blocks import round_blocks, stretches_of
from qsim.casting.fast.facts import choose_mode, saturates
from qsim.casting.fast.modes import Given, Seeded, Stochastic
from qsim.casting.fast.scales import FLAT_PIECE, block_rule, dynamic_levels, rows_in_blocks
from qsim.casting.fast.segments import round_columns, round_segments
from qsim.casting.fast.threads import spread
from qsim.casting.quantize import draw_bits, scale_of
from qsim.casting.random_bits import keys
from qsim.casting.scales import effective_scale
from qsim.formats import Element
from qsim.spec import Cast, Granularity, Spec

Array = NDArray[Any]

TABLE_WORTH = 1 << 14  # elements from which building a table (some 30 ms, once a format) is worth it


def quantize(
    x: Array,
    spec: Spec,
    axis: int,
    scale: Any,
    zero_point: Any,
    random_bits: Any,
    seed: int | None,
    out: Array | None,
) -> Array | None:
    """See qsim.casting.fast.quantize; the affine rule is divide."""
    offset: Array | None = None
    effective: Array | None = None
    if scale is not None:
        levels, offset = scale_of(x, spec, axis, scale, zero_point)
        effective = effective_scale(levels, spec, axis)
    chosen = _choose_mode(spec, x, effective)
    if chosen is None:
        return None
    working, mode = chosen
    if isinstance(mode, Stochastic):
        mode = _with_random_bits(mode, x, spec, random_bits, seed)
    grouped = spec.granularity is not None and spec.granularity.kind in ("token", "block")
    moves = grouped and axis % x.ndim != x.ndim - 1
    if mode is None or (moves and not _may_move(spec)):
        return None
    if moves:
        effective = None if effective is None else np.moveaxis(effective, axis, -1)
        offset = None if offset is None else np.moveaxis(offset, axis, -1)
    source = np.ascontiguousarray(np.moveaxis(x, axis, -1) if moves else x)
    is_direct = out is not None and not moves and out.flags.c_contiguous and not np.may_share_memory(x, out)
    target = out if is_direct and out is not None else np.empty_like(source)
    has_nan = _round(source, target, spec, axis if not moves else -1, effective, offset, working, mode)
    if has_nan is None or (has_nan and not spec.element.has_nan):
        return None  # the general path knows what to say
    if is_direct:
        return target
    result = np.moveaxis(target, -1, axis) if moves else target
    if out is None:
        return result
    out[...] = result
    return out


def _may_move(spec: Spec) -> bool:
    """Whether the grouped axis may be moved to the end: nothing depends on the order of elements or on a neighbour."""
    granularity, scale = spec.granularity, spec.scale
    assert granularity is not None and scale is not None
    is_plain = scale.granularity is None or scale.granularity.kind == "tensor"
    return len(granularity.block) < 2 and is_plain and not spec.cast.rounding.is_stochastic


# ---------------------------------------------------------------------------------------------- what rounds a value
def _choose_mode(spec: Spec, x: Array, given: Array | None) -> tuple[Any, Any] | None:
    """(type of scales and quotients, mode) under a `given` scale, if any; None where no kernel is exact."""
    needs_wide = _are_others_than_powers(spec, given)
    chosen = choose_mode(spec, x.dtype.type, needs_wide)  # type: ignore[arg-type]  # classes are hashable
    if chosen is not None:
        return chosen
    element, cast = spec.element, spec.cast
    if needs_wide or spec.has_zero_point or cast.rounding.is_stochastic:
        return None
    if x.dtype != np.float32 or x.size < TABLE_WORTH:
        return None
    is_forgiving = cast.rounding.kind == "nearest_even" and saturates(cast) and element.smallest >= 2.0**-100
    if spec.scale is not None and spec.scale.is_power_of_two and not is_forgiving:
        return None
    book = _codebook(element, cast)
    return None if book is None else (np.float32, book)


def _are_others_than_powers(spec: Spec, given: Array | None) -> bool:
    """Whether a scale was given that is no power of two although those of the spec are."""
    if given is None or spec.scale is None or not spec.scale.is_power_of_two:
        return False
    return bool((np.frexp(given)[0] != 0.5).any())


@lru_cache(maxsize=32)
def _codebook(element: Element, cast: Cast) -> codebook.Codebook | None:
    if cast.overflow.startswith("wrap"):
        return None

    def evaluate(x: NDArray[np.float32]) -> NDArray[np.float64]:
        numbers = x if element.has_nan else np.where(np.isnan(x), np.float32(0), x)
        return cast_to_element(numbers.astype(np.float64), element, cast)

    with np.errstate(invalid="ignore"):  # signalling NaNs among the bit patterns
        return codebook.build(evaluate)


def _with_random_bits(mode: Stochastic, x: Array, spec: Spec, random_bits: Any, seed: int | None) -> Any:
    count = spec.cast.rounding.random_bits
    if random_bits is None and seed is not None:
        if x.size > 1 << 32:
            return None
        key0, key1 = keys(seed)
        return Seeded(mode, np.uint32(key0), np.uint32(key1), np.uint32(32 - count))
    bits = draw_bits(x.shape, spec, random_bits, seed)
    return Given(mode, np.ascontiguousarray(bits, dtype=np.uint32).reshape(-1))


# -------------------------------------------------------------------------------------------------- which loop
def _round(
    x: Array,
    y: Array,
    spec: Spec,
    axis: int,
    scale: Array | None,
    offset: Array | None,
    working: Any,
    mode: Any,
) -> bool | None:
    """Round contiguous `x` into `y`; whether there was a NaN, None if no loop fits."""
    granularity = spec.granularity
    if granularity is None:
        return _round_segments(x, y, x.size, FLAT_PIECE, np.ones(1, working), None, mode)
    if scale is None and granularity.kind == "block" and len(granularity.block) == 1:
        rule, peaks = block_rule(x, spec, working)
        if rule is not None:
            return _round_blocks(x, y, granularity.block[0], peaks, rule, working, mode)
    if scale is None:
        levels, offset = dynamic_levels(x, spec, axis)
        scale = effective_scale(levels, spec, axis)
    scale = scale.astype(working)
    match granularity.kind:
        case "tensor":
            return _round_segments(x, y, x.size, FLAT_PIECE, scale, offset, mode)
        case "channel":
            inner = int(np.prod(x.shape[axis % x.ndim + 1 :], dtype=np.int64))
            if inner == 1:
                return _round_columns(x, y, scale, offset, mode)
            return _round_segments(x, y, inner, inner, scale, offset, mode)
        case "token":
            return _round_segments(x, y, x.shape[-1], x.shape[-1], scale, offset, mode)
        case _:
            return _round_in_blocks(x, y, granularity, axis, scale, offset, mode)


def _round_in_blocks(
    x: Array, y: Array, granularity: Granularity, axis: int, scale: Array, offset: Array | None, mode: Any
) -> bool | None:
    if len(granularity.block) == 1:
        return _round_segments(x, y, x.shape[-1], granularity.block[0], scale, offset, mode)
    if x.ndim < 2 or axis % x.ndim != x.ndim - 1:
        return None
    tall, wide = granularity.block
    rows = x.shape[-2]
    scale = np.repeat(scale, tall, axis=-2)[..., :rows, :]
    offset = None if offset is None else np.repeat(offset, tall, axis=-2)[..., :rows, :]
    return _round_segments(x, y, x.shape[-1], wide, scale, offset, mode)


def _round_segments(
    x: Array, y: Array, length: int, block: int, scale: Array, offset: Array | None, mode: Any
) -> bool:
    flat_x, flat_y = x.reshape(-1), y.reshape(-1)
    scales = np.ascontiguousarray(scale).reshape(-1)
    zero_points = _zero_points(offset, mode, 1)
    pieces = x.size // length * -(-length // block)

    def work(first: int, last: int) -> bool:
        return bool(round_segments(flat_x, flat_y, first, last, length, block, scales, zero_points, mode))

    return spread(work, pieces, x.size)


def _round_columns(x: Array, y: Array, scale: Array, offset: Array | None, mode: Any) -> bool:
    flat_x, flat_y = x.reshape(-1), y.reshape(-1)
    zero_points = _zero_points(offset, mode, scale.size)

    def work(first: int, last: int) -> bool:
        return bool(round_columns(flat_x, flat_y, first, last, scale, zero_points, mode))

    return spread(work, x.size // scale.size, x.size)


def _round_blocks(x: Array, y: Array, block: int, peaks: Array, rule: Any, working: Any, mode: Any) -> bool:
    flat_x, flat_y = x.reshape(-1), y.reshape(-1)
    length, block = rows_in_blocks(x, block)
    one, zero = np.ones(1, working), _zero_points(None, mode, 1)[0]

    def work(first: int, last: int) -> bool:
        return bool(round_blocks(flat_x, flat_y, peaks, first, last, length, block, rule, one, zero, mode))

    return spread(work, x.size // length * stretches_of(length, block), x.size)


def _zero_points(offset: Array | None, mode: Any, count: int) -> Array:
    """Zero points in the type the mode computes in."""
    if isinstance(mode, codebook.Codebook):
        return np.zeros(count, np.float32)
    inner = mode.mode if isinstance(mode, Given | Seeded) else mode
    carrier = type(inner.grid.cap)
    return (
        np.zeros(count, carrier)
        if offset is None
        else np.ascontiguousarray(offset, dtype=carrier).reshape(-1)
    )
