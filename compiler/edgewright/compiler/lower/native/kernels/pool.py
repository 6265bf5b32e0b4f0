"""Pools over pictures: window maxima and means of float32 and of bytes, channels in lanes.

Small windows are written out in register blocks of rows x columns (see `window.py`); large ones, global pools above
all, are loops that keep one accumulator per column of the window. Sums are in a fixed order, whatever the tile.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..kernel import Family, Kernel, Tile
from ..machine import Machine
from ..nest import Affine, Node, Scope, loop, number
from ..net import Array, Pool, Tensor
from .depthwise_cost import block_shapes
from .epilogue import STORED, finish, load, row_constants
from .window import Block, place, sweep, units, window_of

NAME = "pool"
TILES = 4
WRITTEN_OUT = 36
"""Taps of the largest window without a loop."""
CHAINS = 8
"""Accumulators of a window with a loop: neighbouring columns, so that an addition need not wait for the last one."""


def tiles(layer: Pool, machine: Machine) -> tuple[Tile, ...]:
    """Blocks that the registers hold; windows with a loop have one tile."""
    if not _computes(layer):
        return ()
    window = window_of(layer)
    if window.taps > WRITTEN_OUT:
        return (Tile(NAME, (("rows", 1), ("columns", 1))),)
    shapes = block_shapes(window, machine, weights=0)
    return tuple(Tile(NAME, (("rows", rows), ("columns", columns))) for rows, columns in shapes[:TILES])


def _computes(layer: Pool) -> bool:
    if layer.x.dtype not in ("f32", "u8", "s8") or layer.y.dtype not in STORED:
        return False
    return layer.x.dtype == "f32" or not _divides_by_place(layer)


def _divides_by_place(layer: Pool) -> bool:
    """Whether windows at an edge divide by fewer elements; the epilogue of an integer mean could not."""
    return layer.kind == "mean" and not layer.count_border and bool((counts(layer) != counts(layer).flat[0]).any())


def counts(layer: Pool) -> Array:
    """Elements of each window that lie inside x: float32 (OH, OW)."""
    inside = []
    for axis, start in ((0, layer.top), (1, layer.left)):
        first = np.arange(layer.y.shape[1 + axis])[:, None] * layer.strides[axis] - start
        at = first + np.arange(layer.window[axis])[None] * layer.dilations[axis]
        inside.append(((at >= 0) & (at < layer.x.shape[1 + axis])).sum(axis=1))
    found: Array = np.outer(*inside).astype(np.float32)
    return found


def kernel(layer: Pool, machine: Machine, tile: Tile) -> Kernel:
    """Blocks of rows outermost, then channel vectors, then blocks of columns."""
    window = window_of(layer)
    block = _written_out if window.taps <= WRITTEN_OUT else _looped

    def head(_channel: Affine, _lanes: int) -> Iterable[Node]:
        return ()

    def nodes(at: Block) -> Iterable[Node]:
        return block(layer, at)

    body = sweep(window, machine, tile["rows"], tile["columns"], head, nodes)
    constants = row_constants(layer.epilogue, machine.lanes)
    if _divides_by_place(layer):
        constants["counts"] = counts(layer).reshape(-1)
    return Kernel(body=tuple(body), constants=constants, units=units(window, tile["rows"]))


def _kind(layer: Pool) -> str:
    return "f32" if layer.x.dtype == "f32" else "s32"


def _join(layer: Pool, kind: str, first: str, second: str) -> str:
    """C text of the larger, or of the sum."""
    integer = "i" if kind.startswith("s32") else ""
    return f"ew_{integer}{'max' if layer.kind == 'max' else 'add'}_{kind}({first}, {second})"


def _read(layer: Pool, at: Block, offset: Affine | int) -> str:
    return load(f"p + {offset}", layer.x.dtype, _kind(layer), at.lanes, at.count)


def _start(layer: Pool, at: Block) -> str:
    c_type = {"f32": "float", "u8": "uint8_t", "s8": "int8_t"}[layer.x.dtype]
    window = window_of(layer)
    return f"const {c_type} *const p = x0 + {window.input_place(at.picture, at.row, at.column, at.channel)};"


def _written_out(layer: Pool, at: Block) -> list[Node]:
    window, kind = window_of(layer), f"{_kind(layer)}x{at.lanes}"
    _, row, column, _ = layer.x.strides
    nodes: list[Node] = [_start(layer, at)]
    for read in window.reads(at.rows, at.columns):
        name = f"i{read.row}_{read.column}"
        nodes.append(f"const {kind} {name} = {_read(layer, at, read.row * row + read.column * column)};")
        for tap in read.taps:
            sums = f"s{tap.row}_{tap.column}"
            nodes.append(
                f"{kind} {sums} = {name};" if tap.index == 0 else f"{sums} = {_join(layer, kind, sums, name)};"
            )
    for r in range(at.rows):
        for c in range(at.columns):
            nodes += _ends(layer, at, r, c, f"s{r}_{c}")
    return [Scope(tuple(nodes))]


def _looped(layer: Pool, at: Block) -> list[Node]:
    height, width = layer.window
    chains = min(CHAINS, width)
    kind = f"{_kind(layer)}x{at.lanes}"
    apart = [layer.x.strides[1 + axis] * layer.dilations[axis] for axis in (0, 1)]

    def add(chain: int, kh: Affine, kw: Affine) -> str:
        name = f"s{chain}"
        return f"{name} = {_join(layer, kind, name, _read(layer, at, kh * apart[0] + kw * apart[1]))};"

    def row(kh: Affine, first: int) -> list[Node]:
        full, rest = divmod(width - first, chains)
        found = loop("kw", full, lambda c: [add(i, kh, c * chains + first + i) for i in range(chains)])
        return [*found, *(add(i, kh, number(first + full * chains + i)) for i in range(rest))]

    nodes: list[Node] = [_start(layer, at)]
    nodes += [f"{kind} s{chain} = {_read(layer, at, chain * apart[1])};" for chain in range(chains)]
    nodes += [*row(number(0), chains), *loop("kh", height - 1, lambda kh: row(kh + 1, 0))]
    names = [f"s{chain}" for chain in range(chains)]
    while len(names) > 1:
        pairs = zip(names[::2], names[1::2], strict=False)
        nodes += [f"{first} = {_join(layer, kind, first, second)};" for first, second in pairs]
        names = names[::2]
    return [Scope((*nodes, *_ends(layer, at, 0, 0, "s0")))]


def _ends(layer: Pool, at: Block, r: int, c: int, sums: str) -> list[str]:
    def address(tensor: Tensor) -> str:
        return str(place(tensor, at.picture, at.row + r, at.column + c, at.channel))

    scaled = _scaled(layer, at, r, c, sums)
    return [*scaled, *finish(layer.epilogue, layer.y, sums, address, str(at.channel), at.lanes, at.count)]


def _scaled(layer: Pool, at: Block, r: int, c: int, sums: str) -> list[str]:
    """A sum of floats becomes a mean; a sum of integers loses the zero points of its taps."""
    if layer.kind == "max":
        return []
    kind = f"{_kind(layer)}x{at.lanes}"
    if layer.x.dtype != "f32":
        zeros = layer.x_zero_point * layer.window[0] * layer.window[1]
        return [f"{sums} = ew_isub_{kind}({sums}, ew_splat_{kind}({zeros}));"] if zeros else []
    if _divides_by_place(layer):
        where = (at.row + r) * layer.y.shape[2] + at.column + c
        return [f"{sums} = ew_div_{kind}({sums}, ew_splat_{kind}(counts[{where}]));"]
    size = layer.window[0] * layer.window[1] if layer.count_border else float(counts(layer).flat[0])
    if np.log2(size) % 1 == 0:  # exact, and cheaper than a division
        return [f"{sums} = ew_mul_{kind}({sums}, ew_splat_{kind}({(1 / size).hex()}f));"]
    return [f"{sums} = ew_div_{kind}({sums}, ew_splat_{kind}({float(size).hex()}f));"]


FAMILY = Family(NAME, tiles, kernel)
