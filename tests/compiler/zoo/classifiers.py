"""ResNet-18 (He et al. 2015, table 1), EfficientNet-lite0 (Tan and Liu 2020), SqueezeNet 1.0 (Iandola et al. 2016)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from tests.compiler.zoo.layers import Residual, conv, scaled

RESNET = ((64, 1), (128, 2), (256, 2), (512, 2))
"""Channels and stride of each pair of blocks."""
EFFICIENTNET = (
    (1, 3, 16, 1, 1), (6, 3, 24, 2, 2), (6, 5, 40, 2, 2), (6, 3, 80, 3, 2), (6, 5, 112, 3, 1), (6, 5, 192, 4, 2),
    (6, 3, 320, 1, 1),
)  # fmt: skip
"""Expansion, kernel, channels, blocks, stride of the first block."""


def resnet_18(width: float, classes: int) -> nn.Module:
    """A max pool that pads, and strided shortcuts."""
    channels = scaled(64, width)
    layers: list[nn.Module] = [conv(3, channels, 7, 2, activation=nn.ReLU()), nn.MaxPool2d(3, 2, 1)]
    for wanted, first in RESNET:
        for stride in (first, 1):
            layers.append(Basic(channels, scaled(wanted, width), stride))
            channels = scaled(wanted, width)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))


class Basic(nn.Module):
    """Two convolutions; the shortcut is one where the shape changes."""

    def __init__(self, channels: int, wanted: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(channels, wanted, stride=stride, activation=nn.ReLU()), conv(wanted, wanted))
        same = stride == 1 and channels == wanted
        self.shortcut = nn.Identity() if same else conv(channels, wanted, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.shortcut(x))


def efficientnet_lite0(width: float, classes: int) -> nn.Module:
    """Padded as TensorFlow pads, so strided convolutions have a Pad of their own before them."""
    channels = scaled(32, width)
    layers: list[nn.Module] = [_same(3, channels, 3, 2)]
    for expansion, kernel, wanted, blocks, first in EFFICIENTNET:
        for stride in (first, *(1,) * (blocks - 1)):
            layers.append(_bottleneck(channels, scaled(wanted, width), expansion, kernel, stride))
            channels = scaled(wanted, width)
    last = scaled(1280, width)
    layers += [conv(channels, last, 1, activation=nn.ReLU6()), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(last, classes))


def _bottleneck(channels: int, wanted: int, expansion: int, kernel: int, stride: int) -> nn.Module:
    hidden = channels * expansion
    body = nn.Sequential(
        *([conv(channels, hidden, 1, activation=nn.ReLU6())] if expansion > 1 else []),
        _same(hidden, hidden, kernel, stride, groups=hidden),
        conv(hidden, wanted, 1),
    )
    return Residual(body) if stride == 1 and channels == wanted else body


def _same(channels: int, wanted: int, kernel: int, stride: int, groups: int = 1) -> nn.Module:
    plain = conv(channels, wanted, kernel, stride, groups=groups, activation=nn.ReLU6(), padding=0)
    return nn.Sequential(SamePad(kernel, stride), plain)


class SamePad(nn.Module):
    """What the last window lacks, the larger half behind."""

    def __init__(self, kernel: int, stride: int) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        totals = [max((-(-size // self.stride) - 1) * self.stride + self.kernel - size, 0) for size in x.shape[2:]]
        (top, bottom), (left, right) = ((total // 2, total - total // 2) for total in totals)
        return pad(x, (left, right, top, bottom))


def squeezenet(width: float, classes: int) -> nn.Module:
    """Version 1.0; its pools round up, its classifier is a convolution."""
    channels = scaled(96, width)
    layers: list[nn.Module] = [nn.Conv2d(3, channels, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True)]
    for index, (squeezed, expanded) in enumerate(
        ((16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256))
    ):
        layers.append(Fire(channels, scaled(squeezed, width), scaled(expanded, width)))
        channels = 2 * scaled(expanded, width)
        if index in {2, 6}:
            layers.append(nn.MaxPool2d(3, 2, ceil_mode=True))
    layers += [nn.Dropout(0.5), nn.Conv2d(channels, classes, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers)


class Fire(nn.Module):
    """Squeezed, then expanded in two ways side by side."""

    def __init__(self, channels: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = nn.Sequential(nn.Conv2d(channels, squeezed, 1), nn.ReLU())
        self.expand1 = nn.Sequential(nn.Conv2d(squeezed, expanded, 1), nn.ReLU())
        self.expand3 = nn.Sequential(nn.Conv2d(squeezed, expanded, 3, padding=1), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        y = self.squeeze(x)
        return torch.cat([self.expand1(y), self.expand3(y)], 1)
