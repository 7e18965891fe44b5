"""Casts that gradients pass through, and the scales that they learn.

Forward, a cast is the emulator's own: what is learned is what is emulated. Backward, the gradient of the cast
value y of x under scale s is that of learned step size quantization (Esser, McKinstry, Bablani, Appuswamy,
Modha, "Learned Step Size Quantization", ICLR 2020), of which section 2.1 gives the integer case:

    dy/dx = 1 where x lies within the range of the format, else 0
    dy/ds = (y - x) / s where x lies within the range, else y / s

Written with y it holds for every element: minifloats, tables and powers of two as well as integers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from qsim.casting import quantize
from qsim.formats import Element, Fixed
from qsim.parse import parse
from qsim.spec import Spec

Array = NDArray[Any]
POWER_OF_TWO = parse("e8m0").element
COARSE_PACE = 30.0  # of a power of two, whose neighbours lie a factor of two away, against a float32 scale


def cast_with_gradient(
    x: torch.Tensor, scale: torch.Tensor, rounded: torch.Tensor, low: float, high: float, gain: float
) -> torch.Tensor:
    """`rounded`, the cast of `x` under `scale`, with the gradients of learned step size quantization.

    scale: broadcasts against x. low, high: the range of the format in units of the scale. gain: what the
    gradient of the scale is multiplied by (`step_size_gain`).
    """
    result = _Cast.apply(x, scale, rounded, low, high, gain)
    assert isinstance(result, torch.Tensor)
    return result


def step_size_gain(elements: int, largest: float) -> float:
    """g = 1 / sqrt(N Q) of section 2.2: a scale shared by N elements up to Q learns as fast as a weight."""
    return float(1 / np.sqrt(max(elements, 1) * max(largest, 1e-30)))


class _Cast(torch.autograd.Function):
    @staticmethod
    def forward(
        context: Any,
        x: torch.Tensor,
        scale: torch.Tensor,
        rounded: torch.Tensor,
        low: float,
        high: float,
        gain: float,
    ) -> torch.Tensor:
        context.save_for_backward(x, scale, rounded)
        context.facts = low, high, gain
        return rounded

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (gradient,) = gradients
        x, scale, rounded = context.saved_tensors
        low, high, gain = context.facts
        inside = (x >= low * scale) & (x <= high * scale)
        through = gradient * inside
        if not context.needs_input_grad[1]:
            return through, None, None, None, None, None
        if scale.numel() == 1:  # of a whole tensor: no tensor is written for its sum
            total = torch.dot(*_flat(gradient, rounded)) - torch.dot(*_flat(through, x))
            return through, total * (gain / scale), None, None, None, None
        of_scale = (gradient * rounded - through * x) * (gain / scale)
        return through, of_scale.sum_to_size(scale.shape), None, None, None, None


def _flat(*tensors: torch.Tensor) -> Iterator[torch.Tensor]:
    return (tensor.reshape(-1) for tensor in tensors)


class LearnedScale:
    """The scales of one tensor, start * exp(learned), as its format can store them.

    learned: zeros at the start; its step means the same share of any scale. A format that does not
    hold every number (e8m0, float16) passes the gradient straight through its own rounding: trained thresholds
    (Jain, Gural, Wu, Dick, "Trained Quantization Thresholds", MLSys 2020) for powers of two.
    """

    def __init__(self, start: Array, element: Element) -> None:
        self._start = torch.from_numpy(np.array(start, np.float32))
        self._spec = Spec(element)
        self.is_power_of_two = element.is_power_of_two
        self._pace = COARSE_PACE if element.is_power_of_two else 1.0
        self.learned = torch.zeros_like(self._start)

    def __call__(self) -> torch.Tensor:
        free = self._start * (self._pace * self.learned).exp()
        with torch.no_grad():
            stored: torch.Tensor = quantize(free, self._spec)
            stored = torch.where(torch.isfinite(stored) & (stored > 0), stored, self._start)
        return free + (stored - free).detach() if free.requires_grad else stored

    def stored(self) -> Array:
        """The scales as a plan holds them: float32, in their group shape."""
        with torch.no_grad():
            return np.asarray(self().numpy(), np.float32).reshape(tuple(self._start.shape))


def learned_scale(spec: Spec, scale: Array | None, *, move_points: bool = False) -> LearnedScale | None:
    """The scales of a tensor where they can be learned: those that a plan stores, of one level.

    move_points: also the position of the point of a fixed-point number without scale: its factor, a power of two
    that starts at 1 (`moved_point`).
    """
    if spec.scale is None:
        moves = move_points and isinstance(spec.element, Fixed)
        return LearnedScale(np.ones((), np.float32), POWER_OF_TWO) if moves else None
    if scale is None or spec.scale.scale is not None:
        return None
    return LearnedScale(scale, spec.scale.element)


def moved_point(spec: Spec, factor: float) -> Spec:
    """fixed<W>.<I> times a power of two: fixed<W>.<I + log2 factor>."""
    assert isinstance(spec.element, Fixed)
    shift = round(float(np.log2(factor)))
    return replace(spec, element=replace(spec.element, integer=spec.element.integer + shift))


def cast_under(
    x: torch.Tensor, spec: Spec, scale: torch.Tensor | None, cast: Callable[[torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    """`cast(x)`; a fixed-point number whose point moved is cast as the multiple that it is."""
    if scale is None or spec.scale is not None:
        return cast(x)
    return cast(x / scale) * scale
