"""Convolutions in float32 by Winograd's F(2 x 2): for a window of 3 x 3, 16 products for 4 outputs instead of 36.

Lavin and Gray, "Fast algorithms for convolutional neural networks", 2016. Patches of inputs are transformed with sums
alone, each place of a patch is a matrix product over the input channels in their order, and 2 x 2 outputs are sums
again: every block and machine gives the same bits, and errors stay near those of the definition. (Four outputs at once
need fewer products still, but their errors exceed what we allow.) Where the height or the width of y is odd, the last
patches overlap those before them, and only what is new is stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from ..kernel import Family, Kernel, Tile
from ..machine import Machine
from ..nest import Affine, Builder, Loop, Node, Scope, loop, number, variable
from ..net import Array, Convolution
from .direct import place, row_constants
from .direct_block import ChannelBlock, Reduction, Vector, balanced, channel_blocks, divided, kinds, over, pack, sums
from .epilogue import finish
from .winograd_scheme import Scheme, scheme, signed_sum
from .winograd_tiles import patch_floats, places, scratch_floats, tile_sizes

NAME = "winograd"


def tiles(layer: Convolution, machine: Machine) -> tuple[Tile, ...]:
    """The best guess first; none where it would not be faster than the definition."""
    return tuple(Tile(NAME, tuple(sizes.items())) for sizes in tile_sizes(layer, machine))


def kernel(layer: Convolution, machine: Machine, tile: Tile) -> Kernel:
    """Blocks of `rows` rows of patches; in each, the patches are transformed, multiplied and transformed back."""
    blocks = channel_blocks(layer.weight.shape[0], tile["vectors"], machine)
    nest = _Nest(layer, machine, blocks, tile["rows"], tile["positions"])
    parts = nest.parts()
    pointers = ["float *const v = (float *)scratch;", f"float *const m = v + {nest.places * nest.pitches[0]};"]
    return Kernel(
        body=(*pointers, *divided("u", parts)),
        constants={"weight": pack(transformed(layer.weight), blocks), **row_constants(layer.epilogue, 1, blocks)},
        scratch_bytes=4 * nest.places * sum(nest.pitches),
        units=sum(count for count, _ in parts),
    )


def transformed(weight: Array) -> Array:
    """(K, KH, KW, C) to (K, places * C), computed in float64 and rounded once."""
    down, across = scheme(weight.shape[1]), scheme(weight.shape[2])
    found: Array = np.einsum("ia,kabc,jb->kijc", down.weights, weight.astype(np.float64), across.weights)
    rounded: Array = found.reshape(len(weight), -1).astype(np.float32)
    return rounded


@dataclass(frozen=True)
class _Nest:
    layer: Convolution
    machine: Machine
    blocks: tuple[ChannelBlock, ...]
    rows: int
    positions: int

    @property
    def schemes(self) -> tuple[Scheme, Scheme]:
        """Down the rows, and across the columns."""
        return scheme(self.layer.weight.shape[1]), scheme(self.layer.weight.shape[2])

    @property
    def places(self) -> int:
        """Of a transformed patch."""
        return places(self.layer)

    @property
    def across(self) -> int:
        """Patches in a row."""
        return -(-self.layer.y.shape[2] // 2)

    @property
    def down(self) -> int:
        """Rows of patches."""
        return -(-self.layer.y.shape[1] // 2)

    @property
    def inputs(self) -> ChannelBlock:
        """All input channels in vectors."""
        return channel_blocks(self.layer.weight.shape[3], self.layer.weight.shape[3], self.machine)[0]

    @property
    def patch(self) -> int:
        """Between two transformed patches of a place."""
        return patch_floats(self.inputs.width)

    @property
    def pitches(self) -> tuple[int, int]:
        """Between two of the 16 places: of transformed patches, of products."""
        patches = max(size for _, size, _ in balanced(self.down, self.rows)) * self.across
        return scratch_floats(patches, self.patch), scratch_floats(patches, self.blocks[0].width)

    def parts(self) -> list[tuple[int, Builder]]:
        """Units are pictures, or blocks of rows of patches where there is one picture."""
        batch = self.layer.y.shape[0]

        def one(start: int, size: int) -> Builder:
            return lambda r: self.row_block(number(0), r * size + start, size)

        if batch > 1:
            return [(batch, lambda n: over("r", self.down, self.rows, lambda r, size: self.row_block(n, r, size)))]
        return [(count, one(start, size)) for start, size, count in balanced(self.down, self.rows)]

    def row_block(self, n: Affine, row: Affine, rows: int) -> list[Node]:
        def patches(builder: Callable[[Affine, Affine, Affine], list[Node]]) -> list[Node]:
            """`builder(patch, first row, first column of y)` for every patch."""

            def patch(i: Affine, j: Affine) -> list[Node]:
                begins: list[Node] = [
                    f"const int64_t a = {_begin((row + i) * 2, self.layer.y.shape[1])};",
                    f"const int64_t b = {_begin(j * 2, self.layer.y.shape[2])};",
                ]
                guards = (row + i) * 2, j * 2
                return [*begins, *builder(i * self.across + j, *guards)]

            return loop("i", rows, lambda i: loop("j", self.across, lambda j: patch(i, j)))

        nodes = patches(lambda patch, _a, _b: self.transform(n, patch))
        for first, count in kinds(self.blocks):
            block = self.blocks[first]

            def channels(k: Affine, block: ChannelBlock = block) -> list[Node]:
                start = k * block.width + block.start
                return [
                    *self.products(start, block, rows * self.across),
                    *patches(lambda patch, a, b: self.outputs(n, patch, (a, b), start, block)),
                ]

            nodes += loop("k", count, channels)
        return nodes

    def transform(self, n: Affine, patch: Affine) -> list[Node]:
        """One patch of x, all channels, into `v`."""
        _, row_step, column_step, _ = self.layer.x.strides
        down, across = self.schemes
        begin = place(self.layer.x, n, variable("a") - self.layer.top, variable("b") - self.layer.left, number(0))
        nodes: list[Node] = [
            f"const float *x = x0 + {begin};",
            f"float *to = v + {patch * self.patch};",
        ]

        def vector(channel: Affine, lanes: int, count: int) -> list[Node]:
            kind = f"f32x{lanes}"
            part, tail = ("", "") if lanes == count else ("part_", f", {count}")
            loads = [
                f"const {kind} d{i}_{j} = ew_load_{part}{kind}(x + {channel + (i * row_step + j * column_step)}{tail});"
                for i in range(down.reads)
                for j in range(across.reads)
            ]
            stores = [
                f"ew_store_{kind}(to + {channel + (across.places * i + j) * self.pitches[0]}, v{i}_{j});"
                for i in range(down.places)
                for j in range(across.places)
            ]
            return [*loads, *self.input_sums(kind), *stores]

        return [*nodes, *_vectors(self.inputs, vector)]

    def products(self, start: Affine, block: ChannelBlock, patches: int) -> list[Node]:
        """A matrix product per place: patches x input channels x a block of output channels, into `m`."""
        deep, width = self.layer.weight.shape[3], self.patch

        def positions(at: Affine, xi: Affine, size: int) -> list[Node]:
            pointers: list[Node] = [
                f"const float *x = v + {xi * self.pitches[0] + at * width};",
                f"const float *w = weight + {start * (self.places * deep) + xi * (deep * block.width)};",
                f"float *to = m + {xi * self.pitches[1] + at * block.width};",
            ]
            products = sums([Reduction("e", deep, 1)], [p * width for p in range(size)], block)
            stores = [
                f"ew_store_f32x{vector.lanes}(to + {p * block.width + vector.offset}, s{p}_{v});"
                for p in range(size)
                for v, vector in enumerate(block.vectors)
            ]
            return [Scope((*pointers, *products, *stores))]

        return loop(
            "q", self.places, lambda xi: over("p", patches, self.positions, lambda p, size: positions(p, xi, size))
        )

    def input_sums(self, kind: str) -> list[Node]:
        """The transform of a patch d to v: columns first, then rows."""
        down, across = self.schemes
        read, places = range(across.reads), range(down.places)
        columns = [
            _apply(kind, down.inputs, _square("d", range(down.reads), [j]), _square("t", places, [j])) for j in read
        ]
        rows = [
            _apply(kind, across.inputs, _square("t", [i], read), _square("v", [i], range(across.places)))
            for i in places
        ]
        return [line for part in (*columns, *rows) for line in part]

    def output_sums(self, kind: str) -> list[Node]:
        """The transform of products m back to 2 x 2 outputs y."""
        down, across = self.schemes
        places = range(across.places)
        columns = [
            _apply(kind, down.outputs, _square("m", range(down.places), [j]), _square("r", range(2), [j]))
            for j in places
        ]
        rows = [_apply(kind, across.outputs, _square("r", [i], places), _square("y", [i], range(2))) for i in range(2)]
        return [line for part in (*columns, *rows) for line in part]

    def outputs(
        self, n: Affine, patch: Affine, unheld: tuple[Affine, Affine], start: Affine, block: ChannelBlock
    ) -> list[Node]:
        """One patch of y from `m`; where it overlaps another (it begins before `unheld`), only what is new."""
        nodes: list[Node] = []
        down, across = self.schemes
        for vector in block.vectors:
            kind = f"f32x{vector.lanes}"
            from_m = [
                f"const {kind} m{i}_{j} = ew_load_{kind}(m + "
                f"{patch * block.width + vector.offset + (across.places * i + j) * self.pitches[1]});"
                for i in range(down.places)
                for j in range(across.places)
            ]
            ends = [node for i in range(2) for j in range(2) for node in self.store(n, (i, j), unheld, start, vector)]
            nodes.append(Scope((*from_m, *self.output_sums(kind), *ends)))
        return nodes

    def store(
        self, n: Affine, at: tuple[int, int], unheld: tuple[Affine, Affine], start: Affine, vector: Vector
    ) -> list[Node]:
        row, column = variable("a") + at[0], variable("b") + at[1]
        channel = start + vector.offset
        lines = finish(
            self.layer.epilogue,
            self.layer.y,
            f"y{at[0]}_{at[1]}",
            lambda tensor: str(place(tensor, n, row, column, channel)),
            str(channel),
            vector.lanes,
            vector.count,
        )
        guards = [
            f"{name} == {begin}"
            for name, begin, size, half in zip("ab", unheld, self.layer.y.shape[1:3], at, strict=True)
            if size % 2 and not half
        ]
        return [f"if ({' && '.join(guards)})", *lines] if guards else list(lines)


def _begin(begin: Affine, size: int) -> str:
    """The first row of a patch: the last patch of an odd size is moved back, so that it stays inside."""
    return f"{begin} < {size - 2} ? {begin} : {size - 2}" if size % 2 else str(begin)


def _vectors(block: ChannelBlock, body: Callable[[Affine, int, int], list[Node]]) -> list[Node]:
    """All vectors of a block that are alike in one loop."""
    alike = [vector for vector in block.vectors if vector == Vector(vector.offset, *_shape(block.vectors[0]))]
    lanes, count = _shape(alike[0])
    nodes: list[Node] = (
        [Loop("l", "0", str(len(alike) * lanes), lanes, tuple(body(variable("l"), lanes, count)))]
        if len(alike) > 1
        else [Scope(tuple(body(number(0), lanes, count)))]
    )
    rest = block.vectors[len(alike) :]
    return [*nodes, *(Scope(tuple(body(number(vector.offset), vector.lanes, vector.count))) for vector in rest)]


def _shape(vector: Vector) -> tuple[int, int]:
    return vector.lanes, vector.count


def _apply(kind: str, rows: tuple[tuple[int, ...], ...], names: list[str], to: list[str]) -> list[Node]:
    return [f"const {kind} {name} = {signed_sum(kind, row, names)};" for name, row in zip(to, rows, strict=True)]


def _square(letter: str, rows: Iterable[int], columns: Iterable[int]) -> list[str]:
    """Names of a square's parts: of a row, or of a column."""
    columns = list(columns)
    return [f"{letter}{i}_{j}" for i in rows for j in columns]


FAMILY = Family(NAME, tiles, kernel)
