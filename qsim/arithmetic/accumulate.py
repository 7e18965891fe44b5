"""One matrix product by one multiply-accumulate unit: the kernel that is exact for the operands at hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.arithmetic import fast_paths
from qsim.arithmetic.exactness import (
    Blas,
    Blocks,
    Path,
    SplitBlas,
    Sums,
    Tiles,
    block_of,
    fast_path,
    is_fastest,
)
from qsim.arithmetic.kernels import general, tiles
from qsim.arithmetic.kernels.rounding import EXACT, WIDEST_PRECISION, Target, cast, mix, target_of
from qsim.arithmetic.kernels.survey import Facts, survey, widest_block
from qsim.arithmetic.mac import Mac, l_mul_offset_bits
from qsim.casting.fast.threads import spread
from qsim.errors import UserError
from qsim.formats import Float, TwosComplement
from qsim.parse import parse
from qsim.spec import Spec

Array = NDArray[Any]
_MULTIPLY = ("exact", "l_mul_real", "l_mul_int_add")


@dataclass(frozen=True)
class Problem:
    """Products a [n, M, K] by b [n or 1, N, K] (both with the reduction last); bias [n or 1, M or 1, N or 1] or None.

    a_scale, b_scale: None or [n or 1, M or 1, chunks] and [n or 1, N or 1, chunks], factors of the chunk sums.
    seed and first_output number the random bits of stochastic rounding; fraction_bits: of the operands, for L-Mul.
    to_odd: an exact sum that is no float64 is rounded to odd, because a cast to fewer digits follows.
    """

    a: Array
    b: Array
    mac: Mac
    bias: Array | None = None
    a_scale: Array | None = None
    b_scale: Array | None = None
    fraction_bits: int | None = None
    seed: int = 0
    first_output: int = 0
    to_odd: bool = False

    @property
    def shape(self) -> tuple[int, int, int]:
        return (self.a.shape[0], self.a.shape[1], self.b.shape[1])

    @property
    def length(self) -> int:
        """Products per sum."""
        return int(self.a.shape[2])


def accumulate(problem: Problem) -> Array:
    """The accumulator's value for every output, [n, M, N] float32 or float64; an exact accumulator rounds to float64.

    Raises UserError where a NaN or an infinity meets a format that has none, and for L-Mul without fraction_bits.
    """
    mac = problem.mac
    if mac.multiply != "exact" and problem.fraction_bits is None:
        raise UserError("mac.multiply l_mul needs operands in a float format: pass what qsim.encode returns")
    bias = np.zeros((1, 1, 1)) if problem.bias is None else problem.bias
    facts = (survey(problem.a), survey(problem.b), survey(bias))
    if 0 in problem.shape or problem.length == 0:
        return _empty_sums(problem, bias)
    if not all(fact.is_finite for fact in facts):
        check_specials(problem.mac, (problem.a, problem.b, bias))
    path = find_path(problem, facts)
    return (
        run_generally(problem, facts)
        if path is None
        else fast_paths.run(path, problem.a, problem.b, problem.bias)
    )


def find_path(problem: Problem, facts: tuple[Facts, Facts, Facts]) -> Path | None:
    """The fast way that is provably exact here, if there is one."""
    if problem.a_scale is not None or problem.b_scale is not None:
        return None
    loose = (facts[0].largest * facts[1].largest * problem.length + facts[2].largest) * (1.0 + 2.0**-40)
    path = fast_path(problem.mac, Sums(*facts, problem.length, loose))
    block = block_of(problem.mac)
    if block is not None and not is_fastest(path) and problem.a.dtype == problem.b.dtype == np.float32:
        digits = sum(widest_block(x.reshape(-1, problem.length), block) for x in (problem.a, problem.b))
        path = fast_path(problem.mac, Sums(*facts, problem.length, loose, digits)) or path
    if not is_fastest(path) and not isinstance(path, Blocks):
        path = fast_path(problem.mac, Sums(*facts, problem.length, _reach(problem, facts))) or path
    if problem.to_odd and isinstance(path, SplitBlas):
        return None
    return without_negative_zero(path, problem.bias)


def without_negative_zero(path: Path | None, bias: Array | None) -> Path | None:
    """`path`, or one that keeps the -0 of a sum of nothing but -0: a register started at the bias does, BLAS not."""
    if bias is None or not bool((np.signbit(bias) & (bias == 0)).any()):
        return path
    match path:
        case Blas(then=None):
            return Tiles(path.carrier, tiles.Exact(path.carrier.type(0)))
        case Blocks():
            return None
    return path


def _reach(problem: Problem, facts: tuple[Facts, Facts, Facts]) -> float:
    """A bound on sum(|a b|) + |bias| of any output: rows of |a| against the largest |b| of every k."""
    a, b, bias = facts
    reach = a.largest * b.largest * problem.length
    if problem.a.dtype.kind == "f" and problem.b.dtype.kind == "f" and reach < 1e300:
        columns = np.abs(problem.b).max(axis=1).astype(np.float64)
        if np.isfinite(columns).all() and a.is_finite:
            rows = np.abs(problem.a).astype(np.float64, copy=False) @ columns[:, :, None]
            reach = min(reach, float(rows.max()))
    return (reach + bias.largest) * (1.0 + 2.0**-40)


def _empty_sums(problem: Problem, bias: Array) -> Array:
    """K = 0: the bias, cast."""
    one = np.zeros((1, 1, 1))
    unit = _unit(
        replace(problem, a=one, b=one, a_scale=None, b_scale=None), (survey(one), survey(one), survey(bias))
    )
    target = unit.chunk_accumulator if unit.has_chunks else unit.accumulator
    values = np.array([cast(float(value), target, True, np.uint64(0)) for value in np.ravel(bias)])
    return np.broadcast_to(values.reshape(bias.shape), problem.shape).copy()


def check_specials(mac: Mac, operands: Iterable[Array]) -> None:
    """Raise UserError where a NaN or an infinity meets a format that does not know what to do with it."""
    has_nan = any(np.isnan(x).any() for x in operands if x.dtype.kind == "f")
    has_infinity = any(np.isinf(x).any() for x in operands if x.dtype.kind == "f")
    for name in (mac.product, mac.accumulator, mac.chunk_accumulator or "exact"):
        if name == "exact" or not (has_nan or has_infinity):
            continue
        spec = parse(name)
        if has_nan and not spec.element.has_nan:
            raise UserError(f"matmul: NaN in the operands, but {name} has no NaN")
        if has_infinity and spec.cast.overflow.startswith("wrap"):
            raise UserError(f"matmul: infinity in the operands, but {name} wraps around")


@lru_cache(maxsize=256)
def _targets(mac: Mac) -> tuple[Target, Target, Target]:
    """Product, accumulator, chunk accumulator."""
    outer = mac.chunk_accumulator or mac.accumulator
    return _target(mac.product), _target(mac.accumulator), _target(outer)


def _target(name: str) -> Target:
    if name == "exact":
        return EXACT
    spec = parse(name)
    is_float64 = spec.element == parse("float64").element and spec.cast.rounding.kind == "nearest_even"
    # The exact sum rounded once to nearest even in 53 bits is what the kernel does without a cast.
    return EXACT if is_float64 else target_of(spec)


def _unit(problem: Problem, facts: tuple[Facts, Facts, Facts]) -> general.Unit:
    mac = problem.mac
    a, b, bias = facts
    length = problem.length
    product, accumulator, outer = _targets(mac)
    lanes, chunk, is_tree = mac.lanes, mac.chunk, mac.order == "pairwise"
    if mac.accumulator == "exact" and mac.align_bits is None and problem.a_scale is None:
        # Nothing rounds inside a chunk: it is one adder tree in front of the chunk accumulator.
        is_tree = is_tree and chunk is None
        lanes, accumulator, chunk = chunk or length, outer, None
        lanes = length if not accumulator.is_cast and mac.chunk_accumulator in (None, "exact") else lanes
    lowest = [fact.lowest_bit for fact in (bias,) if fact.largest > 0]
    lowest.append(_lowest_product_bit(problem, a, b, product))
    lowest += [target.step_exponent for target in (accumulator, outer) if target.is_cast]
    scale = _scale_facts(problem)
    lowest_bit = min(min(lowest), min(lowest) + scale.lowest_bit)
    top = _top_bit(problem, facts, (accumulator, outer)) + max(0, math.ceil(math.log2(max(scale.largest, 1))))
    return general.unit_record(
        product=product,
        accumulator=accumulator,
        chunk_accumulator=outer,
        lanes=min(lanes, length),
        pairwise=is_tree,
        chunk=min(chunk or length, length),
        has_chunks=chunk is not None,
        align_bits=mac.align_bits or 0,
        each_step=mac.saturate == "step",
        multiply=_MULTIPLY.index(mac.multiply),
        mantissa=problem.fraction_bits or 0,
        offset=l_mul_offset_bits(problem.fraction_bits or 0),
        lowest_bit=lowest_bit,
        limbs=max(0, top - lowest_bit) // 32 + 4,
        seed=problem.seed,
        to_odd=problem.to_odd,
    )


def _lowest_product_bit(problem: Problem, a: Facts, b: Facts, product: Target) -> int:
    if product.is_cast:
        return product.step_exponent
    if problem.mac.multiply != "exact":
        digits = 2 + max(problem.fraction_bits or 0, l_mul_offset_bits(problem.fraction_bits or 0))
        return a.lowest_bit + b.lowest_bit - 2 * digits
    return a.lowest_bit + b.lowest_bit


def _scale_facts(problem: Problem) -> Facts:
    """Of the products of two chunk scales."""
    scales = [survey(scale) for scale in (problem.a_scale, problem.b_scale) if scale is not None]
    digits = sum(scale.digits for scale in scales)
    if digits > 53:
        raise UserError(
            f"matmul: the product of two block scales takes {digits} bits, more than the 53 supported"
        )
    return Facts(
        True, math.prod(s.largest for s in scales), sum(s.lowest_bit for s in scales), max(digits, 1)
    )


def _top_bit(problem: Problem, facts: tuple[Facts, Facts, Facts], targets: tuple[Target, ...]) -> int:
    """2^top bounds every sum."""
    a, b, bias = (fact.largest for fact in facts)
    bound = [math.log2(max(x, 1e-300)) for x in (a, b)]
    sums = sum(bound) + math.log2(problem.length) + 3
    values = [target.largest for target in targets if target.is_cast] + [bias]
    return (
        math.ceil(max(sums, *(math.log2(max(value, 1e-300)) for value in values)))
        + 3
        + problem.length.bit_length()
    )


def _fits_general(problem: Problem, facts: tuple[Facts, Facts, Facts], unit: general.Unit) -> bool:
    """Whether the general kernel is exact: precisions below 52 bits, nothing near the ends of float64's range."""
    mac = problem.mac
    precision = [
        _precision(name) for name in (mac.product, mac.accumulator, mac.chunk_accumulator or "exact")
    ]
    if max(precision) > WIDEST_PRECISION or unit.lowest_bit < -960 or unit.limbs * 32 + unit.lowest_bit > 960:
        return False
    if unit.align_bits and unit.align_bits + int(unit.lanes).bit_length() + 1 > 53:
        return False
    reach = _top_bit(problem, facts, ())
    for target in (unit.product, unit.accumulator, unit.chunk_accumulator):
        unbounded = target.is_cast and target.bits and (mac.saturate == "end" or target.overflow in (4, 5))
        if unbounded and reach - target.step_exponent > WIDEST_PRECISION:
            return False
    return True


def _precision(name: str) -> int:
    if name == "exact":
        return 0
    spec: Spec = parse(name)
    if isinstance(spec.element, Float) and spec.element.mantissa == 52:
        return 0 if _target(name) is EXACT else 53
    return spec.element.bits if isinstance(spec.element, TwosComplement) else spec.element.precision


def plain(x: Array, dtype: Any = np.float64) -> Array:
    """One layout for every kernel (C order, writeable), so that each is compiled once."""
    return np.require(x, dtype, ["C", "W"])


def run_generally(problem: Problem, facts: tuple[Facts, Facts, Facts]) -> Array:
    """The general kernel, or exact rational arithmetic where even that could round."""
    unit = _unit(problem, facts)
    if not _fits_general(problem, facts, unit):
        return _run_rationally(problem)
    out = np.empty(problem.shape)
    a, b = plain(problem.a), plain(problem.b)
    bias = np.zeros((1, 1, 1)) if problem.bias is None else plain(problem.bias)
    ones = np.ones((1, 1, -(-problem.length // unit.chunk)))
    scales = [ones if s is None else plain(s) for s in (problem.a_scale, problem.b_scale)]

    def work(first: int, last: int) -> bool:
        has_bias = problem.bias is not None
        general.matmul(a, b, *scales, bias, has_bias, out, first, last, problem.first_output, unit)
        return False

    spread(work, out.shape[0] * out.shape[1], out.size * problem.length)
    check_result(problem.mac, out)
    return out


def check_result(mac: Mac, out: Array) -> None:
    """Raise UserError for infinities that made a NaN (inf - inf, 0 * inf) where a format has none."""
    last = mac.chunk_accumulator or mac.accumulator
    if last != "exact" and not parse(last).element.has_nan and np.isnan(out).any():
        raise UserError(f"matmul: a NaN came up (inf - inf, or an overflow to NaN), but {last} has no NaN")


def _run_rationally(problem: Problem) -> Array:
    from qsim.arithmetic import reference

    out = np.empty(problem.shape)
    bias = None if problem.bias is None else np.broadcast_to(problem.bias, out.shape)
    b = np.broadcast_to(problem.b, (len(out), *problem.b.shape[1:]))
    scale = _chunk_scale(problem)
    for place, (n, i, j) in enumerate(np.ndindex(*out.shape)):
        value = reference.dot(
            problem.a[n, i].astype(float).tolist(),
            b[n, j].astype(float).tolist(),
            problem.mac,
            None if bias is None else float(bias[n, i, j]),
            mantissa=problem.fraction_bits or 0,
            random=random_of(problem.seed, problem.first_output + place),
            chunk_scale=None if scale is None else scale[n, i, j].tolist(),
        )
        out[n, i, j] = reference.round_to_float64(value)
    return out


def _chunk_scale(problem: Problem) -> Array | None:
    """[n, M, N, chunks]; exact, as _scale_facts made sure."""
    given = [s for s in (problem.a_scale, problem.b_scale) if s is not None]
    if not given:
        return None
    a_scale, b_scale = (
        np.ones((1, 1, given[0].shape[-1])) if s is None else s for s in (problem.a_scale, problem.b_scale)
    )
    product = a_scale[:, :, None, :] * b_scale[:, None, :, :]
    return np.broadcast_to(product, (*problem.shape, product.shape[-1]))


def random_of(seed: int, output: int) -> Callable[[int], int]:
    """The 64 random bits of each cast of one output element."""
    return lambda counter: int(mix(seed, output, counter))
