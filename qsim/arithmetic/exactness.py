"""Which fast way of forming sums is provably the same, bit for bit, for the operands at hand.

Facts used throughout. All products are multiples of one quantum, so every sum of them is; a sum below 2^24 quanta is a
float32, below 2^53 a float64, in whatever order it is formed. And a sum of two numbers of p digits each that is first
rounded to q >= 2p + 2 digits and then to at most p digits is rounded as if once (Figueroa, "When is double rounding
innocuous?", SIGNUM 1995), subnormal results included where one addend is a multiple of the smallest subnormal.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from qsim.arithmetic.kernels import tiles
from qsim.arithmetic.kernels.survey import Facts
from qsim.arithmetic.mac import Mac
from qsim.formats import Element, Float, TwosComplement
from qsim.parse import parse
from qsim.spec import Spec

SINGLE_DIGITS, DOUBLE_DIGITS = 24, 53
_SINGLE, _DOUBLE = np.dtype(np.float32), np.dtype(np.float64)


@dataclass(frozen=True)
class Sums:
    """What is known about the sums: `length` products, all finite, of facts a times b, started at facts `bias`.

    reach: a bound on the sum of the magnitudes of all products and the bias of any one output.
    block_digits: digits that hold every value of any one block of a, and of b, if that was looked into (0: it was not).
    """

    a: Facts
    b: Facts
    bias: Facts
    length: int
    reach: float
    block_digits: int = 0

    @property
    def quantum_bit(self) -> int:
        """log2 of a number that every product, the bias and so every exact sum is a multiple of."""
        product = self.a.lowest_bit + self.b.lowest_bit
        return min(product, self.bias.lowest_bit) if self.bias.largest > 0 else product

    @property
    def digits(self) -> int:
        """Significant digits of any one addend."""
        return max(self.a.digits + self.b.digits, self.bias.digits)

    @property
    def largest_product(self) -> float:
        return self.a.largest * self.b.largest

    def quanta(self, magnitude: float) -> float:
        """`magnitude` counted in quanta."""
        return magnitude * 2.0**-self.quantum_bit

    def exact_carrier(self, magnitude: float) -> np.dtype[Any] | None:
        """The narrowest float type that holds every multiple of the quantum up to `magnitude`; None: neither does."""
        for carrier, digits, lowest, highest in (
            (_SINGLE, SINGLE_DIGITS, -149, 127),
            (_DOUBLE, DOUBLE_DIGITS, -900, 900),
        ):
            fits = max(self.a.digits, self.b.digits, self.bias.digits) <= digits
            in_range = (
                self.quantum_bit >= lowest and max(magnitude, self.a.largest, self.b.largest) < 2.0**highest
            )
            in_range = in_range and min(self.a.lowest_bit, self.b.lowest_bit) >= lowest
            if fits and in_range and self.quanta(magnitude) <= 2.0**digits:
                return carrier
        return None


@dataclass(frozen=True)
class Blas:
    """The exact sum, as one BLAS product in `carrier`, then (for `then`) one cast."""

    carrier: np.dtype[Any]
    then: Spec | None = None


@dataclass(frozen=True)
class SplitBlas:
    """The exact sum rounded once to float64: a is cut at the bits `cuts`, each part times b is exact in float64."""

    cuts: tuple[int, ...]


@dataclass(frozen=True)
class Tiles:
    """A register-tiled product in `carrier` with the rounding `mode` at every step; a is multiplied by 2^a_shift and
    b by 2^b_shift before, the result by 2^-(a_shift + b_shift) after; then one cast for `then`.
    """

    carrier: np.dtype[Any]
    mode: Any
    a_shift: int = 0
    b_shift: int = 0
    then: Spec | None = None


@dataclass(frozen=True)
class Blocks:
    """Exact sums of `block` products in `carrier`, added up in float32."""

    carrier: np.dtype[Any]
    block: int


Path = Blas | SplitBlas | Tiles | Blocks


def is_fastest(path: Path | None) -> bool:
    """Whether a tighter bound on the sums cannot lead to a faster way."""
    match path:
        case Blas() | Blocks():
            return path.carrier == _SINGLE
        case Tiles():
            return path.carrier.itemsize <= 4 and isinstance(path.mode, tiles.Split | tiles.Saturating)
    return False


def fast_path(mac: Mac, sums: Sums) -> Path | None:
    """The fast way that gives the bits of `mac` for these sums, or None."""
    facts = (sums.a, sums.b, sums.bias)
    if mac.multiply != "exact" or mac.align_bits is not None or not all(fact.is_finite for fact in facts):
        return None
    if mac.product != "exact" and not _keeps_products(parse(mac.product), sums):
        return None
    casts = [name for name in (mac.accumulator, mac.chunk_accumulator) if name not in (None, "exact")]
    if all(_holds(parse(name), sums, sums.reach) for name in casts if name) and _zeros_are_positive(
        mac, casts
    ):
        carrier = sums.exact_carrier(sums.reach)
        return Blas(carrier) if carrier is not None else _split(mac, sums)
    blocks = _blocks(mac, sums)
    if blocks is not None or mac.chunk is not None or mac.accumulator == "exact":
        return blocks
    spec = parse(mac.accumulator)
    if isinstance(spec.element, TwosComplement):
        return _fixed_point(mac, spec, spec.element, sums)
    return _floating_point(mac, spec, spec.element, sums) if isinstance(spec.element, Float) else None


def _split(mac: Mac, sums: Sums) -> SplitBlas | None:
    """Two or three exact products for an exact register without bias, where b and the length leave digits for a."""
    if mac.accumulator != "exact" or mac.chunk_accumulator not in (None, "exact") or sums.bias.largest > 0:
        return None
    top = math.frexp(sums.a.largest)[1]
    b_digits = math.frexp(sums.b.largest)[1] - sums.b.lowest_bit
    part = (
        DOUBLE_DIGITS - b_digits - (sums.length - 1).bit_length() - 1
    )  # one digit more for rounding the cut up
    parts = -(-(top - sums.a.lowest_bit) // part) if part > 0 else 0
    in_range = sums.quantum_bit > -900 and sums.reach < 2.0**900
    if not in_range or not 2 <= parts <= 3 or part + 52 > 900:
        return None
    return SplitBlas(tuple(top - part * (i + 1) for i in range(parts - 1)))


def _holds(spec: Spec, sums: Sums, magnitude: float) -> bool:
    """Whether every multiple of the quantum up to `magnitude` is a number of the format, so that no cast changes it."""
    element: Element = spec.element
    if not isinstance(element, TwosComplement | Float) or sums.quantum_bit < _lowest_step(element):
        return False
    bounds = (largest_of(element), -lowest_of(element))
    return magnitude <= min(bounds) and (
        isinstance(element, TwosComplement) or sums.quanta(magnitude) <= 2.0**element.precision
    )


def _zeros_are_positive(mac: Mac, casts: Sequence[str | None]) -> bool:
    """Whether a sum that starts at +0 never becomes -0: a tree does not start there, and floor makes x - x a -0."""
    if casts and not any(parse(name).element.has_negative_zero for name in casts if name):
        return True
    return mac.order == "sequential" and not any("/floor" in name for name in casts if name)


def _keeps_products(spec: Spec, sums: Sums) -> bool:
    """Whether every product is a number of the format."""
    element: Element = spec.element
    if not isinstance(element, TwosComplement | Float) or sums.quantum_bit < _lowest_step(element):
        return False
    in_range = sums.largest_product <= min(largest_of(element), -lowest_of(element))
    has_digits = isinstance(element, TwosComplement) or sums.a.digits + sums.b.digits <= element.precision
    return in_range and has_digits and element.has_negative_zero


@lru_cache(maxsize=256)
def largest_of(element: Element) -> float:
    """element.largest, which decodes a code each time it is asked."""
    return element.largest


@lru_cache(maxsize=256)
def lowest_of(element: Element) -> float:
    """element.lowest, likewise."""
    return element.lowest


def _lowest_step(element: TwosComplement | Float) -> int:
    """log2 of the step around zero."""
    if isinstance(element, Float) and not element.subnormals:
        return element.smallest_exponent
    return element.step_exponent


def _blocks(mac: Mac, sums: Sums) -> Blocks | None:
    """`lanes` products, or a chunk of them in an exact register, into a float32 accumulator."""
    exact_chunk = mac.accumulator == "exact" and mac.chunk is not None
    block, name = (mac.chunk, mac.chunk_accumulator) if exact_chunk else (mac.lanes, mac.accumulator)
    if mac.order != "sequential" or block is None or block < 2 or name in (None, "exact"):
        return None
    if mac.chunk is not None and not exact_chunk:
        return None
    spec = parse(str(name))
    is_float32 = spec.element == parse("float32").element and spec.cast.rounding.kind == "nearest_even"
    if not is_float32 or _can_overflow(spec.element, sums) or sums.quantum_bit < -149:
        return None
    if (
        sums.block_digits
        and sums.block_digits + (block - 1).bit_length() <= SINGLE_DIGITS
        and _fits_single(sums)
    ):
        return Blocks(_SINGLE, block)
    of_block = sums.exact_carrier(min(sums.reach, block * sums.largest_product + sums.bias.largest))
    if of_block == _SINGLE:
        return Blocks(_SINGLE, block)
    return Blocks(_DOUBLE, block) if sums.exact_carrier(2.0 * sums.reach) is not None else None


def _fits_single(sums: Sums) -> bool:
    """Whether operands, products and sums are in float32's range, and the operands have few enough digits."""
    digits = max(sums.a.digits, sums.b.digits, sums.bias.digits)
    lowest = min(sums.quantum_bit, sums.a.lowest_bit, sums.b.lowest_bit)
    return (
        digits <= SINGLE_DIGITS
        and lowest >= -149
        and max(2.0 * sums.reach, sums.a.largest, sums.b.largest) < 2.0**127
    )


def block_of(mac: Mac) -> int | None:
    """How many products are summed exactly before each rounding, where that is more than one and not all."""
    size = mac.chunk if mac.accumulator == "exact" else mac.lanes if mac.chunk is None else None
    return size if size is not None and size > 1 else None


def _grown_reach(element: Element, sums: Sums) -> float:
    """A bound on every partial sum, each step rounded up by at most one part in 2^(precision - 1)."""
    growth_bits = (sums.length + 1) * math.log2(1.0 + 2.0 ** (1 - element.precision))
    return sums.reach * 2.0**growth_bits if growth_bits < 900 else math.inf


def _can_overflow(element: Element, sums: Sums) -> bool:
    return not _grown_reach(element, sums) < largest_of(element)


def _fixed_point(mac: Mac, spec: Spec, element: TwosComplement, sums: Sums) -> Path | None:
    overflow = spec.cast.overflow
    wraps, saturates = overflow == "wrap", overflow in ("saturate", "saturate_finite", "saturate_symmetric")
    if sums.quantum_bit >= element.step_exponent and (wraps or mac.saturate == "end"):
        # Wrapping commutes with addition, and at the end there is only one cast.
        carrier = sums.exact_carrier(sums.reach)
        return None if carrier is None else Blas(carrier, spec)
    if mac.lanes > 1 or mac.order != "sequential" or mac.saturate == "end" or not (wraps or saturates):
        return None
    low = -largest_of(element) if overflow == "saturate_symmetric" and element.signed else lowest_of(element)
    if sums.quantum_bit < element.step_exponent:
        return _floored(spec, element, sums, low)
    shifts = (-sums.a.lowest_bit, sums.a.lowest_bit - element.step_exponent)
    if low == lowest_of(element) and _fits_int16(element, sums, shifts):
        return Tiles(np.dtype(np.int16), tiles.Saturating(), *shifts)
    carrier = sums.exact_carrier(
        largest_of(element) + max(-lowest_of(element), sums.bias.largest) + sums.largest_product
    )
    if carrier is None:
        return None
    return Tiles(carrier, tiles.Clipped(carrier.type(low), carrier.type(largest_of(element))))


def _fits_int16(element: TwosComplement, sums: Sums, shifts: tuple[int, int]) -> bool:
    """Whether the accumulator is int16, and the operands shifted to its step and their products are such integers."""
    scaled = [fact.largest * 2.0**shift for fact, shift in zip((sums.a, sums.b), shifts, strict=True)]
    is_whole = sums.bias.largest == 0 or sums.bias.lowest_bit >= element.step_exponent
    bias_fits = is_whole and sums.bias.largest <= largest_of(element)
    return (
        element.bits == 16 and element.signed and bias_fits and max(*scaled, math.prod(scaled)) <= 2**15 - 1
    )


def _floored(spec: Spec, element: TwosComplement, sums: Sums, low: float) -> Tiles | None:
    """Products finer than the accumulator: floor(acc + p) = acc + floor(p) for an acc of whole steps, half up alike."""
    offset = {"floor": 0.0, "nearest_up": 0.5}.get(spec.cast.rounding.kind)
    step = element.step_exponent
    if offset is None or (sums.bias.largest > 0 and sums.bias.lowest_bit < step):
        return None
    wraps = spec.cast.overflow == "wrap"
    most = (
        sums.reach + (sums.length + 1) * 2.0**step
        if wraps
        else 2.0 * (largest_of(element) - lowest_of(element))
    )
    carrier = sums.exact_carrier(most + 2.0 * sums.largest_product + 2.0**step)
    if carrier is None or step - sums.quantum_bit < 1:
        return None
    limits = (-math.inf, math.inf) if wraps else (low * 2.0**-step, largest_of(element) * 2.0**-step)
    mode = tiles.Floored(*(carrier.type(value) for value in (offset, *limits)))
    return Tiles(carrier, mode, a_shift=-step, then=spec if wraps else None)


def _floating_point(mac: Mac, spec: Spec, element: Float, sums: Sums) -> Tiles | None:
    """Rounded to nearest even after every addition: in float32 or float64, then to the format's digits."""
    is_plain = element.subnormals and element.signed and element.has_negative_zero and element.mantissa > 0
    sequential = mac.lanes == 1 and mac.order == "sequential"
    if not is_plain or not sequential or spec.cast.rounding.kind != "nearest_even":
        return None
    overflows = _can_overflow(element, sums)
    to_nan = spec.cast.overflow == "ieee" and not element.has_infinity
    if overflows and (mac.saturate == "end" or spec.cast.overflow == "saturate_zero" or to_nan):
        return None
    # Beyond the largest number sums only matter as such: the carrier has to hold them up to the next product.
    beyond = 2.0 * largest_of(element) + sums.largest_product + sums.bias.largest
    most = beyond if overflows else _grown_reach(element, sums)
    for carrier, digits, highest in ((_SINGLE, SINGLE_DIGITS, 127), (_DOUBLE, DOUBLE_DIGITS, 900)):
        fits = max(sums.a.digits + sums.b.digits, sums.bias.digits) <= digits and most < 2.0**highest
        lowest = -149 if carrier == _SINGLE else -900
        # The shift that rounds is 2^(digits - precision) times the value, and must not overflow either.
        fits = fits and most < 2.0 ** (highest - (digits - element.precision) - 2)
        fits = (
            fits
            and min(sums.quantum_bit, sums.a.lowest_bit, sums.b.lowest_bit, element.step_exponent) >= lowest
        )
        is_exact = sums.quanta(most) <= 2.0**digits
        if fits and (is_exact or digits >= 2 * max(element.precision, sums.digits) + 2):
            return Tiles(carrier, _rounding_mode(spec, element, sums, carrier, digits, overflows))
    return None


def _rounding_mode(
    spec: Spec, element: Float, sums: Sums, carrier: np.dtype[Any], digits: int, overflows: bool
) -> Any:
    """The cheapest step that rounds right, given what cannot come up."""
    number = carrier.type
    dropped = digits - element.precision
    # Below the smallest normal number every multiple of the quantum is a subnormal number: nothing is rounded there.
    if not overflows and sums.quantum_bit >= element.step_exponent:
        return tiles.Split(number(2.0**dropped + 1.0))
    saturates = spec.cast.overflow != "ieee"
    is_half = element == parse("float16").element and carrier == _SINGLE
    if is_half and tiles.HAS_HALF and not (overflows and saturates):
        return tiles.Half()
    grid = (number(2.0**element.smallest_exponent), number(1.5 * 2.0**dropped))
    if not overflows:
        return tiles.Grid(*grid)
    if saturates:
        return tiles.SaturatingGrid(*grid, number(largest_of(element)))
    return tiles.OverflowingGrid(*grid, number(largest_of(element)), number(4.0 * largest_of(element)))
