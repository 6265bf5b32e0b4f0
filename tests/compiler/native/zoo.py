"""Well-known nets in few lines, at any size: the shapes that native code has to compute, with weights of no meaning.

Layers follow the papers that their docstrings name; `width` scales channels where a test wants a small net.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


def conv(
    channels: int, wanted: int, kernel: int = 1, stride: int = 1, groups: int = 1, act: nn.Module | None = None
) -> nn.Sequential:
    """Convolution, batch normalisation, activation."""
    layers: list[nn.Module] = [
        nn.Conv2d(channels, wanted, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(wanted),
    ]
    return nn.Sequential(*layers, *([] if act is None else [act]))


class Residual(nn.Module):
    """x + body(x), where the shapes differ through a projection; then an activation."""

    def __init__(self, body: nn.Module, projection: nn.Module | None = None, act: nn.Module | None = None) -> None:
        super().__init__()
        self.body, self.projection, self.act = body, projection or nn.Identity(), act or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.act(self.body(x) + self.projection(x))
        return found


def head(channels: int, classes: int) -> list[nn.Module]:
    """Mean over the picture, then classes."""
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)]


def resnet(blocks: Sequence[int], bottleneck: bool, width: int = 64, classes: int = 1000) -> nn.Module:
    """He et al. 2015; the stride of a bottleneck lies in its 3 x 3."""
    layers: list[nn.Module] = [conv(3, width, 7, 2, act=nn.ReLU()), nn.MaxPool2d(3, 2, 1)]
    channels = width
    for stage, count in enumerate(blocks):
        inner = width << stage
        wanted = inner * 4 if bottleneck else inner
        for block in range(count):
            stride = 2 if stage and not block else 1
            body = (
                nn.Sequential(
                    conv(channels, inner, act=nn.ReLU()),
                    conv(inner, inner, 3, stride, act=nn.ReLU()),
                    conv(inner, wanted),
                )
                if bottleneck
                else nn.Sequential(conv(channels, inner, 3, stride, act=nn.ReLU()), conv(inner, wanted, 3))
            )
            projection = conv(channels, wanted, 1, stride) if stride > 1 or channels != wanted else None
            layers.append(Residual(body, projection, nn.ReLU()))
            channels = wanted
    return nn.Sequential(*layers, *head(channels, classes))


def mobilenet_v1(width: float = 1.0, classes: int = 1000) -> nn.Module:
    """Howard et al. 2017, table 1."""
    plan = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))
    channels = int(32 * width)
    layers: list[nn.Module] = [conv(3, channels, 3, 2, act=nn.ReLU6())]
    for wanted, stride in plan:
        layers.append(conv(channels, channels, 3, stride, channels, nn.ReLU6()))
        layers.append(conv(channels, int(wanted * width), act=nn.ReLU6()))
        channels = int(wanted * width)
    return nn.Sequential(*layers, *head(channels, classes))


class Excite(nn.Module):
    """Squeeze and excitation with a hard sigmoid."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = max(8, channels // 4 + 4) // 8 * 8
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, inner, 1),
            nn.ReLU(),
            nn.Conv2d(inner, channels, 1),
            nn.Hardsigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = x * self.gate(x)
        return found


V3_SMALL = (
    (3, 16, 16, True, False, 2), (3, 72, 24, False, False, 2), (3, 88, 24, False, False, 1), (5, 96, 40, True, True, 2),
    (5, 240, 40, True, True, 1), (5, 240, 40, True, True, 1), (5, 120, 48, True, True, 1), (5, 144, 48, True, True, 1),
    (5, 288, 96, True, True, 2), (5, 576, 96, True, True, 1), (5, 576, 96, True, True, 1),
)  # fmt: skip
"""Kernel, expansion, channels, excitation, hard swish, stride: Howard et al. 2019, table 2."""
V3_LARGE = (
    (3, 16, 16, False, False, 1), (3, 64, 24, False, False, 2), (3, 72, 24, False, False, 1),
    (5, 72, 40, True, False, 2), (5, 120, 40, True, False, 1), (5, 120, 40, True, False, 1),
    (3, 240, 80, False, True, 2), (3, 200, 80, False, True, 1), (3, 184, 80, False, True, 1),
    (3, 184, 80, False, True, 1), (3, 480, 112, True, True, 1), (3, 672, 112, True, True, 1),
    (5, 672, 160, True, True, 2), (5, 960, 160, True, True, 1), (5, 960, 160, True, True, 1),
)  # fmt: skip
"""Table 1."""


def mobilenet_v3(plan: Sequence[tuple[int, int, int, bool, bool, int]], last: int, classes: int = 1000) -> nn.Module:
    """`last`: width of the first of the two layers at the end."""
    channels = 16
    layers: list[nn.Module] = [conv(3, channels, 3, 2, act=nn.Hardswish())]
    hidden = channels
    for kernel, hidden, wanted, excite, swish, stride in plan:
        body: list[nn.Module] = []
        act = nn.Hardswish() if swish else nn.ReLU()
        if hidden != channels:
            body.append(conv(channels, hidden, act=act))
        body.append(conv(hidden, hidden, kernel, stride, hidden, act))
        body += [Excite(hidden)] if excite else []
        body.append(conv(hidden, wanted))
        block = nn.Sequential(*body)
        layers.append(Residual(block) if stride == 1 and channels == wanted else block)
        channels = wanted
    layers.append(conv(channels, channels * 6, act=nn.Hardswish()))
    tail = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels * 6, last), nn.Hardswish()]
    return nn.Sequential(*layers, *tail, nn.Linear(last, classes))


EFFICIENTNET_LITE = (
    (3, 1, 16, 1, 1), (3, 6, 24, 2, 2), (5, 6, 40, 2, 2), (3, 6, 80, 3, 2), (5, 6, 112, 3, 1), (5, 6, 192, 4, 2),
    (3, 6, 320, 1, 1),
)  # fmt: skip
"""Kernel, expansion, channels, blocks, stride: Tan and Le 2019, without excitation, with ReLU6."""


def efficientnet_lite(
    plan: Sequence[tuple[int, int, int, int, int]] = EFFICIENTNET_LITE, last: int = 1280, classes: int = 1000
) -> nn.Module:
    """EfficientNet-lite0."""
    channels = 32
    layers: list[nn.Module] = [conv(3, channels, 3, 2, act=nn.ReLU6())]
    for kernel, expansion, wanted, blocks, first in plan:
        for block in range(blocks):
            hidden, stride = channels * expansion, first if block == 0 else 1
            body: list[nn.Module] = [conv(channels, hidden, act=nn.ReLU6())] if expansion > 1 else []
            body += [conv(hidden, hidden, kernel, stride, hidden, nn.ReLU6()), conv(hidden, wanted)]
            whole = nn.Sequential(*body)
            layers.append(Residual(whole) if stride == 1 and channels == wanted else whole)
            channels = wanted
    return nn.Sequential(*layers, conv(channels, last, act=nn.ReLU6()), *head(last, classes))


class Fire(nn.Module):
    """Squeeze, then 1 x 1 and 3 x 3 side by side."""

    def __init__(self, channels: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeeze, 1)
        self.narrow, self.wide = nn.Conv2d(squeeze, expand, 1), nn.Conv2d(squeeze, expand, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.squeeze(x))
        return torch.cat([torch.relu(self.narrow(y)), torch.relu(self.wide(y))], 1)


def squeezenet(width: int = 16, classes: int = 1000) -> nn.Module:
    """SqueezeNet 1.1: Iandola et al. 2016; pools of windows that overhang (ceil mode)."""
    layers: list[nn.Module] = [nn.Conv2d(3, 4 * width, 3, 2), nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True)]
    channels = 4 * width
    for index, squeeze in enumerate((1, 1, 2, 2, 3, 3, 4, 4)):
        layers.append(Fire(channels, squeeze * width, 4 * squeeze * width))
        channels = 8 * squeeze * width
        if index in (1, 3):
            layers.append(nn.MaxPool2d(3, 2, ceil_mode=True))
    tail = [nn.Conv2d(channels, classes, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, *tail)


class ConvNeXtBlock(nn.Module):
    """Liu et al. 2022: depthwise 7 x 7, then a perceptron on channels last, scaled per channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels))
        self.scale = nn.Parameter(torch.rand(channels))

    def forward(self, x: Tensor) -> Tensor:
        y = self.mlp(self.norm(self.depthwise(x).permute(0, 2, 3, 1))) * self.scale
        found: Tensor = x + y.permute(0, 3, 1, 2)
        return found


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of a picture."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def convnext(width: int = 40, blocks: Sequence[int] = (2, 2, 6, 2), classes: int = 1000) -> nn.Module:
    """ConvNeXt; the default is its atto size."""
    layers: list[nn.Module] = [nn.Conv2d(3, width, 4, 4), ChannelNorm(width, eps=1e-6)]
    for stage, count in enumerate(blocks):
        channels = width << stage
        if stage:
            layers += [ChannelNorm(channels // 2, eps=1e-6), nn.Conv2d(channels // 2, channels, 2, 2)]
        layers += [ConvNeXtBlock(channels) for _ in range(count)]
    last = width << (len(blocks) - 1)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(last), nn.Linear(last, classes))


class UNet(nn.Module):
    """Ronneberger et al. 2015, padded; up by transposed convolutions, or by interpolation."""

    def __init__(self, width: int = 16, depth: int = 3, interpolated: bool = False) -> None:
        super().__init__()
        widths = [width << level for level in range(depth + 1)]
        self.down = nn.ModuleList(self._pair(a, b) for a, b in zip([3, *widths], widths, strict=False))
        self.up = nn.ModuleList(
            nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(2 * each, each, 1))
            if interpolated
            else nn.ConvTranspose2d(2 * each, each, 2, 2)
            for each in reversed(widths[:-1])
        )
        self.join = nn.ModuleList(self._pair(2 * each, each) for each in reversed(widths[:-1]))
        self.last = nn.Conv2d(width, 2, 1)

    @staticmethod
    def _pair(channels: int, wanted: int) -> nn.Sequential:
        return nn.Sequential(conv(channels, wanted, 3, act=nn.ReLU()), conv(wanted, wanted, 3, act=nn.ReLU()))

    def forward(self, x: Tensor) -> Tensor:
        kept: list[Tensor] = []
        for index, block in enumerate(self.down):
            x = block(functional.max_pool2d(x, 2) if index else x)
            kept.append(x)
        for up, join in zip(self.up, self.join, strict=True):
            del kept[-1]
            x = join(torch.cat([kept[-1], up(x)], 1))
        found: Tensor = torch.sigmoid(self.last(x))
        return found


def autoencoder(width: int = 16) -> nn.Module:
    """Convolutions of stride 2 down, transposed ones with output padding up."""

    def up(channels: int, wanted: int) -> nn.Module:
        return nn.ConvTranspose2d(channels, wanted, 3, 2, padding=1, output_padding=1)

    return nn.Sequential(
        conv(3, width, 3, 2, act=nn.LeakyReLU(0.1)),
        conv(width, 2 * width, 3, 2, act=nn.LeakyReLU(0.1)),
        conv(2 * width, 4 * width, 3, 2, act=nn.ELU()),
        up(4 * width, 2 * width),
        nn.LeakyReLU(0.1),
        up(2 * width, width),
        nn.SiLU(),
        up(width, 3),
        nn.Tanh(),
    )


def random_statistics(net: nn.Module, seed: int = 0) -> nn.Module:
    """Batch normalisations that do something; the net in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            for tensor, low, high in (
                (module.weight, 0.6, 1.2),
                (module.bias, -0.2, 0.2),
                (module.running_mean, -0.2, 0.2),
                (module.running_var, 0.5, 1.5),
            ):
                assert tensor is not None
                tensor.data.uniform_(low, high, generator=generator)
    return net.eval()
