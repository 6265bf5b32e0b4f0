"""A small one-shot detector.

A backbone, features of two scales joined top-down (Lin et al. 2017), heads as SSD has them (Liu et al. 2016), and boxes
decoded in the net as YOLO does (Redmon and Farhadi 2018).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from tests.compiler.zoo.layers import conv, scaled

ANCHORS = 3


class Detector(nn.Module):
    """Scores (batch, places, classes) and boxes (batch, places, 4), both scales in one list."""

    def __init__(self, width: float, classes: int) -> None:
        super().__init__()
        first, second, third = (scaled(channels, width) for channels in (32, 64, 128))
        self.classes = classes
        self.stem = nn.Sequential(
            conv(3, first, stride=2, activation=nn.LeakyReLU(0.1)), conv(first, first, stride=2, activation=nn.SiLU())
        )
        self.fine = conv(first, second, stride=2, activation=nn.SiLU())
        self.coarse = conv(second, third, stride=2, activation=nn.SiLU())
        self.lateral = conv(third, second, 1, activation=nn.LeakyReLU(0.1))
        self.scores = nn.ModuleList(nn.Conv2d(c, ANCHORS * classes, 3, padding=1) for c in (2 * second, third))
        self.boxes = nn.ModuleList(nn.Conv2d(c, ANCHORS * 4, 3, padding=1) for c in (2 * second, third))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        fine = self.fine(self.stem(x))
        coarse = self.coarse(fine)
        above = interpolate(self.lateral(coarse), size=fine.shape[2:], mode="nearest")
        joined = torch.cat([above, fine], 1)
        scales = (joined, coarse)
        scores = [self._list(head(y), self.classes) for head, y in zip(self.scores, scales, strict=True)]
        boxes = [self._list(head(y), 4) for head, y in zip(self.boxes, scales, strict=True)]
        return torch.sigmoid(torch.cat(scores, 1)), self._decoded(torch.cat(boxes, 1))

    def _list(self, x: Tensor, count: int) -> Tensor:
        """(batch, anchors * count, height, width) to (batch, places, count)."""
        return x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, count)

    def _decoded(self, boxes: Tensor) -> Tensor:
        """Offsets of the middle, and sizes as powers of e."""
        middle, size = boxes[..., :2], boxes[..., 2:]
        return torch.cat([torch.sigmoid(middle) * 2.0 - 0.5, torch.exp(torch.clamp(size, -4.0, 4.0))], -1)


def detector(width: float, classes: int) -> nn.Module:
    """The whole net."""
    return Detector(width, classes)
