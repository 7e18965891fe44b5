"""Running the fast ways of `exactness`: BLAS, register tiles, blocks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.arithmetic.exactness import Blas, Blocks, Path, SplitBlas, Tiles
from qsim.arithmetic.kernels import tiles
from qsim.arithmetic.kernels.general import sum_once
from qsim.arithmetic.scratch import converted, scratch, zeros
from qsim.casting.elements import cast_to_element
from qsim.casting.fast.threads import spread
from qsim.formats import TwosComplement
from qsim.spec import Rounding, Spec

Array = NDArray[Any]


def run(path: Path, a: Array, b: Array, bias: Array | None) -> Array:
    """a [n, M, K] by b [n or 1, N, K], bias [n or 1, M or 1, N or 1] or None -> [n, M, N] in the carrier's type."""
    match path:
        case Blas():
            left, right = converted("blas a", a, path.carrier), converted("blas b", b, path.carrier)
            total = left @ np.swapaxes(right, -1, -2)
            if bias is None:
                total += path.carrier.type(0)  # a -0 that BLAS may return
            else:
                total = total + bias.astype(path.carrier)
            return finish(total, path.then)
        case Tiles():
            return finish(_over_products(path, a, b, bias), path.then)
        case SplitBlas():
            return _split_product(path, a, b)
        case Blocks():
            return _over_products(path, a, b, bias)


def finish(total: Array, then: Spec | None) -> Array:
    """The one cast at the end, where there is one; `total` is in whole steps of its format already."""
    if then is None:
        return total
    element = then.element
    low, high, kind = element.lowest, element.largest, then.cast.overflow
    if kind == "wrap" and isinstance(element, TwosComplement):
        period = 2.0 ** (element.bits + element.step_exponent)
        total = total.astype(np.float64)
        return np.asarray(total - np.floor((total - low) / period) * period)
    if kind in ("saturate", "saturate_finite"):
        return np.clip(total, low, high)
    nearest = replace(then.cast, rounding=Rounding())  # nothing is left to round: no random bits are read
    return cast_to_element(total.astype(np.float64), element, nearest)


def _split_product(path: SplitBlas, a: Array, b: Array) -> Array:
    """a in two or three parts of few enough digits that every BLAS product is exact; their sum is rounded once."""
    b, rest = np.swapaxes(b.astype(np.float64, copy=False), -1, -2), a.astype(np.float64)
    products = []
    for bit in path.cuts:
        shift = 1.5 * 2.0 ** (52 + bit)  # adding it rounds to multiples of 2^bit
        part = (rest + shift) - shift
        products.append(part @ b)
        rest = rest - part
    products.append(rest @ b)
    third = np.zeros(products[0].shape) if len(products) < 3 else products[2]
    return sum_once(products[0], products[1], third)


def _over_products(path: Tiles | Blocks, a: Array, b: Array, bias: Array | None) -> Array:
    results = []
    for n in range(len(a)):
        start = None if bias is None else bias[n % len(bias)]
        results.append(_tiled(path, a[n], b[n % len(b)], start))
    return results[0][None] if len(results) == 1 else np.stack(results)


def _tiled(path: Tiles | Blocks, a: Array, b: Array, bias: Array | None) -> Array:
    """One product: pack both operands in panels, multiply panel by panel, unpack."""
    a_shift, b_shift = (path.a_shift, path.b_shift) if isinstance(path, Tiles) else (0, 0)
    rows, columns = tiles.tile_shape(path.carrier)
    a_panels = packed("a panels", a, rows, path.carrier, a_shift)
    b_panels = packed("b panels", b, columns, path.carrier, b_shift)
    out = _start(bias, (len(a), len(b)), (rows, columns), path.carrier, a_shift + b_shift)
    multiply_panels(path, a_panels, b_panels, out, a.shape[1])
    result = out.reshape(len(a_panels), len(b_panels), rows, columns).transpose(0, 2, 1, 3)
    dtype = np.float32 if path.carrier.kind == "i" or isinstance(path, Blocks) else path.carrier
    total = np.empty((len(a_panels) * rows, len(b_panels) * columns), dtype)
    total.reshape(len(a_panels), rows, len(b_panels), columns)[...] = result
    return unshifted(total[: len(a), : len(b)], a_shift + b_shift)


def unshifted(total: Array, shift: int) -> Array:
    """`total` times 2^-shift, exactly."""
    return total if shift == 0 else np.ldexp(total, -shift)


def multiply_panels(path: Tiles | Blocks, a: Array, b: Array, out: Array, length: int) -> None:
    """out [a panels, b panels, tile] += a b by the path's kernel, the panels of b dealt out to threads."""
    rows, columns = tiles.tile_shape(path.carrier)

    def work(first: int, last: int) -> bool:
        if isinstance(path, Tiles):
            tiles.multiply(a, b, out, first, last, path.mode)
        else:
            multiply = tiles.multiply_blocks if path.carrier == np.float32 else tiles.multiply_wide_blocks
            mode = tiles.Exact(path.carrier.type(0))
            multiply(a, b, out, first, last, path.block * rows, path.block * columns, mode)
        return False

    spread(work, len(b), out.size * length // 8)


def packed(use: str, x: Array, width: int, carrier: np.dtype[Any], shift: int) -> Array:
    """x [rows, K] times 2^shift as panels of `width` rows, zeros in the last, read in the order it lies in memory.

    The panels are scratch memory of this `use`.
    """
    panels = scratch(use, (-(-len(x) // width), x.shape[1] * width), carrier)
    panels[-1] = 0
    scale = carrier.type(1) if carrier.kind == "i" else carrier.type(2.0**shift)
    if carrier.kind == "i" and (shift or x.dtype.kind == "f"):
        x = np.ldexp(x.astype(np.float64), shift).astype(carrier)
    if x.T.flags.c_contiguous and not x.flags.c_contiguous:
        tiles.pack_transposed(np.require(x.T, requirements="W"), panels, width, scale)
    else:
        tiles.pack(np.require(x, requirements=["C", "W"]), panels, width, scale)
    return panels


def _start(
    bias: Array | None, shape: tuple[int, int], tile: tuple[int, int], carrier: np.dtype[Any], shift: int
) -> Array:
    """The accumulators before the first product, [a panels, b panels, tile]."""
    (rows, columns), panels = tile, [-(-size // step) for size, step in zip(shape, tile, strict=True)]
    if bias is None:
        return zeros("tiles", (panels[0], panels[1], rows * columns), carrier)
    full = np.zeros((panels[0] * rows, panels[1] * columns), carrier)
    full[: shape[0], : shape[1]] = np.ldexp(bias.astype(np.float64), shift) if shift else bias
    parts = full.reshape(panels[0], rows, panels[1], columns).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(parts).reshape(*panels, -1)
