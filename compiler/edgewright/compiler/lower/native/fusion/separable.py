"""A depthwise convolution and the pointwise product that alone reads it become one layer, where that saves time.

Band by band pays where what lies between does not stay in the second cache (measured: 3 to 12 % of both layers); below
that, the two layers one after the other are as fast, and each is tuned by itself.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..kernels import separable
from ..machine import Machine
from ..net import Convolution, Dense, Net, Separable
from .links import Links


def fuse_separable(net: Net, machine: Machine) -> Net:
    """Pairs whose middle is larger than half of the second cache.

    A tuner may still take them one after the other: a band of all rows is one of the tiles.
    """
    links = Links(net)
    layers = list(net.layers)
    gone = set()
    for index, layer in enumerate(net.layers):
        pair = _pair(layer, links, net) if isinstance(layer, Dense) else None
        pays = pair is not None and pair.depthwise.y.size_bytes > machine.l2_bytes // 2
        if pair is not None and pays and separable.FAMILY.tiles(pair, machine):
            layers[index] = pair
            gone.add(links.writer[pair.depthwise.y.name])
    return replace(net, layers=tuple(layer for index, layer in enumerate(layers) if index not in gone))


def _pair(lower: Dense, links: Links, net: Net) -> Separable | None:
    writer = links.writer.get(lower.x.name)
    upper = net.layers[writer] if writer is not None and links.only_reader(lower.x) is not None else None
    if not isinstance(upper, Convolution) or not upper.is_depthwise or upper.y.border:
        return None
    floats = upper.weight.dtype == np.float32 and upper.y.dtype == lower.y.dtype == "f32"
    alike = upper.y.shape == lower.x.shape and len(lower.y.shape) == 4
    # A residual that is the middle itself would be gone.
    beside = any(tensor.name == upper.y.name for tensor in lower.epilogue.beside)
    return Separable(depthwise=upper, pointwise=lower) if floats and alike and not beside else None
