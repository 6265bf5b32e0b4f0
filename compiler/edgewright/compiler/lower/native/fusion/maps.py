"""Activations behind data movement, as of a transposed convolution whose points are interleaved, go before it.

There they become part of the product that makes the data.
"""

from __future__ import annotations

import math
from dataclasses import replace

from ..net import Convolution, Dense, Layer, Map, MatMul, Move, Net, Operand, Tensor
from .epilogues import is_plain
from .links import Links


def maps_before_moves(net: Net) -> Net:
    """Every Map of one tensor that only a Move makes, from the results of one product, each read once."""
    position = 0
    while position < len(net.layers):
        found = _swapped(net.layers[position], net)
        net, position = (net, position + 1) if found is None else (found, 0)
    return net


def _swapped(layer: Layer, net: Net) -> Net | None:
    links = Links(net)
    if not isinstance(layer, Map) or len(layer.operands) != 1 or not is_plain(layer.operands[0], layer.y):
        return None
    middle = layer.inputs[0]
    index = links.writer.get(middle.name)
    move = None if index is None else net.layers[index]
    if index is None or not isinstance(move, Move) or links.only_reader(middle) is None:
        return None
    x = _only_source(move, links)
    writer = None if x is None else links.writer.get(x.name)
    if x is None or writer is None or not isinstance(net.layers[writer], Convolution | Dense | MatMul):
        return None
    mapped = Tensor(f"{layer.y.name}.unmoved", x.shape, layer.y.dtype)
    before = replace(layer, y=mapped, operands=(Operand(x, x.strides),))
    after = replace(move, y=layer.y, parts=tuple(replace(part, x=mapped) for part in move.parts))
    kept = [each for each in net.layers if each is not layer]
    return Net(net.inputs, net.outputs, (*kept[:index], before, after, *kept[index + 1 :]))


def _only_source(move: Move, links: Links) -> Tensor | None:
    """The tensor that a Move spreads over its result without leaving a gap, where nobody else reads it."""
    x = move.parts[0].x
    if move.fill is not None or not isinstance(x, Tensor) or any(part.x is not x for part in move.parts):
        return None
    copied = sum(math.prod(part.extents) for part in move.parts)
    fits = x.elements == move.y.elements == copied and not x.border and not move.y.border
    return x if fits and links.only_reader(x) is not None else None
