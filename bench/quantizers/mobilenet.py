"""MobileNetV2-1.0-224 with random weights (Sandler et al. 2018, table 2), folded, as ONNX.

Weights are He-initialised; every batch normalisation gets a random gain and shift, and its statistics from noise
images, so that activations look like those of a net in use: channels of one layer differ in range.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

SEED = 20_261_121
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Expansion, channels, blocks, stride of the first block."""
SIZE = 224
CLASSES = 1000
OPSET = 18


def export(path: Path) -> None:
    """Writes the net, the same each time."""
    torch.manual_seed(SEED)
    net = MobileNetV2()
    net.train()
    with torch.no_grad():
        net(torch.randn(16, 3, SIZE, SIZE))
    net.eval()
    torch.onnx.export(
        nn.Sequential(*[_folded(layer) for layer in net.layers]).eval(),
        (torch.randn(1, 3, SIZE, SIZE),),
        path,
        input_names=["input"],
        output_names=["logits"],
        opset_version=OPSET,
        external_data=False,
        dynamo=True,
        verbose=False,
    )


class MobileNetV2(nn.Module):
    """The whole net as a list of layers."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [_convolution(3, 32, 3, 2)]
        channels = 32
        for expansion, wanted, blocks, stride in STAGES:
            for block in range(blocks):
                layers.append(Bottleneck(channels, wanted, expansion, stride if block == 0 else 1))
                channels = wanted
        layers += [_convolution(channels, 1280, 1, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, CLASSES)]
        self.layers = nn.ModuleList(layers)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
            elif isinstance(module, nn.BatchNorm2d):
                module.momentum = None  # the mean over what it has seen
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, 0.0, 0.2)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


class Bottleneck(nn.Module):
    """Expand, depthwise, project; added to its input where the shapes allow it."""

    def __init__(self, channels: int, wanted: int, expansion: int, stride: int) -> None:
        super().__init__()
        hidden = channels * expansion
        first = [_convolution(channels, hidden, 1, 1)] if expansion > 1 else []
        self.body = nn.Sequential(
            *first,
            _convolution(hidden, hidden, 3, stride, groups=hidden),
            _convolution(hidden, wanted, 1, 1, activation=False),
        )
        self.adds = stride == 1 and channels == wanted

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x)
        return x + y if self.adds else y


def _convolution(
    channels: int, wanted: int, kernel: int, stride: int, groups: int = 1, *, activation: bool = True
) -> nn.Sequential:
    layers: list[nn.Module] = [
        nn.Conv2d(channels, wanted, kernel, stride, (kernel - 1) // 2, groups=groups, bias=False),
        nn.BatchNorm2d(wanted),
    ]
    return nn.Sequential(*layers, *([nn.ReLU6()] if activation else []))


def _folded(layer: nn.Module) -> nn.Module:
    if isinstance(layer, Bottleneck):
        layer.body = nn.Sequential(*[_folded(part) for part in layer.body])
        return layer
    if isinstance(layer, nn.Sequential):
        convolution, normalization, *rest = layer
        assert isinstance(convolution, nn.Conv2d)
        assert isinstance(normalization, nn.BatchNorm2d)
        return nn.Sequential(fuse_conv_bn_eval(convolution, normalization), *rest)
    return layer
