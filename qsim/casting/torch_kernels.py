"""Casts of torch tensors where they lie, on any device, with torch's own operations: the bits of `qsim.quantize`.

The same facts and the same arithmetic as the compiled kernels (qsim.casting.fast.grid), written once more for tensors.
Every step is one that a fusing compiler must keep: masks on the integer view of a float, and the addition that rounds
(Dekker, 1971), which only a compiler free to reassociate could delete; no step is a conversion to a narrow type, which
torch.compile removes.

    round_value, random_bits_of     one value onto a grid             (qsim.casting.fast.grid, stochastic)
    Groups, group, ungroup          which elements share a scale      (qsim.casting.groups)
    Level, scale_and_zero_point     the scale rules                   (qsim.casting.scales)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from qsim.casting.fast.facts import mode_of
from qsim.casting.fast.modes import Directed, Grid, NearestEven, NearestEvenWide, Stochastic
from qsim.casting.groups import nested_axis
from qsim.casting.random_bits import MULTIPLIER0, MULTIPLIER1
from qsim.casting.scales import ZERO_AMAX_EXPONENT, divisor_of
from qsim.formats import E8M0, Element
from qsim.spec import POWER_OF_TWO_RULES, Cast, Granularity, Scale

#              integer view  exponent field
_LAYOUT = {
    torch.float32: (torch.int32, 0xFF << 23),
    torch.float64: (torch.int64, 0x7FF << 52),
}


# ------------------------------------------------------------------------------------------ one value onto a grid
def round_value(value: Tensor, zero_point: Any, random: Tensor | None, mode: Any) -> Tensor:
    """`value` (of the carrier type) on the grid of `mode`, less `zero_point`; see qsim.casting.fast.modes."""
    grid, magnitude = mode.grid, value.abs()
    if isinstance(mode, NearestEvenWide):
        is_high = magnitude >= 1
        lowered = torch.where(is_high, magnitude * mode.lower, magnitude)
        magic, _ = _magic_and_step(lowered, grid)
        rounded = (lowered + magic) - magic
        return _within_range(value, torch.where(is_high, rounded * mode.lift, rounded), zero_point, grid)
    magnitude = torch.where(magnitude > grid.cap, grid.cap, magnitude)
    magic, step = _magic_and_step(magnitude, grid)
    total = magnitude + magic
    nearest = total - magic
    if isinstance(mode, NearestEven):
        return _within_range(value, nearest, zero_point, grid)
    too_far = nearest > magnitude
    lower = torch.where(too_far, nearest - step, nearest)
    rest = magnitude - lower
    if isinstance(mode, Directed):
        is_odd = ((total.view(_LAYOUT[total.dtype][0]) & 1) == 1) ^ too_far
        if_positive = _either(is_odd, mode.positive_odd, mode.positive_even, step)
        if_negative = _either(is_odd, mode.negative_odd, mode.negative_even, step)
        away = rest > torch.where(value < 0, if_negative, if_positive) * step
    else:
        assert isinstance(mode, Stochastic) and random is not None
        threshold = (mode.certain - random.to(step.dtype)) * mode.resolution * step
        ties = torch.where((random & 1) == 1, mode.ties_odd, mode.ties_even)
        away = (rest > threshold) | ((rest == threshold) & ties)
    return _within_range(value, torch.where(away, lower + step, lower), zero_point, grid)


def _magic_and_step(magnitude: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """The power of two whose addition rounds to the step of the grid at `magnitude`, and that step."""
    integer, exponent = _LAYOUT[magnitude.dtype]
    power = (magnitude.view(integer) & exponent).view(magnitude.dtype)
    is_low = power < grid.smallest_normal
    magic = torch.where(is_low, grid.lowest_magic, power * grid.magic_of_power)
    return magic, torch.where(is_low, grid.lowest_step, power * grid.step_of_power)


def _within_range(value: Tensor, rounded: Tensor, zero_point: Any, grid: Grid) -> Tensor:
    """Overflow, infinities and the sign; NaN passes every comparison."""
    is_negative, shift = value < 0, 0.0 if zero_point is None else zero_point
    sides = zip(grid[-7:-1:2], grid[-6:-1:2], strict=True)  # (positive, negative) of top, over and infinite
    ends = [_either(is_negative, low + shift, high - shift, value) for high, low in sides]
    rounded = torch.where(rounded > ends[0], ends[1], rounded)
    rounded = torch.where(value.abs() == math.inf, ends[2], rounded)
    signed = torch.copysign(rounded, value)
    return signed if math.copysign(1.0, grid.zero) < 0 else torch.where(signed == 0, 0.0, signed)


def _either(condition: Tensor, yes: Any, no: Any, like: Tensor) -> Tensor:
    """torch.where in the type of `like`: of two Python numbers it would make float32."""
    yes = yes if isinstance(yes, Tensor) else like.new_full((), yes)
    return torch.where(condition, yes, no)


def random_bits_of(shape: torch.Size, seed_keys: Tensor, count: int) -> Tensor:
    """qsim.casting.random_bits.seeded_bits in int32, whose products wrap; the shifts are made logical by masks."""
    size = math.prod(shape)
    h = torch.arange(size, dtype=torch.int64, device=seed_keys.device).to(torch.int32) ^ seed_keys[0]
    h = (h ^ (h >> 16 & 0xFFFF)) * signed_word(MULTIPLIER0)
    h = ((h ^ (h >> 15 & 0x1FFFF)) + seed_keys[1]) * signed_word(MULTIPLIER1)
    h = h ^ (h >> 16 & 0xFFFF)
    h = h if count < 32 else h.to(torch.int64)
    return (h >> 32 - count & (1 << count) - 1).reshape(shape)


def signed_word(word: int) -> int:
    """The int32 of the same 32 bits."""
    return word - (1 << 32) if word >> 31 else word


# ------------------------------------------------------------------------------------------ groups and their scales
class Groups(NamedTuple):
    """A tensor with its blocks padded by zeros and split off."""

    view: Tensor
    dims: list[int]  # along which one scale is shared
    shape: tuple[int, ...]  # one value a group: Granularity.scale_shape

    def reduce(self, values: Tensor, function: Callable[..., Tensor]) -> Tensor:
        return function(values, self.dims).reshape(self.shape)

    def spread(self, values: Tensor) -> Tensor:
        """Values of the groups, so that they broadcast against `view`."""
        if values.ndim == 0:
            return values
        return values.reshape([1 if a in self.dims else n for a, n in enumerate(self.view.shape)])


def group(x: Tensor, granularity: Granularity, axis: int) -> Groups:
    """`x` seen as the groups that share a scale."""
    shape = granularity.scale_shape(x.shape, axis)
    if granularity.kind != "block" or x.ndim == 0:
        every, own = list(range(x.ndim)), axis % max(x.ndim, 1)
        others = [a for a in every if a != own]
        return Groups(x, {"channel": others, "token": [own]}.get(granularity.kind, every), shape)
    dims: list[int] = []
    pairs = list(zip(granularity.axes(x.ndim, axis), granularity.block, strict=True))
    if pairs[0][0] < pairs[-1][0]:
        pairs.reverse()  # the last axis first, so that the other keeps its number
    for block_axis, size in pairs:
        missing = -x.shape[block_axis] % size
        if missing:
            x = torch.nn.functional.pad(x, [0, 0] * (x.ndim - 1 - block_axis) + [0, missing])
        x = x.unflatten(block_axis, (x.shape[block_axis] // size, size))
        dims = [block_axis + 1, *(dim + 1 for dim in dims)]
    return Groups(x, dims, shape)


def ungroup(view: Tensor, shape: torch.Size, dims: list[int]) -> Tensor:
    """A tensor in the shape of a `Groups.view` in the `shape` before grouping."""
    if view.ndim == len(shape):
        return view
    for k, dim in enumerate(dims):
        view = view.flatten(dim - 1 - k, dim - k)
    for a, length in enumerate(shape):
        view = view.narrow(a, 0, length)
    return view


class Level(NamedTuple):
    """What computes one level of a scale, and the level above it, in plain numbers (a compiler traces them)."""

    rule: str
    largest: tuple[float, int]  # math.frexp of the largest value of what is scaled
    precision: int  # of the same
    ends: tuple[float, float]  # lowest and largest value of the same
    stored_ends: tuple[float, float]  # smallest and largest value of the scale's format
    for_zero: float
    mode: Any  # of the scale's format; None for e8m0, whose rules here give powers of two
    granularity: Granularity | None
    outer: Level | None


def level_of(element: Element, scale: Scale) -> Level | None:
    """The facts of a scale; None where a format in it is not covered."""
    mode, is_e8m0 = mode_of(scale.element, Cast(), np.float64), scale.element == E8M0
    outer = None if scale.scale is None else level_of(scale.element, scale.scale)
    if (scale.rule not in POWER_OF_TWO_RULES if is_e8m0 else mode is None) or (scale.scale and not outer):
        return None
    return Level(
        scale.rule,
        math.frexp(element.largest),
        element.precision,
        (element.lowest, element.largest),
        (scale.element.smallest, scale.element.largest),
        1.0 if scale.element.bits >= 16 else scale.element.smallest,
        plain(mode),
        scale.granularity,
        outer,
    )


def divisors_of(element: Element, scale: Scale) -> list[float]:
    """What the peaks are divided by on every level."""
    own = element.largest - element.lowest if scale.rule == "minmax" else divisor_of(element, scale.rule)
    inner = [] if scale.scale is None else divisors_of(scale.element, scale.scale)
    return [own, *(own * value for value in inner)]


def _scale(peaks: Tensor, level: Level, axis: int, dtype: torch.dtype, divisors: Sequence[Tensor]) -> Tensor:
    """The effective scale of groups with these float64 peaks: qsim.casting.scales._levels and their product."""
    if level.rule in POWER_OF_TWO_RULES:
        return _stored(_power_of_two(peaks, level), level).to(dtype)
    ideal = peaks / divisors[0]
    if level.granularity is None or level.outer is None:
        return _stored(ideal, level).to(dtype)
    outer_axis = nested_axis(level.granularity, peaks.ndim, axis)
    groups = group(peaks, level.granularity, outer_axis)
    outer_peaks = groups.reduce(groups.view, torch.amax)
    outer = _scale(outer_peaks, level.outer, outer_axis, dtype, divisors[1:])
    spread = ungroup(groups.spread(outer).expand(groups.view.shape), peaks.shape, groups.dims)
    own = ideal.to(dtype) / spread
    return _stored(own.to(torch.float64), level).to(dtype) * spread


def _power_of_two(peaks: Tensor, level: Level) -> Tensor:
    mantissa, exponent = torch.frexp(torch.where(peaks > 0, peaks, 2.0**ZERO_AMAX_EXPONENT))
    power = exponent.to(torch.int64) - level.largest[1]
    match level.rule:
        case "ceil":
            power = power + (mantissa > 0.5)
        case "even":
            power = power + (mantissa >= 1 - 2.0 ** -(level.precision + 1))
        case "rceil":
            power = power + (mantissa > level.largest[0])
    return ((power.clamp(-1022, 1023) + 1023) << 52).view(torch.float64)


def _stored(ideal: Tensor, level: Level) -> Tensor:
    """A scale (float64) in its own format, never zero: qsim.casting.scales._to_scale_format."""
    positive = torch.where(ideal > 0, ideal, level.for_zero)
    if level.mode is None:
        return positive.clamp(*level.stored_ends)
    stored = round_value(positive, None, None, level.mode)
    return torch.where(stored > 0, stored, level.stored_ends[0])


def scale_and_zero_point(groups: Groups, level: Level, axis: int, divisors: Sequence[Tensor]) -> Any:
    """By the scale rule, in the group shape; no zero point but for the rule minmax, whose range holds zero."""
    finite, dtype = torch.where(groups.view.isfinite(), groups.view, 0.0), groups.view.dtype
    if level.rule != "minmax":
        peaks = groups.reduce(finite.abs(), torch.amax).to(torch.float64)
        return _scale(peaks, level, axis, dtype, divisors), None
    low = groups.reduce(finite, torch.amin).to(torch.float64).clamp(max=0.0)
    high = groups.reduce(finite, torch.amax).to(torch.float64).clamp(min=0.0)
    scale = _scale(high - low, level, axis, dtype, divisors)
    first, last = level.ends
    return scale, torch.round(first - low / scale.to(torch.float64)).clamp(first, last)


def plain(mode: Any) -> Any:
    """The scalars of a mode as Python numbers, which torch takes in the type of the tensor beside them."""
    if isinstance(mode, tuple):
        return type(mode)(*map(plain, mode))
    return mode.item() if isinstance(mode, np.generic) else mode
