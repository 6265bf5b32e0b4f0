"""How products of matrices are cut: channels into panels of vectors, positions into lines and even parts.

A panel is what a register block computes of the channels; its weights lie together, input channel after input channel.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from ..machine import Machine
from ..nest import Affine, Builder, Loop, Node, loop, number, pieces, variable
from ..net import Array, Tensor


@dataclass(frozen=True)
class Vector:
    """Some neighbouring channels of a panel."""

    offset: int
    """Of the first, from the panel's start."""
    lanes: int
    count: int
    """Channels that exist; below `lanes` only where the channels end."""

    @property
    def kind(self) -> str:
        """Its C type."""
        return f"f32x{self.lanes}"


Panel = tuple[Vector, ...]
"""Channels that a register block computes at once."""


def panel_width(panel: Panel) -> int:
    """Floats per input channel of the packed panel."""
    return sum(vector.lanes for vector in panel)


@dataclass(frozen=True)
class Run:
    """Parts of an axis that look alike: `count` of them, side by side from `start`, each `size` long."""

    start: int
    size: int
    count: int


Parts = tuple[tuple[Run, Panel], ...]
"""Runs of panels that look alike."""
Body = Callable[[Affine, int], Iterable[Node]]
"""What is done with a part of an axis: its start, its size."""


def even(extent: int, most: int) -> tuple[Run, ...]:
    """An extent in as few parts as `most` allows, as equal as they can be, the longer ones first."""
    parts = -(-extent // most)
    size, longer = divmod(extent, parts)
    runs = Run(0, size + 1, longer), Run(longer * (size + 1), size, parts - longer)
    return tuple(run for run in runs if run.count)


def panels(channels: int, vectors: int, machine: Machine) -> Parts:
    """Channels in panels of at most `vectors` vectors; only the last may hold narrower vectors and end in part."""
    found = []
    lanes = machine.lanes
    for run in even(-(-channels // lanes), vectors):
        whole = min(run.count, (channels // lanes - run.start) // run.size)
        if whole:
            found.append((Run(run.start * lanes, run.size * lanes, whole), panel_of(run.size * lanes, machine)))
        if whole < run.count:
            start = (run.start + whole * run.size) * lanes
            found.append((Run(start, channels - start, 1), panel_of(channels - start, machine)))
    return tuple(found)


def panel_of(channels: int, machine: Machine) -> Panel:
    """The vectors of one panel, widest first."""
    widths = machine.widths()
    return tuple(
        Vector(start, count if count in widths else widths[-1], count) for start, count in pieces(channels, widths)
    )


def pack_panels(weight: Array, parts: Parts) -> Array:
    """(K, C) to one vector of numbers: panel after panel, in each of them input channel after input channel.

    The panel of channel k begins at k * C; zeros fill its last vector.
    """
    packed = []
    for run, panel in parts:
        for index in range(run.count):
            start = run.start + index * run.size
            block = np.zeros((weight.shape[1], panel_width(panel)), weight.dtype)
            block[:, : run.size] = weight[start : start + run.size].T
            packed.append(block.ravel())
    return np.concatenate(packed)


def over(runs: Sequence[Run], index: str, body: Body) -> list[Node]:
    """`body` for every part of an axis."""
    return [node for run in runs for node in loop(index, run.count, _of_part(run, body))]


def divided(index: str, segments: Sequence[tuple[Run, Body]]) -> tuple[list[Node], int]:
    """The outermost loop, from unit `begin` to unit `end` of all parts of all runs, and the number of units."""
    nodes: list[Node] = []
    total = sum(run.count for run, _ in segments)
    low = 0
    for run, body in segments:
        high = low + run.count
        start = f"begin > {low} ? begin : {low}" if low else "begin"
        stop = f"(end < {high} ? end : {high})" if high < total else "end"
        nodes.append(Loop(index, start, stop, 1, tuple(_of_part(run, body)(variable(index) - low))))
        low = high
    return nodes, total


def _of_part(run: Run, body: Body) -> Builder:
    return lambda part: body(part * run.size + run.start, run.size)


ZERO: Final = number(0)


@dataclass(frozen=True)
class Line:
    """Positions that lie side by side in every tensor of a layer: a row of a picture, or all there are."""

    picture: Affine = ZERO
    row: Affine = ZERO

    def place(self, tensor: Tensor, position: Affine, channel: Affine) -> Affine:
        """Where an element of the line lies in a tensor's buffer."""
        flat = position * tensor.shape[-1] + channel + tensor.origin
        if self == Line():
            return flat
        picture, row, _, _ = tensor.strides
        return self.picture * picture + self.row * row + flat


def lines_of(tensors: Sequence[Tensor]) -> tuple[int, int]:
    """Lines, and positions in each: one line, where nothing has a border."""
    shape = tensors[0].shape
    positions = math.prod(shape[:-1])
    if not any(tensor.border for tensor in tensors):
        return 1, positions
    return positions // shape[2], shape[2]


def line_at(index: Affine, lines: int, rows: int) -> tuple[list[Node], Line]:
    """The line of an index, and the C lines that find it; `rows` are those of a picture."""
    if lines == 1:
        return [], Line()
    if lines == rows:
        return [], Line(row=index)
    # In 32 bits a division by a constant is a multiplication; in 64, 32-bit ARM calls a library that is not there.
    picture, row = (f"(int32_t)({index}) {operator} {rows}" for operator in "/%")
    return [f"const int64_t picture = {picture}, row = {row};"], Line(variable("picture"), variable("row"))
