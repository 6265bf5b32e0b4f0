"""Sliding windows over pictures: register blocks of rows x columns of outputs that share every vector they load.

A block reads each input vector once and hands it to all of its outputs whose window holds it, top to bottom and left
to right: so every output meets its taps in the order kh, kw, whatever the block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ..machine import Machine
from ..nest import Affine, Loop, Node, Scope, loop, number, tiled, variable
from ..net import Convolution, Pool, Tensor


@dataclass(frozen=True)
class Tap:
    """One use of an input vector: by output (row, column) of a block, as tap `index` (kh * KW + kw) of its window."""

    row: int
    column: int
    index: int


@dataclass(frozen=True)
class Read:
    """One input vector of a block, counted from the block's first input row and column, and who uses it."""

    row: int
    column: int
    taps: tuple[Tap, ...]


@dataclass(frozen=True)
class Window:
    """Where windows lie: sizes in elements of the picture, (rows, columns) each."""

    x: Tensor
    y: Tensor
    size: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    top: int
    left: int

    @property
    def taps(self) -> int:
        """Per output."""
        return self.size[0] * self.size[1]

    def reads(self, rows: int, columns: int) -> tuple[Read, ...]:
        """What a block of rows x columns outputs loads, in order."""
        users: dict[tuple[int, int], list[Tap]] = {}
        for row in range(rows):
            for column in range(columns):
                for kh in range(self.size[0]):
                    for kw in range(self.size[1]):
                        place = (
                            row * self.strides[0] + kh * self.dilations[0],
                            column * self.strides[1] + kw * self.dilations[1],
                        )
                        users.setdefault(place, []).append(Tap(row, column, kh * self.size[1] + kw))
        return tuple(Read(*place, tuple(users[place])) for place in sorted(users))

    def input_place(self, picture: Affine, row: Affine, column: Affine, channel: Affine) -> Affine:
        """Where in x's buffer the window of an output begins."""
        return place(
            self.x,
            picture,
            row * self.strides[0] - self.top,
            column * self.strides[1] - self.left,
            channel,
        )


def window_of(layer: Convolution | Pool) -> Window:
    """The windows of a layer."""
    size = layer.window if isinstance(layer, Pool) else (layer.weight.shape[1], layer.weight.shape[2])
    return Window(layer.x, layer.y, size, layer.strides, layer.dilations, layer.top, layer.left)


def place(tensor: Tensor, picture: Affine, row: Affine, column: Affine, channel: Affine) -> Affine:
    """Where an element of a picture lies in its tensor's buffer."""
    strides = tensor.strides
    return picture * strides[0] + row * strides[1] + column * strides[2] + channel + tensor.origin


@dataclass(frozen=True)
class Piece:
    """Neighbouring channels that are computed by vectors of one width."""

    start: int
    lanes: int
    vectors: int
    count: int
    """Channels of each vector: fewer than lanes only in the last piece."""


def channel_pieces(channels: int, machine: Machine) -> tuple[Piece, ...]:
    """Channels as vectors, widest first; a last vector may hold fewer channels than lanes."""
    found, start = [], 0
    for lanes in machine.widths():
        vectors = (channels - start) // lanes
        if vectors:
            found.append(Piece(start, lanes, vectors, lanes))
            start += vectors * lanes
    if start < channels:
        found.append(Piece(start, machine.widths()[-1], 1, channels - start))
    return tuple(found)


@dataclass(frozen=True)
class Block:
    """A block of outputs of one channel vector; its place may hold loop variables."""

    picture: Affine
    row: Affine
    column: Affine
    channel: Affine
    rows: int
    columns: int
    lanes: int
    count: int
    """Channels of the vector."""


def units(window: Window, rows: int) -> int:
    """Blocks of rows in all pictures: what threads may share."""
    batch, height = window.y.shape[:2]
    return int(batch) * -(-int(height) // rows)


def sweep(
    window: Window,
    machine: Machine,
    rows: int,
    columns: int,
    head: Callable[[Affine, int], Iterable[Node]],
    block: Callable[[Block], Iterable[Node]],
) -> list[Node]:
    """All blocks: rows outermost (from `begin` to `end`), then channel vectors, then columns.

    `head(channel, lanes)` writes what a channel vector needs before its columns. Rows are outermost, so that a
    map larger than the caches is read once.
    """
    _, height, width, channels = window.y.shape
    full, rest = divmod(height, rows)
    per_picture = full + bool(rest)

    def band(first: Affine, size: int) -> list[Node]:
        def vector(piece: Piece) -> list[Node]:
            def columns_of(v: Affine) -> list[Node]:
                channel = v * piece.lanes + piece.start

                def one(start: Affine, count: int) -> Iterable[Node]:
                    return block(Block(variable("n"), first, start, channel, size, count, piece.lanes, piece.count))

                return [*head(channel, piece.lanes), *tiled("q", width, columns, one)]

            return loop("v", piece.vectors, columns_of)

        return [node for piece in channel_pieces(channels, machine) for node in vector(piece)]

    inside: list[Node] = [
        f"const int64_t n = (int32_t)u / {per_picture}, t = (int32_t)u % {per_picture};",
        "(void)n, (void)t;",
    ]
    parts = [band(variable("t") * rows, rows)] if full else []
    if rest:
        parts.append(band(number(full * rows), rest))
    inside += _either(f"t < {full}", parts)
    return [Loop("u", "begin", "end", 1, tuple(inside))]


def _either(condition: str, parts: Sequence[list[Node]]) -> list[Node]:
    if len(parts) == 1:
        return list(parts[0])
    return [f"if ({condition})", Scope(tuple(parts[0])), "else", Scope(tuple(parts[1]))]
