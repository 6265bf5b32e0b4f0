"""Products of two tensors, batched: the register blocks of dense layers over a right side that is read or packed.

Where the right side lies side by side along its channels, register blocks read it as it is; otherwise, or where that
is faster, one panel of it at a time is packed into scratch, transposed four by four.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..kernel import Family, Kernel, Tile
from ..machine import Machine
from ..nest import Affine, Node, Scope, loop, number, variable
from ..net import MatMul, Tensor
from .epilogue import finish, row_constants
from .panels import ZERO, Body, Panel, Run, Vector, divided, even, over, panel_width, panels
from .product import Operands, Sweep, block_shapes, folds, totals_bytes

NAME = "matmul"
SHAPES = 3
"""Register blocks to try."""


def tiles(layer: MatMul, machine: Machine) -> tuple[Tile, ...]:
    """Blocks that the registers hold, with and without packing."""
    tensors = (layer.a, layer.b, layer.y, *layer.epilogue.beside)
    if any(tensor.border for tensor in tensors) or {layer.a.dtype, layer.b.dtype, layer.y.dtype} != {"f32"}:
        return ()
    rows, channels = layer.y.shape[-2:]
    ways = (1,) if layer.b_transposed or channels % machine.widths()[-1] else (0, 1)
    return tuple(
        Tile(NAME, (("positions", positions), ("vectors", vectors), ("packed", packed)))
        for positions, vectors in block_shapes(rows, channels, machine, SHAPES)
        for packed in ways
    )


def kernel(layer: MatMul, machine: Machine, tile: Tile) -> Kernel:
    """Its units are matrices of the outermost axis that there is more than one of; panels where there is one matrix."""
    axes = _batch_axes(layer)
    parts = panels(layer.y.shape[-1], tile["vectors"], machine)
    nest = _Nest(layer, machine, tile)
    if axes:
        return nest.kernel(*divided("n0", [(Run(0, 1, axes[0].extent), lambda _, __: nest.axes(axes, parts))]))
    return nest.kernel(*divided("k", [(run, nest.panel(Places(), panel)) for run, panel in parts]))


@dataclass(frozen=True)
class Axis:
    """Matrices side by side: how many, and how far their elements lie apart in a, b and y."""

    extent: int
    a: int
    b: int
    y: int


@dataclass(frozen=True)
class Places:
    """Where the matrices at hand begin in a, b and y (and in what is beside it)."""

    a: Affine = ZERO
    b: Affine = ZERO
    y: Affine = ZERO


def _batch_axes(layer: MatMul) -> list[Axis]:
    """Leading axes of more than one matrix, merged where all sides allow it, outermost first."""
    leading = layer.y.shape[:-2]
    steps = [_steps(tensor, len(leading)) for tensor in (layer.a, layer.b, layer.y)]
    merged: list[Axis] = []
    for extent, a, b, y in zip(leading, *steps, strict=True):
        if extent == 1:
            continue
        last = merged[-1] if merged else None
        if last and (last.a, last.b, last.y) == (extent * a, extent * b, extent * y):
            merged[-1] = Axis(last.extent * extent, a, b, y)
        else:
            merged.append(Axis(extent, a, b, y))
    return merged


def _steps(tensor: Tensor, axes: int) -> list[int]:
    """Elements between neighbours along each leading axis; 0 where there is one for all."""
    leading = (1,) * (axes + 2 - len(tensor.shape)) + tensor.shape
    return [math.prod(leading[axis + 1 :]) if leading[axis] > 1 else 0 for axis in range(axes)]


@dataclass(frozen=True)
class _Nest:
    layer: MatMul
    machine: Machine
    tile: Tile

    @property
    def depth(self) -> int:
        return self.layer.a.shape[-2 if self.layer.a_transposed else -1]

    def kernel(self, body: list[Node], units: int) -> Kernel:
        """With scratch for the sums of long products, and behind them a packed panel."""
        rows = row_constants(self.layer.epilogue, self.machine.lanes)
        packed = 4 * self.depth * self._width() if self.tile["packed"] else 0
        return Kernel(tuple(body), rows, self._totals_bytes() + packed, units)

    def _width(self) -> int:
        parts = panels(self.layer.y.shape[-1], self.tile["vectors"], self.machine)
        return max(panel_width(panel) for _, panel in parts)

    def _totals_bytes(self) -> int:
        size = totals_bytes(self.depth, self._group(), self._width())
        return -(-size // 64) * 64

    def _group(self) -> int:
        return min(8 * self.tile["positions"], self.layer.y.shape[-2])

    def axes(self, axes: Sequence[Axis], parts: Sequence[tuple[Run, Panel]]) -> list[Node]:
        """All matrices of a unit: loops over the inner axes, then panels."""
        names = [variable(f"n{index}") for index in range(len(axes))]
        indices = [name if axis.extent > 1 else ZERO for name, axis in zip(names, axes, strict=True)]

        def inner(depth: int) -> list[Node]:
            if depth < len(axes):
                return loop(f"n{depth}", axes[depth].extent, lambda _: inner(depth + 1))
            places = Places(
                _sum(index * axis.a for index, axis in zip(indices, axes, strict=True)),
                _sum(index * axis.b for index, axis in zip(indices, axes, strict=True)),
                _sum(index * axis.y for index, axis in zip(indices, axes, strict=True)),
            )
            return [node for run, panel in parts for node in over([run], "k", self.panel(places, panel))]

        return inner(1)

    def panel(self, places: Places, panel: Panel) -> Body:
        """A panel of channels, packed where the tile says so, and all rows of a with it."""

        def body(channel: Affine, size: int) -> list[Node]:
            operands = self._operands(places, channel, panel)
            sweep = Sweep(operands, panel, self.depth, self.tile["positions"])
            packing = self._pack(places.b, channel, size, panel) if self.tile["packed"] else []
            rows = even(self.layer.y.shape[-2], self._group())
            return [*packing, *over(rows, "g", sweep.nodes)]

        return body

    def _packed(self, at: Affine) -> str:
        return f"(float *)(scratch + {self._totals_bytes()}) + {at}"

    def _b(self, place: Affine, c: Affine, channel: Affine) -> Affine:
        columns = self.layer.b.shape[-1]
        return place + (channel * columns + c if self.layer.b_transposed else c * columns + channel)

    def _operands(self, places: Places, channel: Affine, panel: Panel) -> Operands:
        layer = self.layer
        width = panel_width(panel)
        step = layer.a.shape[-1]

        def a(position: Affine, c: Affine) -> str:
            return f"x0[{places.a + (c * step + position if layer.a_transposed else position * step + c)}]"

        def b(c: Affine, vector: Vector) -> str:
            if self.tile["packed"]:
                return f"ew_load_{vector.kind}({self._packed(c * width + vector.offset)})"
            return f"ew_load_{vector.kind}(x1 + {self._b(places.b, c, channel + vector.offset)})"

        def ends(sums: str, position: Affine, vector: Vector) -> list[str]:
            at = channel + vector.offset
            place = str(places.y + position * layer.y.shape[-1] + at)
            return finish(layer.epilogue, layer.y, sums, lambda _: place, str(at), vector.lanes, vector.count, first=2)

        return Operands(a, b, ends, folds(self.machine) and not layer.a_transposed)

    def _pack(self, place: Affine, channel: Affine, size: int, panel: Panel) -> list[Node]:
        """Lines that bring a panel of b into the order of packed weights, zeros in lanes that do not exist."""
        if self.layer.b_transposed:
            return self._transpose(place, channel, size, panel)
        width = panel_width(panel)

        def step(c: Affine) -> list[Node]:
            return [
                f"ew_store_{vector.kind}({self._packed(c * width + vector.offset)}, "
                f"{_load(vector, f'x1 + {self._b(place, c, channel + vector.offset)}')});"
                for vector in panel
            ]

        return loop("c", self.depth, step)

    def _transpose(self, place: Affine, channel: Affine, size: int, panel: Panel) -> list[Node]:
        width = panel_width(panel)
        fours = self.depth // 4

        def four(offset: Affine, count: int) -> list[Node]:
            def block(c: Affine) -> list[Node]:
                lines: list[Node] = [
                    f"f32x4 v{k} = "
                    + (f"ew_load_f32x4(x1 + {self._b(place, c * 4, channel + offset + k)});" if k < count else "{0};")
                    for k in range(4)
                ]
                lines.append("ew_transpose_f32x4(&v0, &v1, &v2, &v3);")
                return lines + [
                    f"ew_store_f32x4({self._packed((c * 4 + step) * width + offset)}, v{step});" for step in range(4)
                ]

            def single(c: int) -> list[Node]:
                return [
                    f"*({self._packed(number(c * width + k) + offset)}) = "
                    + (f"x1[{self._b(place, number(c), channel + offset + k)}];" if k < count else "0;")
                    for k in range(4)
                ]

            rest = [Scope(tuple(single(c))) for c in range(fours * 4, self.depth)]
            return [*(loop("c", fours, block) if fours else []), *rest]

        runs = [Run(0, 4, size // 4)] if size >= 4 else []
        if size % 4:
            runs.append(Run(size // 4 * 4, size % 4, 1))
        return over(runs, "q", four)


def _load(vector: Vector, pointer: str) -> str:
    if vector.count == vector.lanes:
        return f"ew_load_{vector.kind}({pointer})"
    return f"ew_load_part_{vector.kind}({pointer}, {vector.count})"


def _sum(parts: Iterable[Affine]) -> Affine:
    total = ZERO
    for part in parts:
        total = total + part
    return total


FAMILY = Family(NAME, tiles, kernel)
