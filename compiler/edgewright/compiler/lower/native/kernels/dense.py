"""Dense layers in float32: register blocks of positions x channel vectors, weights packed by channel block.

Every output is summed over the input channels in their order, one fused multiply-add after the other, whatever the
tile: all tiles and machines give the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from ..kernel import Family, Kernel, Tile
from ..machine import Machine
from ..nest import Affine, Node, Scope, loop, pieces, tiled
from ..net import Array, Dense, Tensor
from .epilogue import finish, row_constants

NAME = "dense"
SHAPES = ((6, 4), (5, 4), (8, 2), (12, 2), (6, 2), (4, 4), (4, 2), (14, 1), (8, 1), (4, 1), (1, 4), (1, 8))
"""Positions x vectors per register block; those that fit the registers are tried."""


def tiles(layer: Dense, machine: Machine) -> tuple[Tile, ...]:
    """Blocks that the registers hold."""
    if not isinstance(layer, Dense) or layer.weight.dtype != np.float32 or layer.y.dtype != "f32":
        return ()
    vectors = -(-layer.weight.shape[0] // machine.lanes)
    fitting = [
        (positions, min(wide, vectors))
        for positions, wide in SHAPES
        if positions * wide + wide + 1 <= machine.registers and positions <= max(1, _rows(layer)[1])
    ]
    return tuple(Tile(NAME, (("positions", p), ("vectors", v))) for p, v in dict.fromkeys(fitting))


def kernel(layer: Dense, machine: Machine, tile: Tile) -> Kernel:
    """Channel blocks outermost, then blocks of positions."""
    lanes, width = machine.lanes, machine.lanes * tile["vectors"]
    channels, depth = layer.weight.shape
    rows, per_row = _rows(layer)
    weight = pack(layer.weight, width)

    def block(start: Affine, size: int) -> Iterable[Node]:
        vectors = pieces(size, [lanes])

        def row(r: Affine) -> Iterable[Node]:
            return tiled(
                "p",
                per_row,
                tile["positions"],
                lambda p, count: _register_block(layer, machine, r, p, count, start, vectors, depth),
            )

        return loop("r", rows, row)

    body = tiled("k", channels, width, block)
    return Kernel(body=tuple(body), constants={"weight": weight, **row_constants(layer.epilogue, width)})


def pack(weight: Array, width: int) -> Array:
    """(K, C) to (K / width, C, width), zeros where K ends."""
    channels, depth = weight.shape
    padded = np.zeros((-(-channels // width) * width, depth), weight.dtype)
    padded[:channels] = weight
    return np.ascontiguousarray(padded.reshape(-1, width, depth).transpose(0, 2, 1))


def _rows(layer: Dense) -> tuple[int, int]:
    """Rows of positions that lie side by side in every tensor: one, where nothing has a border."""
    tensors = (layer.x, layer.y, *layer.epilogue.beside)
    positions = math.prod(layer.x.shape[:-1])
    if not any(tensor.border for tensor in tensors):
        return 1, positions
    return positions // layer.x.shape[2], layer.x.shape[2]


def place(tensor: Tensor, row: Affine, position: Affine, channel: Affine) -> Affine:
    """Where an element lies in the buffer; with a border, rows are those of one picture."""
    channels = tensor.shape[-1]
    if not tensor.border:
        per_row = tensor.shape[2] if len(tensor.shape) == 4 else 0
        return row * (per_row * channels) + position * channels + channel
    return row * tensor.strides[1] + position * channels + channel + tensor.origin


def _register_block(
    layer: Dense,
    machine: Machine,
    row: Affine,
    position: Affine,
    count: int,
    channel: Affine,
    vectors: tuple[tuple[int, int], ...],
    depth: int,
) -> list[Node]:
    lanes = machine.lanes
    kind = f"f32x{lanes}"
    width = sum(1 for _ in vectors) * lanes
    declare: list[Node] = [f"{kind} s{p}_{v} = {{0}};" for p in range(count) for v in range(len(vectors))]
    # Blocks of a full width lie `depth * width` apart; the channel is a multiple of the width.
    weights = f"weight + ({channel}) * {depth}"

    def step(c: Affine) -> list[Node]:
        lines: list[Node] = [
            f"const {kind} w{v} = ew_load_{kind}({weights} + {c * width + v * lanes});" for v in range(len(vectors))
        ]
        for p in range(count):
            lines.append(f"const {kind} b{p} = ew_splat_{kind}(x0[{place(layer.x, row, position + p, c)}]);")
            lines += [f"s{p}_{v} = ew_fma_{kind}(b{p}, w{v}, s{p}_{v});" for v in range(len(vectors))]
        return lines

    ends: list[Node] = []
    for p in range(count):
        for v, (offset, size) in enumerate(vectors):
            at = channel + offset
            ends += finish(
                layer.epilogue,
                layer.y,
                f"s{p}_{v}",
                lambda tensor, p=p, at=at: str(place(tensor, row, position + p, at)),
                str(at),
                lanes,
                size,
            )
    return [Scope((*declare, *loop("c", depth, step), *ends))]


FAMILY = Family(NAME, tiles, kernel)
