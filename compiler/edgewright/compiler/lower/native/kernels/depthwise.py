"""Depthwise convolutions in float32: every channel by itself, channels in lanes.

A block of rows x columns outputs of one channel vector lies in registers together with the weights of that vector;
every input vector is loaded once per block (see `window.py`). Every output is summed over kh, then kw, one fused
multiply-add after the other, whatever the tile: all tiles and machines give the same bits.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..kernel import Family, Kernel, Tile
from ..machine import Machine
from ..nest import Affine, Node, Scope
from ..net import Array, Convolution, Tensor
from .depthwise_cost import block_shapes, resident
from .epilogue import STORED, finish, row_constants
from .window import Block, Read, channel_pieces, place, sweep, units, window_of

NAME = "depthwise"
TILES = 8
WRITTEN_OUT = 400
"""Taps of the largest window: all of them are written out."""
MULTIPLIED_OUTPUTS = 2


def tiles(layer: Convolution, machine: Machine) -> tuple[Tile, ...]:
    """Blocks that the registers hold, the fewest expected cycles first; any channel multiplier is taken."""
    if not _is_ours(layer):
        return ()
    window = window_of(layer)
    shapes = block_shapes(window, machine, window.taps)
    if layer.weight.shape[0] != layer.groups:  # inputs are gathered lane by lane: large blocks would be long
        shapes = tuple(shape for shape in shapes if shape[0] * shape[1] <= MULTIPLIED_OUTPUTS)
    return tuple(Tile(NAME, (("rows", rows), ("columns", columns))) for rows, columns in shapes[:TILES])


def _is_ours(layer: Convolution) -> bool:
    if not isinstance(layer, Convolution) or layer.weight.dtype != np.float32:
        return False
    channels = layer.x.shape[-1]
    small = window_of(layer).taps <= WRITTEN_OUT
    return layer.x.dtype == "f32" and layer.y.dtype in STORED and layer.groups == channels and channels > 1 and small


def kernel(layer: Convolution, machine: Machine, tile: Tile) -> Kernel:
    """Blocks of rows outermost, then channel vectors, then blocks of columns."""
    window = window_of(layer)
    kept = resident(window.taps, machine)

    def head(channel: Affine, lanes: int) -> Iterable[Node]:
        lines: list[Node] = [f"const float *const w = weight + {channel * window.taps};"]
        if kept:
            lines += [_weight(tap, lanes) for tap in range(window.taps)]
        return lines

    def block(at: Block) -> Iterable[Node]:
        return _register_block(layer, at, kept)

    body = sweep(window, machine, tile["rows"], tile["columns"], head, block)
    constants = {"weight": pack(layer.weight, machine), **row_constants(layer.epilogue, machine.lanes)}
    return Kernel(body=tuple(body), constants=constants, units=units(window, tile["rows"]))


def pack(weight: Array, machine: Machine) -> Array:
    """(K, KH, KW, 1) to vectors of channels, one per tap, one channel vector after the other; zeros where K ends."""
    channels = weight.shape[0]
    flat = weight.reshape(channels, -1)
    parts = []
    for piece in channel_pieces(channels, machine):
        padded = np.zeros((piece.vectors * piece.lanes, flat.shape[1]), weight.dtype)
        found = flat[piece.start : piece.start + piece.vectors * piece.lanes]
        padded[: len(found)] = found
        parts.append(padded.reshape(piece.vectors, piece.lanes, -1).transpose(0, 2, 1).reshape(-1))
    return np.ascontiguousarray(np.concatenate(parts))


def _weight(tap: int, lanes: int) -> str:
    return f"const f32x{lanes} w{tap} = ew_load_f32x{lanes}(w + {tap * lanes});"


def _register_block(layer: Convolution, at: Block, kept: bool) -> list[Node]:
    window = window_of(layer)
    kind = f"f32x{at.lanes}"
    multiplier = layer.weight.shape[0] // layer.groups
    nodes: list[Node] = [f"{kind} s{r}_{c} = {{0}};" for r in range(at.rows) for c in range(at.columns)]
    start = window.input_place(at.picture, at.row, at.column, at.channel if multiplier == 1 else Affine())
    nodes.append(f"const float *const p = x0 + {start};")
    loaded = set(range(window.taps)) if kept else set()
    for read in window.reads(at.rows, at.columns):
        nodes += [_weight(tap.index, at.lanes) for tap in read.taps if tap.index not in loaded]
        loaded |= {tap.index for tap in read.taps}
        nodes.append(f"const {kind} i{read.row}_{read.column} = {_input(layer, at, read, multiplier)};")
        nodes += [
            f"s{t.row}_{t.column} = ew_fma_{kind}(i{read.row}_{read.column}, w{t.index}, s{t.row}_{t.column});"
            for t in read.taps
        ]
    ends = (end for r in range(at.rows) for c in range(at.columns) for end in _ends(layer, at, r, c))
    return [Scope((*nodes, *ends))]


def _ends(layer: Convolution, at: Block, r: int, c: int) -> list[str]:
    def address(tensor: Tensor) -> str:
        return str(place(tensor, at.picture, at.row + r, at.column + c, at.channel))

    return finish(layer.epilogue, layer.y, f"s{r}_{c}", address, str(at.channel), at.lanes, at.count)


def _input(layer: Convolution, at: Block, read: Read, multiplier: int) -> str:
    """C text of an input vector; with a channel multiplier every lane names its channel."""
    _, row, column, _ = layer.x.strides
    offset = read.row * row + read.column * column
    if multiplier == 1:
        part, tail = ("", "") if at.count == at.lanes else ("part_", f", {at.count}")
        return f"ew_load_{part}f32x{at.lanes}(p + {offset}{tail})"
    if multiplier % at.lanes == 0:
        return f"ew_splat_f32x{at.lanes}(p[{offset} + (int32_t)({at.channel}) / {multiplier}])"
    lanes = (
        f"p[{offset} + (int32_t)({at.channel + min(lane, at.count - 1)}) / {multiplier}]" for lane in range(at.lanes)
    )
    return f"(f32x{at.lanes}){{{', '.join(lanes)}}}"


FAMILY = Family(NAME, tiles, kernel)
