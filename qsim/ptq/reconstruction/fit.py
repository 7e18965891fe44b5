"""The one training loop: what is learned of a part of the network, so that its outputs follow the float32 ones.

The loss is the squared error of every output over the variance of the float32 one, the mean over outputs: layers
of all scales weigh the same, and no labels enter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from qsim.ptq.reconstruction.network import QuantizedNetwork, Values
from qsim.ptq.reconstruction.segments import Segment

if TYPE_CHECKING:
    from qsim.ptq.walk import Track

Draw = Callable[[], tuple[Values, Values]]
Loss = Callable[[Values, Values], torch.Tensor]
WARM_UP = 20  # steps
LEAST_RATE = 0.05  # of the first one: the cosine does not end at nothing


@dataclass(frozen=True)
class Rates:
    """Adam's step sizes: of weights in steps of their grid (or of the logit of a soft rounding), of biases in
    standard deviations of their outputs, of scales as a share of themselves.
    """

    weights: float = 0.01
    weight_scales: float = 0.001
    biases: float = 0.002
    scales: float = 0.001


def relative_error(ours: Mapping[str, torch.Tensor], exact: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Mean over tensors of the squared error over the variance of the exact one."""
    terms = [
        (ours[name] - exact[name]).square().mean() / exact[name].var().clamp(min=1e-30)
        for name in exact
        if exact[name].is_floating_point()
    ]
    return torch.stack(terms).mean() if terms else torch.zeros(())


def fit(
    network: QuantizedNetwork,
    segment: Segment,
    draw: Draw,
    rates: Rates,
    steps: int,
    *,
    loss: Loss = relative_error,
    drop: float = 0.0,
    generator: torch.Generator | None = None,
    track: Track | None = None,
) -> None:
    """Learn what `segment` reads: `draw` gives (values at its inputs, float32 values of its outputs) a step.

    The rates rise over the first steps and fall by half a cosine over the second half.
    """
    groups = _groups(network, segment, rates)
    leaves = [leaf for group in groups for leaf in group["params"]]
    weights = [network.weights[layer.weights] for layer in segment.layers if layer.weights in network.weights]
    if not leaves:
        return
    optimizer = torch.optim.Adam(groups, betas=(0.9, 0.99))
    for leaf in leaves:
        leaf.requires_grad_()
    for step in track(range(steps), "fine-tuning", steps) if track else range(steps):
        _set_rates(optimizer, step / steps, min(1.0, (step + 1) / WARM_UP))
        for weight in weights:
            weight.anneal(step / steps)
        values, exact = draw()
        ours = network.run(values, list(exact), nodes=segment.nodes, drop=drop, generator=generator)
        optimizer.zero_grad()
        loss(ours, exact).backward()
        optimizer.step()
    for leaf in leaves:
        leaf.requires_grad_(False)


def leaves_of(network: QuantizedNetwork, segment: Segment) -> list[torch.Tensor]:
    """All that can be learned of a segment."""
    return [leaf for leaves in _found(network, segment).values() for leaf in leaves]


def _set_rates(optimizer: torch.optim.Adam, progress: float, warm: float) -> None:
    late = max(2 * progress - 1, 0.0)
    share = max(0.5 * (1 + math.cos(math.pi * late)), LEAST_RATE) * warm
    for group in optimizer.param_groups:
        group["lr"] = group["rate"] * share


def _groups(network: QuantizedNetwork, segment: Segment, rates: Rates) -> list[dict[str, Any]]:
    return [
        {"params": leaves, "rate": getattr(rates, name), "lr": 0.0}
        for name, leaves in _found(network, segment).items()
        if leaves and getattr(rates, name) > 0
    ]


def _found(network: QuantizedNetwork, segment: Segment) -> dict[str, list[torch.Tensor]]:
    """The layers' weights, their scales and biases, and the scales of the activations they read, as Rates has them."""
    layers = segment.layers
    weights = [network.weights[layer.weights] for layer in layers if layer.weights in network.weights]
    read = {name for node in segment.nodes for name in node.inputs}
    return {
        "weights": [weight.learned for weight in weights],
        "weight_scales": [weight.scale.learned for weight in weights if weight.scale is not None],
        "biases": [network.biases[layer.bias].learned for layer in layers if layer.bias in network.biases],
        "scales": [scale.learned for name, scale in network.scales.items() if name in read],
    }
