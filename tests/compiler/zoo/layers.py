"""What the nets of the zoo are built from, and weights as those of a net in use."""

from __future__ import annotations

import torch
from torch import Tensor, nn

SEED = 20_261_121
STATISTICS_SAMPLES = 8


def scaled(channels: int, width: float) -> int:
    """Channels by a width multiplier, in eights, never less than 90 % of what was asked for."""
    rounded = max(8, int(channels * width + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels * width else rounded


def conv(
    channels: int,
    wanted: int,
    kernel: int = 3,
    stride: int = 1,
    *,
    groups: int = 1,
    activation: nn.Module | None = None,
    padding: int | None = None,
) -> nn.Sequential:
    """Convolution, batch normalization, activation; padded by half the kernel, as PyTorch's nets are."""
    pad = kernel // 2 if padding is None else padding
    layers = [nn.Conv2d(channels, wanted, kernel, stride, pad, groups=groups, bias=False), nn.BatchNorm2d(wanted)]
    return nn.Sequential(*layers, *([activation] if activation is not None else []))


class Residual(nn.Module):
    """A body, added to what it reads."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x)
        return x + y


def in_use(net: nn.Module, size: tuple[int, int]) -> nn.Module:
    """The net with weights by He, random gains and shifts, and the statistics that noise pictures give."""
    torch.manual_seed(SEED)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out" if module.groups == 1 else "fan_in")
        elif isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the mean over what it has seen
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0.0, 0.2)
    net.train()
    with torch.no_grad():
        net(torch.randn(STATISTICS_SAMPLES, 3, *size))
    return net.eval()
