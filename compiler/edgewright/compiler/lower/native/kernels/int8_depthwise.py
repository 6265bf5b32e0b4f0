"""Depthwise convolutions in int8: four rows of a window meet in one dot product.

The bytes of up to four rows of one column are interleaved, so that a lane holds what one channel's sum needs of that
column; neighbouring positions share columns. Where a row of the picture is few channels wide, neighbouring positions
are treated as channels too (`flat`): with a stride of 1 a row of results is one run of bytes, whose weights repeat.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..kernel import Family, Kernel, Tile
from ..machine import Machine
from ..nest import Affine, Loop, Node, Scope, loop, number, tiled, variable
from ..net import Array, Convolution
from ..requantization import Requantization, requantization
from .int8_packing import GROUP, Part, Vector, base_sums, largest_sum, pack_rows, quad_order, wrapped

NAME = "int8_depthwise"
POSITIONS = (6, 4, 3, 2, 1)
NARROWEST = 16
"""Bytes of the least vector."""


@dataclass(frozen=True)
class _Block:
    """Neighbouring channels that are computed together."""

    start: int
    lanes: int

    @property
    def size(self) -> int:
        return GROUP * self.lanes


def tiles(layer: Convolution, machine: Machine) -> tuple[Tile, ...]:
    """Positions per block of registers; rows as runs where the picture has few channels."""
    if layer.weight.dtype != np.int8 or not layer.is_depthwise or _fast(layer) is None:
        return ()
    channels = layer.y.shape[3]
    made: list[Tile] = []
    if _run_lanes(layer, machine):
        made += [Tile(NAME, (("flat", 1), ("positions", count))) for count in (2, 1)]
    if channels >= NARROWEST:
        limit = max(1, (machine.registers - 6) // (2 * GROUP if machine.dot == "pairs" else GROUP))
        plain = [
            Tile(NAME, (("flat", 0), ("positions", min(count, layer.y.shape[2]))))
            for count in POSITIONS
            if count <= limit
        ]
        made = [*made, *plain] if channels < 2 * NARROWEST else [*plain, *made]
    return tuple(dict.fromkeys(made))


def _fast(layer: Convolution) -> Requantization | None:
    if layer.y.dtype not in ("u8", "s8") or layer.x.dtype not in ("u8", "s8"):
        return None
    bound = largest_sum(layer.weight, layer.x_zero_point, layer.x.dtype)
    return requantization(layer.epilogue, layer.y.shape[3], layer.y.dtype, bound)


def _run_lanes(layer: Convolution, machine: Machine) -> int:
    """Lanes of vectors that hold whole pixels of a row of results; 0 where there are none."""
    channels, length = layer.y.shape[3], layer.y.shape[2] * layer.y.shape[3]
    if layer.strides[1] != 1:
        return 0
    fitting = (lanes for lanes in machine.widths() if GROUP * lanes % channels == 0 and GROUP * lanes <= length)
    return next(fitting, 0)


def kernel(layer: Convolution, machine: Machine, tile: Tile) -> Kernel:
    """Rows of results outermost; then blocks of channels; then positions."""
    return _Writer(layer, machine, tile).kernel()


class _Writer:
    """Writes one kernel."""

    def __init__(self, layer: Convolution, machine: Machine, tile: Tile) -> None:
        fast = _fast(layer)
        if fast is None:
            raise ValueError(f"{layer.origin!r} does more than requantize")
        self._layer, self._machine, self._fast = layer, machine, fast
        self._flat = bool(tile["flat"])
        self._positions = tile["positions"]
        self._blocks = self._run_blocks() if self._flat else _channel_blocks(layer.y.shape[3], machine)

    def _run_blocks(self) -> tuple[_Block, ...]:
        return (_Block(0, _run_lanes(self._layer, self._machine)),)

    def kernel(self) -> Kernel:
        images, rows = self._layer.y.shape[:2]
        lines: list[Node] = []
        image, row = number(0), variable("r")
        if images > 1:
            lines = [f"const int64_t image = (int32_t)r / {rows}, row = (int32_t)r % {rows};"]
            image, row = variable("image"), variable("row")
        lines += self._row(image, row)
        return Kernel(
            body=(Loop("r", "begin", "end", 1, tuple(lines)),), constants=self._constants(), units=images * rows
        )

    def _row(self, image: Affine, row: Affine) -> list[Node]:
        if self._flat:
            return self._run(image, row)
        per_row = self._layer.y.shape[2]
        nodes: list[Node] = []
        for lanes, first, starts in self._alike():

            def block(count: Affine, lanes: int = lanes, first: int = first, start: int = starts[0]) -> list[Node]:
                size = GROUP * lanes
                return tiled(
                    "p", per_row, self._positions,
                    lambda p, wide: self._block(image, row, p, wide, count * size + start, count * size + first, lanes),
                )  # fmt: skip

            nodes += loop("k", len(starts), block)
        return nodes

    def _alike(self) -> list[tuple[int, int, list[int]]]:
        """Runs of blocks of one width and equal distance: lanes, slots before them, first channels."""
        runs: list[tuple[int, int, list[int]]] = []
        slot = 0
        for block in self._blocks:
            last = runs[-1] if runs else None
            if last is not None and last[0] == block.lanes and block.start - last[2][-1] == block.size:
                last[2].append(block.start)
            else:
                runs.append((block.lanes, slot, [block.start]))
            slot += block.size
        return runs

    def _run(self, image: Affine, row: Affine) -> list[Node]:
        """A row of results as one run of bytes; the last block may compute some of them again."""
        block = self._blocks[0]
        length = self._layer.y.shape[2] * self._layer.y.shape[3]
        zero = number(0)
        full, rest = divmod(length, block.size)
        nodes = tiled(
            "p", full, self._positions,
            lambda p, count: self._block(image, row, p * block.size, count, zero, zero, block.lanes),
        )  # fmt: skip
        if rest:
            again = number(length - block.size)
            nodes.append(Scope(tuple(self._block(image, row, again, 1, zero, zero, block.lanes))))
        return nodes

    def _block(
        self, image: Affine, row: Affine, p: Affine, count: int, channel: Affine, slot: Affine, lanes: int
    ) -> list[Node]:
        """`p` counts positions, or bytes where rows are runs."""
        layer = self._layer
        x, y = layer.x, layer.y
        size = GROUP * lanes
        x_step, y_step = (size, size) if self._flat else (layer.strides[1] * x.strides[2], y.strides[2])
        moved = p if self._flat else p * x_step
        start = x.origin - layer.top * x.strides[1] - layer.left * x.strides[2]
        x_at = image * x.strides[0] + row * (layer.strides[0] * x.strides[1]) + moved + channel + start
        y_at = image * y.strides[0] + row * y.strides[1] + (p if self._flat else p * y_step) + channel + y.origin
        c_type, kind = "uint8_t" if x.dtype == "u8" else "int8_t", f"s32x{lanes}"
        taps = self._groups() * layer.weight.shape[2] * GROUP
        lines: list[Node] = [
            f"const {c_type} *const xp = x0 + {x_at};",
            f"const int8_t *const wp = weight + {slot * taps};",
            *(f"const {kind} b{q} = ew_load_{kind}(base + {slot + q * lanes});" for q in range(GROUP)),
            *(f"{kind} " + ", ".join(f"s{i}_{q} = b{q}" for q in range(GROUP)) + ";" for i in range(count)),
        ]
        lines += self._columns(count, x_step, lanes)
        part = Part(tuple(Vector(order) for order in quad_order(lanes)), 0)
        loads = [f"ew_load_f32x{lanes}(factor + {slot + q * lanes})" for q in range(GROUP)]
        for i in range(count):
            sums = ", ".join([*(f"s{i}_{q}" for q in range(len(part.vectors))), *loads])
            pointer = f"y0 + {y_at + i * y_step}"
            lines.append(f"ew_requantize_quad_{y.dtype}x{lanes}({pointer}, {sums}, {self._fast.zero_point});")
        return lines

    def _columns(self, count: int, x_step: int, lanes: int) -> list[Node]:
        """Every column of every window once, with all positions that read it."""
        layer = self._layer
        width = layer.weight.shape[2]
        column = layer.dilations[1] * layer.x.strides[2]
        readers: dict[int, list[tuple[int, int]]] = {}
        for i in range(count):
            for j in range(width):
                readers.setdefault(i * x_step + j * column, []).append((i, j))
        return [
            Scope(tuple(self._column(offset, group, readers[offset], lanes)))
            for offset in sorted(readers)
            for group in range(self._groups())
        ]

    def _column(self, offset: int, group: int, readers: Sequence[tuple[int, int]], lanes: int) -> list[str]:
        layer = self._layer
        height, width = layer.weight.shape[1:3]
        row = layer.dilations[0] * layer.x.strides[1]
        # A window of fewer rows reads its last one again, under weights of 0.
        pointers = [f"xp + {offset + min(group * GROUP + tap, height - 1) * row}" for tap in range(GROUP)]
        dtype = layer.x.dtype
        lines = [f"s32x{lanes} c[4];", f"ew_interleave_x{lanes}(c, {', '.join(pointers)});"]
        for q in range(GROUP):
            lines.append(f"const ew_dot_input_x{lanes} a{q} = ew_dot_each_{dtype}_x{lanes}(c[{q}]);")
            for i, j in readers:
                at = (((group * width) + j) * GROUP + q) * lanes * GROUP
                lines.append(f"s{i}_{q} = ew_dot_x{lanes}(s{i}_{q}, a{q}, ew_dot_load_x{lanes}(wp + {at}));")
        return lines

    def _groups(self) -> int:
        """Groups of four rows of a window."""
        return -(-int(self._layer.weight.shape[1]) // GROUP)

    def _constants(self) -> dict[str, Array]:
        layer = self._layer
        base = base_sums(layer.weight, layer.x_zero_point, layer.x.dtype, self._machine)
        base = wrapped(base.astype(np.int64) + self._fast.bias)
        count, height, width, _ = layer.weight.shape
        rows = np.zeros((count, self._groups() * GROUP, width), np.int8)
        rows[:, :height] = layer.weight[..., 0]
        taps = rows.reshape(count, self._groups(), GROUP, width).transpose(0, 1, 3, 2)
        parts = [(block, self._part(block)) for block in self._blocks]
        picked = [taps[list(vector.channels)] for _, part in parts for vector in part.vectors]
        per_block = [picked[index : index + GROUP] for index in range(0, len(picked), GROUP)]
        weight = [np.stack(four).transpose(2, 3, 0, 1, 4).reshape(-1) for four in per_block]
        return {
            "weight": np.ascontiguousarray(np.concatenate(weight)),
            "base": np.concatenate([pack_rows(base, 0, [part]) for _, part in parts]),
            "factor": np.concatenate([pack_rows(self._fast.factor, 0, [part]) for _, part in parts]),
        }

    def _part(self, block: _Block) -> Part:
        """A block's lanes by channel; in a run channels repeat."""
        channels = self._layer.y.shape[3]
        orders = quad_order(block.lanes)
        return Part(tuple(Vector(tuple((block.start + byte) % channels for byte in order)) for order in orders), 0)


def _channel_blocks(channels: int, machine: Machine) -> tuple[_Block, ...]:
    """As wide as fits; the last one begins earlier where 16 bytes do not fit, and computes some channels again."""
    blocks: list[_Block] = []
    start = 0
    for lanes in machine.widths():
        while channels - start >= GROUP * lanes:
            blocks.append(_Block(start, lanes))
            start += GROUP * lanes
    if start < channels:
        blocks.append(_Block(channels - NARROWEST, NARROWEST // GROUP))
    return tuple(blocks)


FAMILY = Family(NAME, tiles, kernel)
