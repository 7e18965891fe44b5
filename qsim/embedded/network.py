"""The embedded network: a small depthwise-separable CNN for 28x28 digits."""

from __future__ import annotations

import torch
from torch import nn


def _conv_bn_relu(
    inputs: int, outputs: int, kernel: int, *, stride: int = 1, depthwise: bool = False
) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(
            inputs,
            outputs,
            kernel,
            stride=stride,
            padding=kernel // 2,
            groups=inputs if depthwise else 1,
            bias=False,
        ),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class Separable(nn.Module):
    """Depthwise 3x3 then pointwise 1x1, each with batch norm and ReLU; adds its input when `residual`."""

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1, residual: bool = False) -> None:
        super().__init__()
        self.depthwise = _conv_bn_relu(inputs, inputs, 3, stride=stride, depthwise=True)
        self.pointwise = _conv_bn_relu(inputs, outputs, 1)
        self.residual = residual

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, inputs, H, W] to [N, outputs, H / stride, W / stride]."""
        y: torch.Tensor = self.pointwise(self.depthwise(x))
        return x + y if self.residual else y


class DigitNet(nn.Module):
    """Ten MAC layers, one residual add, about ten thousand parameters.

    Ten layers leave a per-layer search room; the add ties the formats of two tensors; depthwise layers, whose
    channels differ widely in range, are what makes low precision hard. Batch norm stays in the module:
    `qsim.load_model` folds it, as it does for a user's own network.
    """

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.stem = _conv_bn_relu(1, 16, 3, stride=2)
        self.block1 = Separable(16, 32)
        self.block2 = Separable(32, 48, stride=2)
        self.block3 = Separable(48, 48, residual=True)
        self.block4 = Separable(48, 64)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(64, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images [N, 1, 28, 28] with pixels in [0, 1] to logits [N, classes]."""
        x = self.block4(self.block3(self.block2(self.block1(self.stem(x)))))
        logits: torch.Tensor = self.classifier(self.flatten(self.pool(x)))
        return logits
