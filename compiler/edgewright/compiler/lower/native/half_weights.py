"""Stores weights that a call reads once in half precision: where reading them is what takes the time, that halves it.

Products are still computed in float32; each weight is rounded once, to 11 bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeGuard

import numpy as np

from .machine import Machine
from .net import Dense, Layer, Net

LEAST_BYTES = 256 << 10
"""Of weights that a call reads once; below, the first-level caches hold them."""
LARGEST = 65504.0
SMALLEST_NORMAL = 2.0**-14
CONVERTING = frozenset({"f16c", "asimd"})
"""Features that turn a vector of halves into floats in one instruction."""


def with_half_weights(nets: Mapping[int, Net], machine: Machine) -> dict[int, Net] | None:
    """The same nets with halves where they pay; None where they do not.

    `nets` are one model for several batch sizes: that of the smallest decides, and all share the weights.
    """
    read_once = {layer.origin: layer.weight.nbytes for layer in nets[min(nets)].layers if _is_read_once(layer)}
    if not CONVERTING & set(machine.isa) or sum(read_once.values()) < LEAST_BYTES:
        return None
    return {
        batch: replace(net, layers=tuple(_halved(layer, set(read_once)) for layer in net.layers))
        for batch, net in nets.items()
    }


def _is_read_once(layer: Layer) -> TypeGuard[Dense]:
    return (
        isinstance(layer, Dense)
        and layer.weight.dtype == np.float32
        and layer.x.elements == layer.x.shape[-1]
        and _fits(layer)
    )


def _fits(layer: Dense) -> bool:
    """No weight overflows, and none but the negligible lose digits below the range of normal numbers."""
    largest = float(np.abs(layer.weight).max(initial=0))
    return SMALLEST_NORMAL < largest < LARGEST


def _halved(layer: Layer, origins: set[str]) -> Layer:
    if isinstance(layer, Dense) and layer.origin in origins and layer.weight.dtype == np.float32:
        return replace(layer, weight=layer.weight.astype(np.float16))
    return layer
