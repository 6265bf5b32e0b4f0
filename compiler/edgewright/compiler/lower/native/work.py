"""How much a layer has to do: what is worth tuning first, and what is worth dividing among threads."""

from __future__ import annotations

from .net import Convolution, Dense, Layer, MatMul, Separable

PRODUCTS = Convolution | Dense | MatMul | Separable
"""Layers whose time is that of their multiplications."""


def work(layer: Layer) -> int:
    """Multiplications of a layer, or elements where it has none."""
    if isinstance(layer, Separable):
        return work(layer.depthwise) + work(layer.pointwise)
    elements = sum(tensor.elements for tensor in layer.outputs)
    if isinstance(layer, Convolution | Dense):
        return elements * int(layer.weight.size // layer.weight.shape[0])
    if isinstance(layer, MatMul):
        return elements * layer.a.shape[-2 if layer.a_transposed else -1]
    return elements
