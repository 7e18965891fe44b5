"""Convolutions and linear layers as a given multiply-accumulate unit computes them.

Products of one output are accumulated in the order of the flattened weight: input channel, then kernel row, then kernel
column. A tap that lies in the padding is a product with 0, as in hardware that pads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.arithmetic import fast_paths
from qsim.arithmetic.accumulate import Problem, accumulate, check_specials, without_negative_zero
from qsim.arithmetic.exactness import Blas, Sums, Tiles, fast_path
from qsim.arithmetic.kernels import tiles
from qsim.arithmetic.kernels.survey import survey
from qsim.arithmetic.mac import Mac
from qsim.arithmetic.matrix_product import like, multiply_once
from qsim.arithmetic.operands import as_array, channel_operand
from qsim.arithmetic.scratch import zeros
from qsim.casting import quantize
from qsim.casting.fast.threads import spread
from qsim.errors import UserError
from qsim.formats import Float
from qsim.spec import Spec

Array = NDArray[Any]
_SLICE = 1 << 25  # elements of an unfolded input that are held at a time


@dataclass(frozen=True)
class Window:
    """Where a 2-D convolution reads: stride and dilation (rows, columns), padding (top, left, bottom, right)."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    padding: tuple[int, int, int, int]

    def output_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Output rows and columns for an input of `size`; below 1 where the kernel does not fit."""
        padded = (size[0] + self.padding[0] + self.padding[2], size[1] + self.padding[1] + self.padding[3])
        reach = [d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilation, strict=True)]
        rows, columns = ((p - r) // s + 1 for p, r, s in zip(padded, reach, self.stride, strict=True))
        return rows, columns

    def taps(self, channels: int, padded: tuple[int, int]) -> NDArray[np.int64]:
        """[channels * kernel rows * kernel columns]: offsets in one padded image, in the order of the weight."""
        channel, row, column = np.meshgrid(*(np.arange(n) for n in (channels, *self.kernel)), indexing="ij")
        within = row * self.dilation[0] * padded[1] + column * self.dilation[1]
        return np.asarray((channel * padded[0] * padded[1] + within).ravel(), np.int64)

    def pixels(self, output: tuple[int, int], padded: tuple[int, int]) -> NDArray[np.int64]:
        """[output pixels]: offset of the first tap of each."""
        row, column = np.meshgrid(*(np.arange(n) for n in output), indexing="ij")
        return np.asarray((row * self.stride[0] * padded[1] + column * self.stride[1]).ravel(), np.int64)


def conv(
    x: Any,
    w: Any,
    mac: Mac | None = None,
    bias: Any = None,
    output: str | Spec | None = None,
    *,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    mantissa: int | None = None,
    seed: int = 0,
) -> Any:
    """A 1-D or 2-D convolution of arrays, torch tensors or encoded operands; shapes as in `layer_conv`.

    Of encoded operands the elements enter the multiplier (integers less their zero point), and the scales multiply the
    finished sum, where x has one (or one an image) and w one (or one an output); others go into the elements. Padding
    is the value 0. bias [outputs]: real numbers, divided by the scales. output: a number system for the result.
    Returns float64, or float32 as `layer_conv` does where nothing is encoded; torch if x or w is.
    """
    x_values, x_scale = channel_operand(x, 0, "x")
    w_values, w_scale = channel_operand(w, 0, "w")
    scale = _conv_scale(x_scale, w_scale, x_values.ndim)
    start = None if bias is None else as_array(bias, "bias").astype(np.float64)
    if start is not None and scale is not None:
        if x_scale is not None and len(x_scale) > 1:
            raise UserError(
                "conv: a bias needs one scale for x, not one for each image; add it to the result"
            )
        start = start / np.broadcast_to(scale.reshape(-1), (len(w_values),))
    if mac is not None and mac.multiply != "exact" and mantissa is None:
        given = [q.spec.element for q in (x, w) if hasattr(q, "codes")]
        mantissa = max((element.mantissa for element in given if isinstance(element, Float)), default=None)
    window = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    options = {"fraction_bits": mantissa, "seed": seed}
    total = layer_conv(x_values, w_values, mac or Mac(), start, **window, **options)  # type: ignore[arg-type]
    if scale is not None:
        total = multiply_once(total.astype(np.float64), scale, to_odd=output is not None)
    if output is not None:
        total = np.asarray(quantize(total.astype(np.float64, copy=False), output))
    return like(total, x, w)


def _conv_scale(x_scale: Array | None, w_scale: Array | None, ndim: int) -> Array | None:
    """[images or 1, outputs or 1, 1...], what the finished sums are multiplied by."""
    if x_scale is None and w_scale is None:
        return None
    ones = np.ones(1)
    by_image, by_output = (ones if scale is None else scale for scale in (x_scale, w_scale))
    return by_image.reshape(-1, *[1] * (ndim - 1)) * by_output.reshape(-1, *[1] * (ndim - 2))


def layer_matmul(
    x: Array,
    w: Array,
    mac: Mac,
    bias: Array | None = None,
    *,
    fraction_bits: int | None = None,
    seed: int = 0,
) -> Array:
    """x [..., K] by w [N, K] -> [..., N]: a linear layer on unscaled elements; the accumulator's values.

    bias [N], in the accumulator's units: where it starts. The result is float32 where the way taken computes in it.
    """
    if x.ndim < 1 or w.ndim != 2 or x.shape[-1] != w.shape[-1]:
        raise UserError(f"layer_matmul: x {x.shape} and w {w.shape} do not fit: w is [outputs, inputs of x]")
    start = None if bias is None else _bias(bias, w.shape[0], "layer_matmul")[None, None, :]
    problem = Problem(
        x.reshape(1, -1, x.shape[-1]), w[None], mac, start, fraction_bits=fraction_bits, seed=seed
    )
    return accumulate(problem).reshape(*x.shape[:-1], w.shape[0])


def layer_conv(
    x: Array,
    w: Array,
    mac: Mac,
    bias: Array | None = None,
    *,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    fraction_bits: int | None = None,
    seed: int = 0,
) -> Array:
    """A 1-D or 2-D convolution (cross-correlation, as in ONNX Conv) on unscaled elements; the accumulator's values.

    x [images, channels, (rows,) columns], w [outputs, channels / groups, (rows,) columns], bias [outputs] in the
    accumulator's units. padding: one number, one for each axis, or ONNX pads (all begins, then all ends).
    Returns [images, outputs, (rows,) columns], float32 or float64. Raises UserError for shapes that do not fit.
    """
    axes = x.ndim - 2
    if axes not in (1, 2) or w.ndim != x.ndim:
        raise UserError(f"conv: x {x.shape} and w {w.shape}; both need 3 axes (1-D) or both 4 (2-D)")
    if groups < 1 or x.shape[1] != w.shape[1] * groups or w.shape[0] % groups:
        text = f"conv: x {x.shape} with w {w.shape} and {groups} groups"
        raise UserError(f"{text}: x needs groups * w.shape[1] channels, and w a multiple of groups outputs")
    window = _window(w.shape[2:], stride, dilation, padding)
    if axes == 1:
        x, w = x[:, :, None, :], w[:, :, None, :]
    size = window.output_size((x.shape[2], x.shape[3]))
    if min(size) < 1:
        raise UserError(
            f"conv: a kernel of {w.shape[2:]} does not fit in an input of {x.shape[2:]} with its padding"
        )
    start = None if bias is None else _bias(bias, w.shape[0], "conv")
    if len(x) == 0:
        return np.zeros((0, w.shape[0], *size[2 - axes :]), x.dtype if x.dtype.kind == "f" else np.float64)
    outputs, channels = w.shape[0] // groups, w.shape[1]
    results = []
    for g in range(groups):
        part = slice(g * outputs, (g + 1) * outputs)
        given = None if start is None else start[part]
        inputs = x[:, g * channels : (g + 1) * channels]
        results.append(_convolve(inputs, w[part], given, mac, window, size, fraction_bits, seed + g))
    total = results[0] if groups == 1 else np.concatenate(results, axis=1)
    return total[:, :, 0, :] if axes == 1 else total


def _bias(bias: Array, outputs: int, what: str) -> Array:
    bias = np.asarray(bias)
    if bias.shape != (outputs,):
        raise UserError(f"{what}: a bias of shape {bias.shape} for {outputs} outputs")
    return bias.astype(np.float64)


def _window(
    kernel: tuple[int, ...],
    stride: int | Sequence[int],
    dilation: int | Sequence[int],
    padding: int | Sequence[int],
) -> Window:
    """All facts in two dimensions; a 1-D kernel is one row."""
    axes = len(kernel)

    def per_axis(value: int | Sequence[int], name: str, least: int) -> tuple[int, ...]:
        values = (value,) * axes if isinstance(value, int) else tuple(int(v) for v in value)
        if len(values) != axes or min(values) < least:
            raise UserError(f"conv: {name} is {value}; it needs {axes} numbers of at least {least}")
        return values

    is_pads = not isinstance(padding, int) and len(padding) == 2 * axes
    pads = (
        tuple(int(p) for p in padding)
        if is_pads and not isinstance(padding, int)
        else per_axis(padding, "padding", 0) * 2
    )
    if min(pads) < 0:
        raise UserError(f"conv: padding is {padding}; it cannot be negative")
    strides, dilations = per_axis(stride, "stride", 1), per_axis(dilation, "dilation", 1)
    if axes == 1:
        return Window((1, kernel[0]), (1, strides[0]), (1, dilations[0]), (0, pads[0], 0, pads[1]))
    return Window((kernel[0], kernel[1]), (strides[0], strides[1]), (dilations[0], dilations[1]), pads)  # type: ignore[arg-type]


def _convolve(
    x: Array,
    w: Array,
    bias: Array | None,
    mac: Mac,
    window: Window,
    size: tuple[int, int],
    fraction_bits: int | None,
    seed: int,
) -> Array:
    """One group."""
    start = np.zeros(1) if bias is None else bias
    facts = (survey(x), survey(w), survey(start))
    length = math.prod(w.shape[1:])
    path = None
    if x.size and w.size and all(fact.is_finite for fact in facts):
        # Every input is bounded by the largest one; so a sum is, by the weights of its output.
        weight = float(np.abs(w.reshape(len(w), -1).astype(np.float64)).sum(axis=1).max())
        reach = (weight * facts[0].largest + facts[2].largest) * (1.0 + 2.0**-40)
        path = fast_path(mac, Sums(*facts, length, reach))
        path = without_negative_zero(path, bias)
    if isinstance(path, Blas):
        path = Tiles(path.carrier, tiles.Exact(path.carrier.type(0)), then=path.then)
    if isinstance(path, Tiles):
        return _convolve_tiles(path, x, w, bias, window, size)
    check_specials(mac, (x, w, start))
    return _convolve_unfolded(x, w, bias, mac, window, size, fraction_bits, seed)


def _convolve_tiles(
    path: Tiles, x: Array, w: Array, bias: Array | None, window: Window, size: tuple[int, int]
) -> Array:
    """Output channels are the rows of a tile, output pixels of all images its columns."""
    rows, columns = tiles.tile_shape(path.carrier)
    images, outputs, count = len(x), len(w), size[0] * size[1]
    weights = fast_paths.packed("weights", w.reshape(outputs, -1), rows, path.carrier, path.b_shift)
    top, left, bottom, right = window.padding
    padded_size = (x.shape[2] + top + bottom, x.shape[3] + left + right)
    padded = zeros("padded", (images, x.shape[1], *padded_size), path.carrier)
    inner = padded[:, :, top : top + x.shape[2], left : left + x.shape[3]]
    inner[...] = np.ldexp(x.astype(np.float64), path.a_shift) if path.a_shift else x
    panels = -(-images * count // columns)
    out = zeros("tiles", (len(weights), panels, rows * columns), path.carrier)
    shift = path.a_shift + path.b_shift
    if bias is not None:
        full = np.zeros(len(weights) * rows, path.carrier)
        full[:outputs] = np.ldexp(bias, shift)
        out.reshape(len(weights), panels, rows, columns)[...] = full.reshape(-1, 1, rows, 1)
    taps, pixels = window.taps(x.shape[1], padded_size), window.pixels(size, padded_size)
    flat, image = padded.reshape(-1), padded[0].size

    def work(first: int, last: int) -> bool:
        tiles.convolve(weights, flat, taps, pixels, image, out, first, last, path.mode)
        return False

    spread(work, panels, out.size * len(taps) // 8)
    by_row = (
        out.reshape(len(weights), panels, rows, columns)
        .transpose(0, 2, 1, 3)
        .reshape(len(weights) * rows, -1)
    )
    by_image = by_row[:outputs, : images * count].reshape(outputs, images, *size).transpose(1, 0, 2, 3)
    dtype = np.float32 if path.carrier.kind == "i" else path.carrier
    total = fast_paths.unshifted(np.array(by_image, dtype, order="C"), shift)
    return fast_paths.finish(total, path.then)


def _convolve_unfolded(
    x: Array,
    w: Array,
    bias: Array | None,
    mac: Mac,
    window: Window,
    size: tuple[int, int],
    fraction_bits: int | None,
    seed: int,
) -> Array:
    """As a matrix product of unfolded inputs, a slice of the images at a time."""
    length, outputs, count = math.prod(w.shape[1:]), len(w), size[0] * size[1]
    step = max(1, _SLICE // max(1, count * length))
    matrix, start = w.reshape(1, outputs, length), None if bias is None else bias[None, None, :]
    results = []
    for first in range(0, max(len(x), 1), step):
        rows = unfold(x[first : first + step], window, size)
        problem = Problem(
            rows.reshape(1, -1, length),
            matrix,
            mac,
            start,
            fraction_bits=fraction_bits,
            seed=seed,
            first_output=first * count * outputs,
        )
        results.append(accumulate(problem).reshape(-1, *size, outputs))
    return np.ascontiguousarray(np.concatenate(results).transpose(0, 3, 1, 2))


def unfold(x: Array, window: Window, size: tuple[int, int]) -> Array:
    """[images, channels, rows, columns] -> [images, output pixels, channels * kernel], zeros where padding is read."""
    top, left, bottom, right = window.padding
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    padded_size = (padded.shape[2], padded.shape[3])
    places = window.pixels(size, padded_size)[:, None] + window.taps(x.shape[1], padded_size)
    return np.asarray(padded.reshape(len(x), -1)[:, places])
