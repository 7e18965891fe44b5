"""AdaRound: up or down, learned for every weight of a layer by a soft rounding that hardens.

Nagel, Amjad, van Baalen, Louizos, Blankevoort, "Up or Down? Adaptive Rounding for Post-Training Quantization",
ICML 2020: weights are floor + step * h(V) with the rectified sigmoid h (eq. 23), the reconstruction error of
the layer plus lambda * sum(1 - |2 h - 1|^beta) (eq. 24) is minimised by Adam, beta annealed from 20 to 2.

"Floor" and "step" are the neighbours of each weight on its own grid, so minifloats and tables work as integers
do. The error is the exact quadratic form over all calibration data rather than a sampled batch; the paper's
f_a (the activation function inside the loss, eq. 25) is left out. Learned in float32, as the change d of the weights:
d S d' + 2 d s' holds no large numbers that cancel. Which rounding wins is decided in float64.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch

from qsim.errors import UserError
from qsim.ptq.problem import LayerProblem, Rounded

ZETA, GAMMA = 1.1, -0.1  # eq. 23: the sigmoid is stretched to [GAMMA, ZETA] and clipped


@dataclass(frozen=True)
class AdaRound:
    """iterations: of Adam; rate: its step size; warm_up: the share of iterations without regularization.

    regularization: lambda, with each output's error in units of its error at the start and the second term a
    mean over the output's weights, so that one value serves layers of any size and scale. follow_float: learn
    between the neighbours of the weights that also undo the inputs' error. An output that ends up worse than
    it was keeps its values.
    """

    iterations: int = 300
    rate: float = 0.1
    regularization: float = 10.0
    warm_up: float = 0.2
    follow_float: bool = True
    damping: float = 0.01

    def __post_init__(self) -> None:
        if self.iterations < 1 or not 0 <= self.warm_up < 1:
            raise UserError(
                f"ptq.steps adaround: iterations must be at least 1 and warm_up from 0 to below 1, "
                f"not {self.iterations} and {self.warm_up}"
            )

    @torch.enable_grad()
    def __call__(self, problem: LayerProblem, rounded: Rounded) -> Rounded:
        centre = problem.target(self.damping) if self.follow_float else problem.weights
        below, above = rounded.grid.neighbours(centre)
        width = above - below
        share = torch.where(width > 0, (centre - below) / width, 0.0).clamp(0, 1)
        logits = soft_rounding_inverse(share).float().requires_grad_()
        unit = problem.error(rounded.values).clamp(min=1e-30).float()[..., None]
        gram = problem.gram.float()
        slope = (problem.weights @ problem.gram - problem.pull).float()
        start, step = (below - problem.weights).float(), width.float()
        optimizer = torch.optim.Adam([logits], lr=self.rate)
        for iteration in range(self.iterations):
            optimizer.zero_grad()
            up = soft_rounding(logits)
            change = start + step * up
            # half the gradient of the error: as a constant it gives the loss the same gradient with half the products
            descent = (change.detach() @ gram + slope) / unit
            loss = 2 * (descent * change).sum()
            progress = iteration / self.iterations
            if progress >= self.warm_up:
                loss = loss + self.regularization * hardness(up, progress, self.warm_up).mean(-1).sum()
            loss.backward()
            optimizer.step()
        values = torch.where(soft_rounding(logits).detach() >= 0.5, above, below)
        return replace(rounded, values=problem.better(values, rounded.values))


def soft_rounding(logits: torch.Tensor) -> torch.Tensor:
    """h(V) of eq. 23: the share of the step that is taken, in [0, 1]."""
    return (torch.sigmoid(logits) * (ZETA - GAMMA) + GAMMA).clamp(0, 1)


def soft_rounding_inverse(share: torch.Tensor) -> torch.Tensor:
    """V with h(V) = share: the soft weights start where the real ones are."""
    return torch.logit((share - GAMMA) / (ZETA - GAMMA))


def hardness(up: torch.Tensor, progress: float, warm_up: float) -> torch.Tensor:
    """1 - |2 h - 1|^beta of eq. 24; beta falls from 20 to 2 by half a cosine after the warm-up."""
    done = (progress - warm_up) / (1 - warm_up)
    beta = 2 + 18 * 0.5 * (1 + math.cos(done * math.pi))
    return 1 - (2 * up - 1).abs().clamp(min=1e-12) ** beta
