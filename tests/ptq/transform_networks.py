"""Small networks with every structure that transforms meet, weights and channel magnitudes uneven."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import qsim
from qsim.graph import Graph


class ResidualCNN(nn.Module):
    """Convolution, depthwise, ReLU6, residual addition, concatenation, pooling, flattened features."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.depthwise = nn.Conv2d(3, 12, 3, padding=1), nn.Conv2d(12, 12, 3, padding=1, groups=12)
        self.point, self.second = nn.Conv2d(12, 12, 1), nn.Conv2d(12, 12, 3, padding=1)
        self.grouped, self.wide = nn.Conv2d(24, 24, 3, padding=1, groups=4), nn.Conv2d(24, 8, 1, bias=False)
        self.last, self.head = nn.Conv2d(8, 8, 1), nn.Linear(8 * 4, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.stem(x))
        z = F.relu(self.point(F.relu(self.depthwise(y))))
        y = F.relu(y + self.second(z))
        y = F.relu6(self.grouped(torch.cat([y, F.leaky_relu(z)], 1)))
        y = self.last(self.wide(F.max_pool2d(y, 2)))
        return self.head(torch.flatten(F.avg_pool2d(F.relu(y), 2), 1))


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k = nn.Linear(width, width), nn.Linear(width, width)
        self.v, self.o = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            p.unflatten(-1, (self.heads, -1)).transpose(1, 2) for p in (self.q(x), self.k(x), self.v(x))
        )
        weights = (q @ k.transpose(-2, -1) * 0.5).softmax(-1)
        return self.o((weights @ v).transpose(1, 2).flatten(2))


class VisionTransformer(nn.Module):
    """Patches, positions, LayerNorm with gain and bias, attention, GELU, a mean over tokens."""

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        self.patch, self.place = nn.Conv2d(3, width, 4, 4), nn.Parameter(torch.randn(1, 4, width))
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))
        self.attention, self.up = Attention(width, 3), nn.Linear(width, 20)
        self.down, self.head = nn.Linear(20, width), nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2) + self.place
        x = x + self.attention(self.norm1(x))
        x = x + self.down(F.gelu(self.up(self.norm2(x))))
        return self.head(self.norm3(x).mean(1))


class GatedLanguageModel(nn.Module):
    """Embedding tied with the output layer, RMSNorm written out, attention, a gated feed-forward part."""

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        self.table, self.attention = nn.Embedding(24, width), Attention(width, 3)
        self.gate, self.up = nn.Linear(width, 20, bias=False), nn.Linear(width, 20, bias=False)
        self.down = nn.Linear(20, width, bias=False)
        self.gains = nn.Parameter(torch.rand(3, width) + 0.5)

    def norm(self, x: Tensor, index: int) -> Tensor:
        return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + 1e-5) * self.gains[index]

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.table(tokens)
        x = x + self.attention(self.norm(x, 0))
        n = self.norm(x, 1)
        x = x + self.down(F.silu(self.gate(n)) * self.up(n))
        return self.norm(x, 2) @ self.table.weight.T


IMAGES, TOKENS = "images", "tokens"
NETWORKS = {
    "cnn": (ResidualCNN, IMAGES),
    "vit": (VisionTransformer, IMAGES),
    "lm": (GatedLanguageModel, TOKENS),
}


@lru_cache
def _exported(name: str) -> tuple[Graph, np.ndarray]:
    kind, inputs = NETWORKS[name]
    torch.manual_seed(0)
    x = torch.randn(6, 3, 8, 8) if inputs == IMAGES else torch.randint(0, 24, (6, 7))
    return qsim.load_model(kind().eval(), (x,)), x.numpy()


def make_network(name: str, seed: int = 0) -> tuple[Graph, dict[str, np.ndarray]]:
    """A network of NETWORKS with inputs; the magnitudes of channels differ by about e, biases are not zero."""
    graph, x = _exported(name)
    rng = np.random.default_rng(seed)
    changed = {}
    for key, array in graph.parameters.items():
        if array.dtype == np.float32 and array.size > 1:
            array = array * np.exp(rng.standard_normal(len(array))).reshape(-1, *(1,) * (array.ndim - 1))
            array = array + 0.3 * rng.standard_normal(array.shape) * key.endswith("bias")
        changed[key] = np.asarray(array, graph.parameters[key].dtype)
    return replace(graph, parameters=changed), {graph.inputs[0]: x}
