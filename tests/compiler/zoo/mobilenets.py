"""MobileNetV1 (Howard et al. 2017), V2 (Sandler et al. 2018, table 2), V3-small (Howard et al. 2019, table 2)."""

from __future__ import annotations

from torch import Tensor, nn

from tests.compiler.zoo.layers import Residual, conv, scaled

V1 = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1))
"""Channels and stride of each separable convolution."""
V2 = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Expansion, channels, blocks, stride of the first block."""
V3 = (
    (3, 16, 16, True, nn.ReLU, 2),
    (3, 72, 24, False, nn.ReLU, 2),
    (3, 88, 24, False, nn.ReLU, 1),
    (5, 96, 40, True, nn.Hardswish, 2),
    (5, 240, 40, True, nn.Hardswish, 1),
    (5, 240, 40, True, nn.Hardswish, 1),
    (5, 120, 48, True, nn.Hardswish, 1),
    (5, 144, 48, True, nn.Hardswish, 1),
    (5, 288, 96, True, nn.Hardswish, 2),
    (5, 576, 96, True, nn.Hardswish, 1),
    (5, 576, 96, True, nn.Hardswish, 1),
)
"""Kernel, expanded channels, channels, squeeze and excite, activation, stride."""


def mobilenet_v1(width: float, classes: int) -> nn.Module:
    """The average over the picture and the classifier behind it as a product."""
    channels = scaled(32, width)
    layers: list[nn.Module] = [conv(3, channels, stride=2, activation=nn.ReLU())]
    for wanted, stride in V1:
        layers.append(conv(channels, channels, stride=stride, groups=channels, activation=nn.ReLU()))
        layers.append(conv(channels, scaled(wanted, width), 1, activation=nn.ReLU()))
        channels = scaled(wanted, width)
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes), nn.Softmax(1)]
    return nn.Sequential(*layers)


def mobilenet_v2(width: float, classes: int) -> nn.Module:
    """Inverted residuals; the mean over the picture is one, not a pool."""
    channels = scaled(32, width)
    layers: list[nn.Module] = [conv(3, channels, stride=2, activation=nn.ReLU6())]
    for expansion, wanted, blocks, first in V2:
        for stride in (first, *(1,) * (blocks - 1)):
            layers.append(_inverted(channels, scaled(wanted, width), expansion, stride))
            channels = scaled(wanted, width)
    last = scaled(1280, width)
    layers += [conv(channels, last, 1, activation=nn.ReLU6()), Mean(), nn.Linear(last, classes)]
    return nn.Sequential(*layers)


def mobilenet_v3_small(width: float, classes: int) -> nn.Module:
    """With squeeze and excite, hard swish and hard sigmoid."""
    channels = scaled(16, width)
    layers: list[nn.Module] = [conv(3, channels, stride=2, activation=nn.Hardswish())]
    for kernel, hidden, wanted, excites, activation, stride in V3:
        inside = scaled(hidden, width)
        body = nn.Sequential(
            conv(channels, inside, 1, activation=activation()),
            conv(inside, inside, kernel, stride, groups=inside, activation=activation()),
            *([Excite(inside)] if excites else []),
            conv(inside, scaled(wanted, width), 1),
        )
        layers.append(Residual(body) if stride == 1 and channels == scaled(wanted, width) else body)
        channels = scaled(wanted, width)
    inside, features = scaled(576, width), scaled(1024, width)
    layers += [conv(channels, inside, 1, activation=nn.Hardswish()), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    layers += [nn.Linear(inside, features), nn.Hardswish(), nn.Dropout(0.2), nn.Linear(features, classes)]
    return nn.Sequential(*layers)


def _inverted(channels: int, wanted: int, expansion: int, stride: int) -> nn.Module:
    hidden = channels * expansion
    body = nn.Sequential(
        *([conv(channels, hidden, 1, activation=nn.ReLU6())] if expansion > 1 else []),
        conv(hidden, hidden, stride=stride, groups=hidden, activation=nn.ReLU6()),
        conv(hidden, wanted, 1),
    )
    return Residual(body) if stride == 1 and channels == wanted else body


class Mean(nn.Module):
    """Over height and width."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


class Excite(nn.Module):
    """Channels weighed by what the whole picture says."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = scaled(channels, 0.25)
        self.body = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, squeezed, 1),
            nn.ReLU(),
            nn.Conv2d(squeezed, channels, 1),
            nn.Hardsigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        weight: Tensor = self.body(x)
        return x * weight
