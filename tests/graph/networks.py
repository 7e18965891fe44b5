"""Small networks in the style of those people deploy, for the importers' tests."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SqueezeExcite(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(channels, channels // 4, 1), nn.Conv2d(channels // 4, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * F.hardsigmoid(self.up(F.relu(self.down(F.adaptive_avg_pool2d(x, 1)))))


class MobileBlock(nn.Module):
    """Expansion, depthwise convolution, squeeze-excite, projection, residual addition."""

    def __init__(self, channels: int, activation: type[nn.Module], kernel: int = 3) -> None:
        super().__init__()
        wide = 2 * channels
        self.expand, self.n1 = nn.Conv2d(channels, wide, 1, bias=False), nn.BatchNorm2d(wide)
        self.depthwise = nn.Conv2d(wide, wide, kernel, padding=kernel // 2, groups=wide, bias=False)
        self.n2, self.excite = nn.BatchNorm2d(wide), SqueezeExcite(wide)
        self.project, self.n3 = nn.Conv2d(wide, channels, 1, bias=False), nn.BatchNorm2d(channels)
        self.activation = activation()

    def forward(self, x: Tensor) -> Tensor:
        y = self.activation(self.n1(self.expand(x)))
        y = self.excite(self.activation(self.n2(self.depthwise(y))))
        return x + self.n3(self.project(y))


class MobileNet(nn.Module):
    """MobileNetV3 in small: hard swish, ReLU6, squeeze-excite."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8)
        self.blocks = nn.Sequential(MobileBlock(8, nn.Hardswish, 5), MobileBlock(8, nn.ReLU6))
        self.pool, self.drop, self.head = nn.MaxPool2d(2), nn.Dropout(0.2), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.pool(self.blocks(F.hardswish(self.norm(self.stem(x)))))
        return self.head(self.drop(torch.flatten(F.adaptive_avg_pool2d(y, 1), 1)))


class Mixer(nn.Module):
    """A transformer block written out: fused qkv, softmax(q k) v, Swish feed-forward, pre-norm."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, (width // heads) ** -0.5
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width, eps=1e-6)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, time, width = x.shape
        qkv = self.qkv(self.norm1(x)).reshape(batch, time, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        weights = (q * self.scale @ k.transpose(-2, -1)).softmax(-1)
        x = x + self.out((weights @ v).transpose(1, 2).reshape(batch, time, width))
        return x + self.down(F.silu(self.up(self.norm2(x))))


class TextReader(nn.Module):
    """Convolutions, attention over the width, a softmax per column: SVTR with its CTC head in small."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8)
        self.block, self.squash = MobileBlock(8, nn.Hardswish), nn.Conv2d(8, 16, 3, (2, 1), 1)
        self.mixer, self.head = Mixer(16, 4), nn.Linear(16, 20)

    def forward(self, x: Tensor) -> Tensor:
        y = F.gelu(self.squash(self.block(F.hardswish(self.norm(self.stem(x))))))
        y = y.mean(2).permute(0, 2, 1)
        return self.head(self.mixer(y)).softmax(2)


class FileTypes(nn.Module):
    """Integer tokens, embedding, one-dimensional convolution, GELU, layer norm, maximum over time: Magika in small."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.conv = nn.Embedding(257, 12), nn.Conv1d(12, 16, 5)
        self.norm, self.dense, self.head = nn.LayerNorm(16), nn.Linear(16, 16), nn.Linear(16, 7)

    def forward(self, tokens: Tensor) -> Tensor:
        y = F.gelu(self.conv(self.embedding(tokens).transpose(1, 2))).transpose(1, 2)
        y = self.dense(self.norm(y)).amax(1)
        return self.head(F.gelu(y, approximate="tanh")).softmax(-1)


class VoiceDetector(nn.Module):
    """Spectrum by convolution, encoder, LSTM over the frames with its state as input and output: Silero in small."""

    def __init__(self) -> None:
        super().__init__()
        self.basis = nn.Conv1d(1, 18, 16, 8, bias=False)
        self.encoder, self.lstm, self.head = nn.Conv1d(9, 12, 3, 2, 1), nn.LSTM(12, 16), nn.Conv1d(16, 1, 1)

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y = self.basis(F.pad(x, (0, 8), mode="reflect").unsqueeze(1))
        magnitude = torch.sqrt(y[:, :9] ** 2 + y[:, 9:] ** 2)
        y = F.relu(self.encoder(magnitude)).mean(-1)  # [frames, 12]
        y, (hn, cn) = self.lstm(y.unsqueeze(1), (h, c))
        return torch.sigmoid(self.head(F.relu(y).permute(1, 2, 0))).squeeze(1), hn, cn


class TiedLanguageModel(nn.Module):
    """Embedding, causal attention, RMS norm, tied head."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.qkv, self.out = (
            nn.Embedding(24, 16),
            nn.Linear(16, 48, bias=False),
            nn.Linear(16, 16),
        )
        self.gain = nn.Parameter(torch.ones(16))

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.table(tokens)
        n = x * torch.rsqrt((x * x).mean(-1, keepdim=True) + 1e-5) * self.gain
        parts = [p.unflatten(-1, (4, 4)).transpose(1, 2) for p in self.qkv(n).chunk(3, -1)]
        y = F.scaled_dot_product_attention(*parts, is_causal=True).transpose(1, 2).flatten(2)
        return (x + self.out(y)) @ self.table.weight.T


class Upscaler(nn.Module):
    """Transposed convolution, resizing, concatenation, pixel shuffle: a decoder."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.norm = nn.ConvTranspose2d(4, 8, 4, 2, 1), nn.BatchNorm2d(8)
        self.mix, self.slope = nn.Conv2d(12, 8, 3, padding=1), nn.PReLU(8)

    def forward(self, x: Tensor) -> Tensor:
        small = F.interpolate(x, scale_factor=2.0, mode="nearest")
        y = self.slope(self.mix(torch.cat([self.norm(self.up(x)), small], 1)))
        return F.interpolate(F.pixel_shuffle(y, 2), size=(20, 20), mode="bilinear", align_corners=False)


def trained(module: nn.Module) -> nn.Module:
    """In evaluation mode, with batch statistics as training would leave them."""
    generator = torch.Generator().manual_seed(4)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            for tensor, low, high in (
                (part.running_mean, -1, 1),
                (part.running_var, 0.3, 2),
                (part.weight.data, 0.5, 2),
            ):
                assert tensor is not None
                tensor.uniform_(low, high, generator=generator)
    return module.eval()


def tokens(*shape: int, largest: int) -> Tensor:
    return torch.randint(0, largest, shape, generator=torch.Generator().manual_seed(1))


def real(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(2))


# name -> (network, example inputs, other inputs to compare on, free dimensions)
NETWORKS = {
    "mobilenet": (MobileNet, (real(2, 3, 16, 16),), (real(5, 3, 16, 16),), {0: {0: "batch"}}),
    "text_reader": (TextReader, (real(2, 3, 8, 24),), (real(3, 3, 8, 40),), {0: {0: "batch", 3: "width"}}),
    "file_types": (
        FileTypes,
        (tokens(2, 64, largest=257),),
        (tokens(4, 64, largest=257),),
        {0: {0: "batch"}},
    ),
    "voice_detector": (
        VoiceDetector,
        (real(4, 72), real(1, 1, 16), real(1, 1, 16)),
        (real(6, 72), real(1, 1, 16), real(1, 1, 16)),
        {0: {0: "frames"}},
    ),
    "language_model": (
        TiedLanguageModel,
        (tokens(2, 9, largest=24),),
        (tokens(3, 9, largest=24),),
        {0: {0: "batch"}},
    ),
    "upscaler": (Upscaler, (real(2, 4, 5, 5),), (real(3, 4, 5, 5),), {0: {0: "batch"}}),
}
