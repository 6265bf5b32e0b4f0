"""The nets of `zoo` that read words, patches or steps instead of pictures."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Attention(nn.Module):
    """Self-attention of several heads, as BERT's code writes it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        q, k, v = (
            each(x).view(batch, tokens, self.heads, width // self.heads).transpose(1, 2)
            for each in (self.q, self.k, self.v)
        )
        scores = q @ k.transpose(-1, -2) / (width // self.heads) ** 0.5
        mixed = (torch.softmax(scores, -1) @ v).transpose(1, 2).reshape(batch, tokens, width)
        found: Tensor = self.out(mixed)
        return found


class EncoderLayer(nn.Module):
    """Attention and a perceptron, each added; normalised behind (BERT) or before (ViT)."""

    def __init__(self, width: int, heads: int, hidden: int, before: bool = False) -> None:
        super().__init__()
        self.attention, self.before = Attention(width, heads), before
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, x: Tensor) -> Tensor:
        if self.before:
            x = x + self.attention(self.first(x))
            added: Tensor = x + self.mlp(self.second(x))
            return added
        x = self.first(x + self.attention(x))
        found: Tensor = self.second(x + self.mlp(x))
        return found


class MiniLM(nn.Module):
    """Wang et al. 2020: token, place and kind embeddings, post-norm layers, mean over tokens."""

    def __init__(self, layers: int = 6, width: int = 384, heads: int = 12, words: int = 30522) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(words, width), nn.Embedding(512, width)
        self.norm = nn.LayerNorm(width, eps=1e-12)
        self.layers = nn.Sequential(*[EncoderLayer(width, heads, 4 * width) for _ in range(layers)])

    def forward(self, tokens: Tensor) -> Tensor:
        places = torch.arange(tokens.shape[1])
        x = self.layers(self.norm(self.words(tokens) + self.places(places)))
        return functional.normalize(x.mean(1), dim=-1)


class ViT(nn.Module):
    """Dosovitskiy et al. 2020: patches, a class token, pre-norm layers."""

    def __init__(
        self, size: int = 224, patch: int = 16, layers: int = 12, width: int = 192, classes: int = 1000
    ) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.token = nn.Parameter(torch.randn(1, 1, width))
        self.places = nn.Parameter(torch.randn(1, (size // patch) ** 2 + 1, width))
        self.layers = nn.Sequential(*[EncoderLayer(width, width // 64, 4 * width, before=True) for _ in range(layers)])
        self.norm, self.classes = nn.LayerNorm(width), nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        rows = self.patches(x).flatten(2).transpose(1, 2)
        rows = torch.cat([self.token.expand(rows.shape[0], -1, -1), rows], 1) + self.places
        found: Tensor = self.classes(self.norm(self.layers(rows))[:, 0])
        return found


class RecurrentNet(nn.Module):
    """A classifier on what a recurrent net says last."""

    def __init__(self, kind: type[nn.LSTM | nn.GRU], features: int, hidden: int, layers: int, both: bool) -> None:
        super().__init__()
        self.body = kind(features, hidden, layers, batch_first=True, bidirectional=both)
        self.classes = nn.Linear(hidden * (1 + both), 10)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.classes(self.body(x)[0][:, -1])
        return found


class TemporalBlock(nn.Module):
    """Bai et al. 2018: two causal dilated convolutions, added to their input."""

    def __init__(self, channels: int, wanted: int, dilation: int) -> None:
        super().__init__()
        self.before = 2 * dilation
        self.first = nn.Conv1d(channels, wanted, 3, dilation=dilation)
        self.second = nn.Conv1d(wanted, wanted, 3, dilation=dilation)
        self.beside = nn.Conv1d(channels, wanted, 1) if channels != wanted else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.first(functional.pad(x, (self.before, 0))))
        y = torch.relu(self.second(functional.pad(y, (self.before, 0))))
        return torch.relu(y + self.beside(x))


def tcn(features: int = 16, width: int = 64, levels: int = 5) -> nn.Module:
    """A temporal convolutional net that classifies a sequence (N, features, T)."""
    blocks = [TemporalBlock(width if level else features, width, 1 << level) for level in range(levels)]
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(width, 10))


def mlp(features: int = 784, hidden: int = 512) -> nn.Module:
    """Every usual activation once."""
    activations = (nn.ReLU(), nn.GELU(approximate="tanh"), nn.Softplus(), nn.Mish(), nn.SELU())
    widths = [features, *[hidden] * len(activations)]
    layers = [
        part
        for a, b, act in zip(widths, widths[1:], activations, strict=False)
        for part in (nn.Linear(a, b), nn.BatchNorm1d(b), act)
    ]
    return nn.Sequential(*layers, nn.Linear(hidden, 10), nn.LogSoftmax(-1))
