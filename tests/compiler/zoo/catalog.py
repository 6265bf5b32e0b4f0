"""The zoo: each net at its full size, and a small one of the same make; sizes are odd on purpose.

Frontends take functions of no arguments by name: `tests.compiler.zoo.catalog:small_resnet_18`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from edgewright.compiler.frontends.torch import load_torch
from edgewright.compiler.graph import Graph
from edgewright.compiler.optimize import FLOAT_PASSES
from edgewright.compiler.passes import NoOptions
from tests.compiler.zoo.classifiers import efficientnet_lite0, resnet_18, squeezenet
from tests.compiler.zoo.detector import detector
from tests.compiler.zoo.layers import in_use
from tests.compiler.zoo.mobilenets import mobilenet_v1, mobilenet_v2, mobilenet_v3_small

SMALL_WIDTH, FULL_WIDTH = 0.25, 1.0
SMALL_CLASSES = 10
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class ZooNet:
    """One net by its name; sizes are height and width."""

    name: str
    make: Callable[[float, int], nn.Module]
    """Of a width multiplier and a count of classes."""
    small: tuple[int, int] = (97, 75)
    full: tuple[int, int] = (225, 193)
    classes: int = 1000
    """Of the full net."""

    def build_small(self) -> nn.Module:
        """The same layers, a quarter of the channels."""
        return in_use(self.make(SMALL_WIDTH, SMALL_CLASSES), self.small)

    def build_full(self) -> nn.Module:
        """As published."""
        return in_use(self.make(FULL_WIDTH, self.classes), self.full)


ZOO = {
    net.name: net
    for net in (
        ZooNet("mobilenet_v1", mobilenet_v1),
        ZooNet("mobilenet_v2", mobilenet_v2, small=(75, 97)),
        ZooNet("mobilenet_v3_small", mobilenet_v3_small, small=(97, 67)),
        ZooNet("resnet_18", resnet_18, small=(71, 90)),
        ZooNet("efficientnet_lite0", efficientnet_lite0, small=(94, 75)),
        ZooNet("squeezenet", squeezenet, full=(227, 195)),
        ZooNet("detector", detector, full=(321, 259), classes=20),
    )
}


def pictures(size: tuple[int, int], count: int, seed: int = 0) -> Floats:
    """Smooth noise (count, 3, height, width), as pictures are: neighbours are alike."""
    random = np.random.default_rng(seed)
    coarse = random.normal(size=(count, 3, -(-size[0] // 8), -(-size[1] // 8)))
    smooth = coarse.repeat(8, 2).repeat(8, 3)[:, :, : size[0], : size[1]]
    found: Floats = (smooth + 0.3 * random.normal(size=(count, 3, *size))).astype(np.float32)
    return found


def exported(net: ZooNet, *, full: bool = False) -> Graph:
    """As the frontend for PyTorch reads it, before any pass."""
    size = net.full if full else net.small
    samples = {"x": pictures(size, 2)}
    return load_torch(f"{__name__}:{'full' if full else 'small'}_{net.name}", None, samples).graph


def optimised(graph: Graph) -> Graph:
    """As the compiler lowers it."""
    for float_pass in FLOAT_PASSES:
        graph = float_pass(graph, NoOptions()).graph
    return graph


globals().update({f"small_{name}": net.build_small for name, net in ZOO.items()})
globals().update({f"full_{name}": net.build_full for name, net in ZOO.items()})
