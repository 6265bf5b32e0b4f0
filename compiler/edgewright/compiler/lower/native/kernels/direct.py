"""Convolutions in float32, computed as they are defined: register blocks of output positions x channel vectors.

Every output is summed over the window's rows, its columns and the input channels, in that order, one fused
multiply-add after the other (long sums row by row), whatever the tile: all tiles and machines give the same bits. A row
of a window without dilation lies in one piece in memory (columns x channels), so that few input channels cost no more
than many.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ..kernel import Family, Kernel, Tile
from ..machine import Machine
from ..nest import Affine, Builder, Node, Scope, loop
from ..net import Array, Convolution, Epilogue, Tensor
from .direct_block import ChannelBlock, Reduction, Vector, balanced, channel_blocks, divided, kinds, over, pack, sums
from .direct_tiles import is_direct, tile_sizes
from .epilogue import finish

NAME = "direct"
LONG_SUM = 768
"""Products; longer sums are folded: one sum per row of the window, then those are added."""


def tiles(layer: Convolution, machine: Machine) -> tuple[Tile, ...]:
    """Blocks that the registers hold, by expected time."""
    if not is_direct(layer):
        return ()
    return tuple(Tile(NAME, tuple(sizes.items())) for sizes in tile_sizes(layer, machine))


def kernel(layer: Convolution, machine: Machine, tile: Tile) -> Kernel:
    """`rows_outside` 1: rows of y outermost, so that rows of x stay in cache; 0: channels, so that weights do."""
    blocks = channel_blocks(layer.weight.shape[0] // layer.groups, tile["vectors"], machine)
    nest = _Nest(layer, blocks, tile["rows"], tile["columns"], tile["unroll"])
    parts = nest.rows_outside() if tile["rows_outside"] else nest.channels_outside()
    constants = {"weight": packed_groups(layer, blocks), **row_constants(layer.epilogue, layer.groups, blocks)}
    return Kernel(body=tuple(divided("u", parts)), constants=constants, units=sum(count for count, _ in parts))


def packed_groups(layer: Convolution, blocks: tuple[ChannelBlock, ...]) -> Array:
    """Weights by group and block, the window's rows, columns and channels in order."""
    channels = layer.weight.shape[0]
    groups = layer.weight.reshape(layer.groups, channels // layer.groups, -1)
    return np.concatenate([pack(group, blocks) for group in groups])


def row_constants(epilogue: Epilogue, groups: int, blocks: tuple[ChannelBlock, ...]) -> dict[str, Array]:
    """The rows as constants `row0`, `row1`, …, every group padded to the width of its blocks."""
    width = blocks[-1].start + blocks[-1].width
    padded = {}
    for index, row in enumerate(epilogue.rows):
        whole = np.zeros((groups, width), row.dtype)
        whole[:, : len(row) // groups] = row.reshape(groups, -1)
        padded[f"row{index}"] = whole.ravel()
    return padded


def place(tensor: Tensor, picture: Affine, row: Affine, column: Affine, channel: Affine) -> Affine:
    """Where an element lies in a tensor's buffer; rows and columns of its border are below 0."""
    strides = tensor.strides
    return picture * strides[0] + row * strides[1] + column * strides[2] + channel + tensor.origin


@dataclass(frozen=True)
class _Channels:
    """A block of output channels at a place in the nest."""

    block: ChannelBlock
    x: Affine
    """First input channel."""
    y: Affine
    """First output channel."""
    weight: Affine
    """Where the packed weights lie."""
    row: Affine
    """Where the block's part of the epilogue's rows lies."""


@dataclass(frozen=True)
class _Nest:
    layer: Convolution
    blocks: tuple[ChannelBlock, ...]
    rows: int
    columns: int
    unroll: int

    @property
    def depth(self) -> int:
        return math.prod(self.layer.weight.shape[1:])

    def channels(self, group: Affine, first: int, count: Affine) -> _Channels:
        block = self.blocks[first]
        padded = self.blocks[-1].start + self.blocks[-1].width
        per_group = self.layer.weight.shape[0] // self.layer.groups
        start = count * block.width + block.start
        return _Channels(
            block,
            group * self.layer.weight.shape[3],
            group * per_group + start,
            group * (padded * self.depth) + start * self.depth,
            group * padded + start,
        )

    def channels_outside(self) -> list[tuple[int, Builder]]:
        """Units are groups, or blocks of channels where there is one group."""

        def pictures(channels: _Channels) -> list[Node]:
            batch, height = self.layer.y.shape[:2]
            return loop(
                "n", batch, lambda n: over("r", height, self.rows, lambda r, size: self.row(n, r, size, channels))
            )

        def group(g: Affine) -> list[Node]:
            return [node for first, count in kinds(self.blocks) for node in kind(g, first, count)]

        def kind(g: Affine, first: int, count: int) -> list[Node]:
            return loop("k", count, lambda k: pictures(self.channels(g, first, k)))

        def one(first: int) -> Builder:
            return lambda k: pictures(self.channels(Affine(), first, k))

        if self.layer.groups > 1:
            return [(self.layer.groups, group)]
        return [(count, one(first)) for first, count in kinds(self.blocks)]

    def rows_outside(self) -> list[tuple[int, Builder]]:
        """Units are pictures, or blocks of rows where there is one picture."""
        batch, height = self.layer.y.shape[:2]

        def every_channel(n: Affine, r: Affine, size: int) -> list[Node]:
            def kind(g: Affine, first: int) -> Builder:
                return lambda k: self.row(n, r, size, self.channels(g, first, k))

            def group(g: Affine) -> list[Node]:
                return [node for first, count in kinds(self.blocks) for node in loop("k", count, kind(g, first))]

            return loop("g", self.layer.groups, group)

        def one(start: int, size: int) -> Builder:
            return lambda r: every_channel(Affine(), r * size + start, size)

        if batch > 1:
            return [(batch, lambda n: over("r", height, self.rows, lambda r, size: every_channel(n, r, size)))]
        return [(count, one(start, size)) for start, size, count in balanced(height, self.rows)]

    def row(self, n: Affine, r: Affine, rows: int, channels: _Channels) -> list[Node]:
        """One row of register blocks."""
        width = self.layer.y.shape[2]
        return over("c", width, self.columns, lambda c, columns: self.block(n, r, c, (rows, columns), channels))

    def block(self, n: Affine, r: Affine, c: Affine, size: tuple[int, int], channels: _Channels) -> Iterable[Node]:
        layer, (down, right) = self.layer, self.layer.strides
        _, row_step, column_step, _ = layer.x.strides
        positions = [(i, j) for i in range(size[0]) for j in range(size[1])]
        begin = place(layer.x, n, r * down - layer.top, c * right - layer.left, channels.x)
        nodes: list[Node] = [f"const float *x = x0 + {begin};", f"const float *w = weight + {channels.weight};"]
        places = [i * down * row_step + j * right * column_step for i, j in positions]
        nodes += sums(reductions(layer, self.unroll), places, channels.block, folded=self.depth > LONG_SUM)
        for p, (i, j) in enumerate(positions):
            for v, vector in enumerate(channels.block.vectors):
                nodes += self.finish(f"s{p}_{v}", (n, r + i, c + j), channels, vector)
        return [Scope(tuple(nodes))]

    def finish(self, name: str, at: tuple[Affine, Affine, Affine], channels: _Channels, vector: Vector) -> list[str]:
        """Stores a vector of sums at a picture, row and column."""
        return finish(
            self.layer.epilogue,
            self.layer.y,
            name,
            lambda tensor: str(place(tensor, *at, channels.y + vector.offset)),
            str(channels.row + vector.offset),
            vector.lanes,
            vector.count,
        )


def reductions(layer: Convolution, unroll: int) -> tuple[Reduction, ...]:
    """The window's rows, columns and channels; columns and channels are one loop where they lie in one piece."""
    _, high, wide, deep = layer.weight.shape
    _, row_step, column_step, _ = layer.x.strides
    row = Reduction("i", high, layer.dilations[0] * row_step, unroll >= high * wide * deep)
    if layer.dilations[1] == 1 and layer.groups == 1:
        return row, Reduction("e", wide * deep, 1, unroll >= wide * deep)
    column = Reduction("j", wide, layer.dilations[1] * column_step, unroll >= wide * deep)
    return row, column, Reduction("e", deep, 1, unroll >= deep)


FAMILY = Family(NAME, tiles, kernel)
