"""What the kernels are told: the facts of a grid, and one tuple type for each way of rounding onto it.

The type of the tuple chooses the kernel when a loop is compiled, its scalars are run-time arguments: one compiled loop
serves every format that rounds in the same way.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Grid(NamedTuple):
    """Facts of a grid as scalars of the carrier type (float32 or float64) the arithmetic runs in.

    `_positive` and `_negative` describe magnitudes on either side of zero, before a zero point shifts them.
    """

    smallest_normal: Any  # where steps start to double
    step_of_power: Any  # step / power of two below the value = 2^-mantissa
    magic_of_power: Any  # C / power of two below the value = 2^(carrier mantissa - mantissa)
    lowest_step: Any  # the step below smallest_normal (a format without subnormals: smallest_normal itself)
    lowest_magic: Any  # C below smallest_normal
    cap: Any  # a power of two beyond every threshold; larger magnitudes are cut to it first, so that C cannot overflow
    top_positive: Any  # the largest magnitude
    top_negative: Any
    over_positive: Any  # what a finite value that rounds beyond top becomes
    over_negative: Any
    infinite_positive: Any  # what an infinity becomes
    infinite_negative: Any
    zero: Any  # -0.0 keeps the sign of a zero, +0.0 makes every zero +0


class NearestEven(NamedTuple):
    """Round to nearest, ties to even."""

    grid: Grid


class NearestEvenWide(NamedTuple):
    """The same for a grid as wide as the carrier, as bfloat16 is in float32: C would overflow at its upper end."""

    grid: Grid
    lower: Any  # values from 1 on are rounded this factor (2^-64) lower,
    lift: Any  # and lifted back


class Directed(NamedTuple):
    """Round away from zero iff the discarded part, in steps, exceeds a threshold chosen by sign and parity.

    With thresholds 0 (always, unless exact), the largest number below 1/2 (ties included), 1/2 (ties excluded) and
    1 (never) these are all ten deterministic modes.
    """

    grid: Grid
    positive_even: Any
    positive_odd: Any
    negative_even: Any
    negative_odd: Any


class Stochastic(NamedTuple):
    """Round away from zero iff the discarded part in steps reaches 1 - (r + offset) * 2^-bits, r the random bits.

    `ties_even` / `ties_odd` say whether reaching it exactly is enough when 2^bits - r is even / odd.
    """

    grid: Grid
    certain: Any  # 2^bits - offset: with that many random steps even a rest of 0 would round away
    resolution: Any  # 2^-bits
    ties_even: Any
    ties_odd: Any


class Given(NamedTuple):
    """Stochastic rounding with random bits that the caller brought: a flat uint32 array."""

    mode: Stochastic
    random_bits: Any


class Seeded(NamedTuple):
    """Stochastic rounding with the bits qsim.casting.random_bits defines for a seed; shift = 32 - their number."""

    mode: Stochastic
    key0: Any
    key1: Any
    shift: Any


class PowerOfTwoRule(NamedTuple):
    """A block's scale is 2^(floor(log2 peak) - emax), doubled where the peak lies high in its binade.

    In the type of scales and quotients.
    """

    per_power: Any  # 2^-emax of the element
    doubled_beyond: Any  # peak / power of two below it, beyond which the scale doubles; 2 for never
    smallest: Any  # the range of the scale's format
    largest: Any
    for_zero: Any  # the scale of a block of zeros
    smallest_normal: Any  # of the type of the data; the power below a smaller peak is taken after lifting it
    lift: Any
    drop: Any  # 1 / lift


class AmaxRule(NamedTuple):
    """A block's scale is peak / divisor / outer, rounded to the scale's format, times outer.

    One level: outer is 1 and the facts are float64. Under a tensor scale: the facts are of the type of the data.
    """

    divisor: Any  # largest value of the element
    outer: Any
    mode: NearestEven
    for_zero: Any  # the stored scale of a block of zeros
    smallest: Any  # stored instead of a scale that rounds to zero
