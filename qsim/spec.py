"""A tensor's number system: an element, cast in one way, on a granularity, with a scale that may itself be scaled.

The classes here hold facts only; `str` gives the one canonical expression of a spec, `qsim.parse` reads it
back. What an element is stands in `qsim.formats`, how values get into it in `qsim.casting`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from qsim.errors import SpecError
from qsim.formats import Element, Fixed, Integer, Table

ROUNDINGS = (
    "nearest_even",
    "nearest_away",
    "nearest_zero",
    "nearest_up",
    "nearest_down",
    "nearest_odd",
    "floor",
    "ceil",
    "toward_zero",
    "away_from_zero",
    "to_odd",
)
STOCHASTIC_ROUNDINGS = ("stochastic", "stochastic_even", "stochastic_odd", "stochastic_centered")
OVERFLOWS = (
    "saturate",
    "saturate_finite",
    "saturate_symmetric",
    "saturate_zero",
    "wrap",
    "wrap_sign_magnitude",
    "ieee",
)
POWER_OF_TWO_RULES = ("floor", "ceil", "even", "rceil")
SCALE_RULES = (*POWER_OF_TWO_RULES, "amax", "amax_half", "minmax")


@dataclass(frozen=True)
class Rounding:
    """How a value between two numbers of a format is resolved; `random_bits` is k of the stochastic kinds."""

    kind: str = "nearest_even"
    random_bits: int = 0

    def __post_init__(self) -> None:
        if self.kind in STOCHASTIC_ROUNDINGS:
            if not 1 <= self.random_bits <= 32:
                raise SpecError(f"{self.kind} rounding takes 1 to 32 random bits, not {self.random_bits}")
        elif self.kind not in ROUNDINGS:
            raise SpecError(f"unknown rounding '{self.kind}': one of {', '.join(ROUNDINGS)} or stochastic<k>")
        elif self.random_bits:
            raise SpecError(f"{self.kind} rounding takes no random bits")

    @property
    def is_stochastic(self) -> bool:
        return self.random_bits > 0

    def __str__(self) -> str:
        if not self.is_stochastic:
            return self.kind
        name, _, variant = self.kind.partition("_")
        return f"{name}{self.random_bits}" + (f"_{variant}" if variant else "")


@dataclass(frozen=True)
class Cast:
    """Rounding and overflow of one conversion. The default rounds to nearest even and saturates."""

    rounding: Rounding = field(default_factory=Rounding)
    overflow: str = "saturate"

    def __post_init__(self) -> None:
        if self.overflow not in OVERFLOWS:
            raise SpecError(f"unknown overflow '{self.overflow}': one of {', '.join(OVERFLOWS)}")

    def check(self, element: Element) -> None:
        """Raise SpecError where `element` cannot overflow this way."""
        is_fixed_point = isinstance(element, Integer | Fixed)
        if self.overflow.startswith("wrap") and not is_fixed_point:
            raise SpecError(
                f"{element} cannot overflow by '{self.overflow}': only int and fixed formats wrap"
            )
        if self.overflow == "wrap_sign_magnitude" and not element.signed:
            raise SpecError(f"{element} cannot overflow by 'wrap_sign_magnitude': it has no sign")
        if self.overflow == "ieee" and not (element.has_infinity or element.has_nan):
            raise SpecError(f"{element} cannot overflow by 'ieee': it has neither infinity nor NaN")

    def __str__(self) -> str:
        """The canonical suffix: empty for the default, else "/rounding", "/overflow" or "/rounding/overflow"."""
        rounding = "" if self.rounding == Rounding() else f"/{self.rounding}"
        overflow = "" if self.overflow == "saturate" else f"/{self.overflow}"
        return rounding + overflow


@dataclass(frozen=True)
class Granularity:
    """Which elements share one scale.

    tensor: all. channel: those of one index of the channel axis. token: those along the feature axis, one
    scale for each index of all other axes. block: `block[0]` consecutive ones along the reduction axis (the
    last block may be ragged), or tiles of block[0] x block[1], the second along that axis, the first along
    its neighbour.
    """

    kind: Literal["tensor", "channel", "token", "block"]
    block: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in ("tensor", "channel", "token", "block"):
            raise SpecError(f"unknown granularity '{self.kind}': one of tensor, channel, token, block<N>")
        if (self.kind == "block") != (len(self.block) in (1, 2)) or any(size < 1 for size in self.block):
            raise SpecError(
                f"granularity {self.kind} with block sizes {self.block}: block takes 1 or 2 sizes >= 1"
            )

    def axes(self, ndim: int, axis: int = -1) -> tuple[int, ...]:
        """The axes that `block` runs along, in its order, for a tensor of `ndim` axes."""
        axis %= max(ndim, 1)
        if len(self.block) < 2:
            return (axis,)
        if ndim < 2:
            raise SpecError(f"granularity {self} needs a tensor of at least 2 axes, not {ndim}")
        return neighbour_axis(ndim, axis), axis

    def scale_shape(self, shape: Sequence[int], axis: int = -1) -> tuple[int, ...]:
        """Shape of the scale array: () for tensor, (C,) for channel; else `shape` with each grouped axis
        replaced by its number of groups (1 for token).
        """
        dims = list(shape)
        if self.kind == "tensor" or not dims:
            return ()
        if self.kind == "channel":
            return (dims[axis],)
        if self.kind == "token":
            dims[axis] = 1
            return tuple(dims)
        for block_axis, size in zip(self.axes(len(dims), axis), self.block, strict=True):
            dims[block_axis] = -(-dims[block_axis] // size)
        return tuple(dims)

    def __str__(self) -> str:
        return self.kind + "x".join(str(size) for size in self.block)


def neighbour_axis(ndim: int, axis: int) -> int:
    """The other axis of the matrix that reduction axis `axis` (0 <= axis < ndim, ndim >= 2) lies in."""
    return axis - 1 if axis == ndim - 1 or axis > 1 else axis + 1


@dataclass(frozen=True)
class Scale:
    """The format of a scale, the rule that computes it, and the scale of the scale, if it has one.

    `rule` "" stands for the default of the pair (element, scale) and is replaced by it in `Spec`.
    """

    element: Element
    rule: str = ""
    granularity: Granularity | None = None
    scale: Scale | None = None

    def __post_init__(self) -> None:
        if self.rule and self.rule not in SCALE_RULES:
            raise SpecError(f"unknown scale rule '{self.rule}': one of {', '.join(SCALE_RULES)}")
        if (self.granularity is None) != (self.scale is None):
            raise SpecError(f"scale {self.element}: a granularity and a scale of the scale go together")
        if self.element.has_zero_point:
            raise SpecError(f"a scale cannot have a zero point: {self.element}")
        if self.rule in POWER_OF_TWO_RULES and self.scale is not None:
            raise SpecError(f"scale rule '{self.rule}' gives a power of two, which takes no scale of its own")

    @property
    def is_power_of_two(self) -> bool:
        """Whether every scale is a power of two, so that dividing by it is exact."""
        return self.rule in POWER_OF_TWO_RULES or self.element.is_power_of_two


def default_rule(element: Element, scale: Scale) -> str:
    """floor for e8m0 and other powers of two, minmax with a zero point, amax otherwise."""
    if element.has_zero_point:
        return "minmax"
    return "floor" if scale.element.is_power_of_two and scale.scale is None else "amax"


def _fill_rules(element: Element, scale: Scale) -> Scale:
    inner = None if scale.scale is None else _fill_rules(scale.element, scale.scale)
    return replace(scale, rule=scale.rule or default_rule(element, scale), scale=inner)


@dataclass(frozen=True)
class Spec:
    """One number system. Immutable, hashable, `qsim.parse(str(spec)) == spec`.

    element: what one value is stored as (qsim.formats). cast: how a value gets there. granularity and scale:
    which elements share a scale and how it is stored; both None for an element used as it is.
    """

    element: Element
    cast: Cast = field(default_factory=Cast)
    granularity: Granularity | None = None
    scale: Scale | None = None

    def __post_init__(self) -> None:
        if (self.granularity is None) != (self.scale is None):
            raise SpecError(f"{self.element}: a granularity and a scale go together")
        self.cast.check(self.element)
        if self.scale is None:
            if self.element.has_zero_point:
                raise SpecError(f"{self.element} has a zero point and so needs a granularity and a scale")
            return
        object.__setattr__(self, "scale", _fill_rules(self.element, self.scale))
        self._check_rule(self.scale.rule or default_rule(self.element, self.scale))

    def _check_rule(self, rule: str) -> None:
        if (rule == "minmax") != self.element.has_zero_point:
            hint = (
                "rule minmax needs a zero point (+zp)"
                if rule == "minmax"
                else "+zp takes the rule minmax only"
            )
            raise SpecError(f"{self.element} with scale rule '{rule}': {hint}")
        if rule == "amax_half" and not isinstance(self.element, Integer):
            raise SpecError(
                f"{self.element} with scale rule 'amax_half': the rule is for int and uint elements"
            )

    @property
    def bits(self) -> int:
        """Storage bits of one element, without its share of the scale."""
        return self.element.bits

    @property
    def is_dynamic(self) -> bool:
        """Whether the scale can only be computed at run time (`token`)."""
        return self.granularity is not None and self.granularity.kind == "token"

    @property
    def has_zero_point(self) -> bool:
        return self.element.has_zero_point

    @property
    def slug(self) -> str:
        """The spec as a file name: letters, digits and . _ + - only; different specs have different slugs."""
        return str(self).replace("@", "--").replace(":", "__").replace("/", "..")

    def scale_bits_per_element(self, shape: Sequence[int], axis: int = -1) -> float:
        """Bits of scales (all levels) and zero points stored for a tensor of `shape`, per element of it."""
        elements = math.prod(shape)
        if self.granularity is None or self.scale is None or elements == 0:
            return 0.0
        groups_shape = self.granularity.scale_shape(shape, axis)
        total = self.bits * math.prod(groups_shape) if self.has_zero_point else 0
        scale: Scale | None = self.scale
        while scale is not None:
            total += scale.element.bits * math.prod(groups_shape)
            if scale.granularity is not None:
                groups_shape = scale.granularity.scale_shape(groups_shape, axis)
            scale = scale.scale
        return total / elements

    def bind(self, tables: Mapping[str, Sequence[float]]) -> Spec:
        """The spec with the values of its `table_<name>` element filled in from `tables[name]` (as a plan does)."""
        if not isinstance(self.element, Table) or self.element.label not in tables:
            return self
        entries = tables[self.element.label]
        return replace(self, element=Table(self.element.label, tuple(float(v) for v in entries)))

    def __str__(self) -> str:
        text = f"{self.element}{self.cast}"
        element, granularity, scale = self.element, self.granularity, self.scale
        while scale is not None:
            rule = "" if scale.rule == default_rule(element, scale) else f"/{scale.rule}"
            text += f"@{granularity}:{scale.element}{rule}"
            element, granularity, scale = scale.element, scale.granularity, scale.scale
        return text
