"""Padding without a copy: whoever makes a tensor writes it into a buffer that has the border already.

A Move that only puts a border around a tensor goes; the tensor gets the border wherever it is written and read. The
memory of a net is shared by tensors of other times, so the border itself is filled in every run, by a small Move before
the layer that makes the tensor.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import numpy as np

from ..net import NUMPY, Border, Convolution, Dense, Layer, Map, Move, Net, Part, Pool, Reduce, Separable, Tensor
from ..rebuild import bordered_by, substituted
from .links import Links

_WRITES = (Convolution, Dense, Map, Move, Pool, Separable)
_READS = (Convolution, Dense, Map, Pool, Separable, Move, Reduce)


def fold_borders(net: Net) -> Net:
    """Every padding Move that the layer before it can do without."""
    paddings: dict[str, list[Move]] = defaultdict(list)
    for layer in net.layers:
        if (source := _padded(layer)) is not None and isinstance(layer, Move):
            paddings[source.name].append(layer)
    for moves in paddings.values():
        net = _folded(net, moves)
    return net


def _padded(layer: Layer) -> Tensor | None:
    """The tensor that a Move does nothing to but putting a border around it."""
    if not isinstance(layer, Move) or layer.fill is None or len(layer.parts) != 1 or not layer.y.border:
        return None
    part = layer.parts[0]
    if not isinstance(part.x, Tensor) or part.x.border or part.x_start or part.y_start:
        return None
    if part.x.shape != layer.y.shape or part.extents != layer.y.shape or layer.fill != layer.y.border.value:
        return None
    same = all(
        size == 1 or (a == b and c == d)
        for size, a, b, c, d in zip(
            part.extents, part.x_strides, part.x.strides, part.y_strides, layer.y.strides, strict=True
        )
    )
    return part.x if same else None


def _folded(net: Net, moves: list[Move]) -> Net:
    """The net without those of the Moves that agree with the first on what the border holds."""
    old = _padded(moves[0])
    links = Links(net)
    writer = None if old is None else links.writer.get(old.name)
    if old is None or writer is None or old.name in links.outside or not _leaves_borders(net.layers[writer]):
        return net
    going = [move for move in moves if move.fill == moves[0].fill]
    new = replace(old, border=_around(going))
    layers = [net.layers[writer], *(net.layers[index] for index in links.readers[old.name])]
    others = [layer for layer in layers if not any(layer is move for move in going)]
    if not all(isinstance(layer, _READS) and bordered_by(layer, old, new) for layer in others):
        return net
    kept: list[Layer] = []
    for index, layer in enumerate(net.layers):
        if index == writer:
            kept.append(_fill(new, layer.origin))
        if not any(layer is move for move in going):
            kept.append(layer)
    names = {old.name: new, **{move.y.name: new for move in going}}
    return substituted(Net(net.inputs, net.outputs, tuple(kept)), names)


def _leaves_borders(layer: Layer) -> bool:
    """Whether a layer can write inside a border; a Move that fills its result first would write over it."""
    return isinstance(layer, _WRITES) and not (isinstance(layer, Move) and layer.fill is not None)


def _around(moves: list[Move]) -> Border:
    """The widest of all on every side."""
    borders = [move.y.border for move in moves]
    return Border(
        top=max(border.top for border in borders),
        left=max(border.left for border in borders),
        bottom=max(border.bottom for border in borders),
        right=max(border.right for border in borders),
        value=borders[0].value,
    )


def _fill(tensor: Tensor, origin: str) -> Move:
    """Writes nothing but the border."""
    batch, height, width, channels = tensor.shape
    border = tensor.border
    wide = border.left + width + border.right
    boxes = (
        (-border.top, -border.left, border.top, wide),
        (height, -border.left, border.bottom, wide),
        (0, -border.left, height, border.left),
        (0, width, height, border.right),
    )
    value = np.full(1, border.value, NUMPY[tensor.dtype])
    _, row, column, _ = tensor.strides
    parts = tuple(
        Part(
            x=value,
            extents=(batch, rows, columns, channels),
            x_strides=(0, 0, 0, 0),
            y_strides=tensor.strides,
            y_start=top * row + left * column,
        )
        for top, left, rows, columns in boxes
        if rows and columns
    )
    return Move(y=tensor, parts=parts, origin=f"border of {origin}")
