"""Strided copies: runs by vectors, transpositions by blocks, the rest element by element.

No part of y overlaps x: the last vector of a run may write again what the one before it wrote.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from ..kernel import Family, Kernel, Tile
from ..machine import Machine
from ..nest import Affine, Node, Scope, loop, number, tiled
from ..net import ITEM_BYTES, NUMPY, Array, Move, Part, Tensor
from .axes import collapse, nested, offset

NAME = "move"
WRITTEN_OUT = 8
"""Vectors of a run that are written one after the other instead of in a loop."""
LINE = 16
"""Columns of a transposition's block: what a cache line holds of 32-bit elements."""

Place = Callable[[Affine, Affine], list[Affine]]
"""The index of an element of a transposition by its column and its row."""


@dataclass(frozen=True)
class _Copy:
    """One part over joined axes, those of the smallest step in y last."""

    x: str
    extents: tuple[int, ...]
    x_strides: tuple[int, ...]
    y_strides: tuple[int, ...]
    x_start: int
    y_start: int
    item_bytes: int

    def at_x(self, index: Iterable[Affine]) -> Affine:
        return offset(tuple(index), self.x_strides, self.x_start)

    def at_y(self, index: Iterable[Affine]) -> Affine:
        return offset(tuple(index), self.y_strides, self.y_start)


def tiles(_layer: Move, _machine: Machine) -> tuple[Tile, ...]:
    """One."""
    return (Tile(NAME),)


def kernel(layer: Move, machine: Machine, _tile: Tile) -> Kernel:
    """A single part without fill is divided by its outermost axis."""
    names = {tensor.name: f"x{index}" for index, tensor in reversed(list(enumerate(layer.inputs)))}
    constants: dict[str, Array] = {}
    copies = []
    for index, part in enumerate(layer.parts):
        if isinstance(part.x, Tensor):
            name = names[part.x.name]
        else:
            name = f"c{index}"
            constants[name] = part.x.reshape(-1)
        copies.append(_copy(layer.y, part, name))
    body: list[Node] = []
    if layer.fill is not None:
        body += _fill(layer.y, layer.fill, _is_covered(layer), machine)
    divided = len(copies) == 1 and not body and len(copies[0].extents) > 1 and _axis_of_ones(copies[0]) != 0
    for copy in copies:
        body.append(Scope(tuple(_nest(copy, machine, divided))))
    return Kernel(body=tuple(body), constants=constants, units=copies[0].extents[0] if divided else 1)


def _copy(y: Tensor, part: Part, name: str) -> _Copy:
    order = sorted(range(len(part.extents)), key=lambda axis: -abs(part.y_strides[axis]))
    extents, (y_strides, x_strides) = collapse(
        [part.extents[axis] for axis in order],
        [[strides[axis] for axis in order] for strides in (part.y_strides, part.x_strides)],
    )
    x_start = part.x_start + (part.x.origin if isinstance(part.x, Tensor) else 0)
    return _Copy(name, extents, x_strides, y_strides, x_start, part.y_start + y.origin, ITEM_BYTES[y.dtype])


def _axis_of_ones(copy: _Copy) -> int | None:
    """The axis along which a transposition reads neighbours, None where nothing is transposed."""
    if copy.y_strides[-1] != 1 or copy.x_strides[-1] in (0, 1):
        return None
    axes = [axis for axis, stride in enumerate(copy.x_strides) if stride == 1]
    return axes[0] if axes else None


def _nest(copy: _Copy, machine: Machine, divided: bool) -> list[Node]:
    columns = _axis_of_ones(copy)
    if columns is not None:
        return _transposition(copy, columns, divided)
    if copy.y_strides[-1] == 1 and copy.x_strides[-1] == 1:
        run = copy.extents[-1] * copy.item_bytes

        def copied(index: tuple[Affine, ...]) -> list[Node]:
            start = (*index, number(0))
            x, y = (f"(const char *)({copy.x} + {copy.at_x(start)})", f"(char *)(y0 + {copy.at_y(start)})")
            return copied_run(x, y, run, machine)

        return nested(copy.extents[:-1], copied, divided=divided)
    return nested(copy.extents, lambda index: [_element(copy, index)], divided=divided)


def _element(copy: _Copy, index: Iterable[Affine]) -> str:
    at = tuple(index)
    return f"y0[{copy.at_y(at)}] = {copy.x}[{copy.at_x(at)}];"


def copied_run(x: str, y: str, size_bytes: int, machine: Machine) -> list[Node]:
    """Bytes from one pointer to another; what a vector does not fill is covered by one that ends where the run ends."""
    head: list[Node] = [f"const char *from = {x};", f"char *to = {y};"]
    width = next((4 * lanes for lanes in machine.widths() if 4 * lanes <= size_bytes), 0)
    if not width:
        return [Scope((*head, *_short_run(size_bytes)))]
    kind = f"f32x{width // 4}"

    def step(at: Affine | int) -> list[Node]:
        return [f"ew_store_{kind}((float *)(to + {at}), ew_load_{kind}((const float *)(from + {at})));"]

    full, rest = divmod(size_bytes, width)
    body = loop("b", full, lambda b: step(b * width), unroll=full <= WRITTEN_OUT)
    return [Scope((*head, *body, *(step(size_bytes - width) if rest else ())))]


def _short_run(size_bytes: int) -> list[Node]:
    lines: list[Node] = []
    at = 0
    for width in (8, 4, 2, 1):
        while size_bytes - at >= width:
            lines.append(f"__builtin_memcpy(to + {at}, from + {at}, {width});")
            at += width
    return lines


def _transposition(copy: _Copy, columns: int, divided: bool) -> list[Node]:
    """Blocks of a line's columns by four rows: rows lie along y, columns along x."""
    last = len(copy.extents) - 1
    outer = [axis for axis in range(last) if axis != columns]

    def inside(index: tuple[Affine, ...]) -> Iterable[Node]:
        places = dict(zip(outer, index, strict=True))

        def at(column: Affine, row: Affine) -> list[Affine]:
            return [row if axis == last else column if axis == columns else places[axis] for axis in range(last + 1)]

        def block(column: Affine, width: int) -> Iterable[Node]:
            return tiled("n", copy.extents[last], 4, lambda row, height: _block(copy, at, column, width, row, height))

        return tiled("t", copy.extents[columns], LINE, block)

    return nested([copy.extents[axis] for axis in outer], inside, divided=divided and columns != 0)


def _block(copy: _Copy, at: Place, column: Affine, width: int, row: Affine, height: int) -> list[Node]:
    nodes: list[Node] = []
    vectors = width // 4 if copy.item_bytes == 4 and height == 4 else 0
    for vector in range(vectors):
        start = column + 4 * vector
        reads = ", ".join(f"(const float *)({copy.x} + {copy.at_x(at(start, row + i))})" for i in range(4))
        writes = ", ".join(f"(float *)(y0 + {copy.at_y(at(start + i, row))})" for i in range(4))
        nodes.append(f"ew_transpose_4x4({reads}, {writes});")
    for j in range(4 * vectors, width):
        nodes += [_element(copy, at(column + j, row + i)) for i in range(height)]
    return nodes


def _is_covered(layer: Move) -> bool:
    """Whether the parts write every element that is not border."""
    return sum(math.prod(part.extents) for part in layer.parts) == layer.y.elements


def _fill(y: Tensor, value: float, covered: bool, machine: Machine) -> list[Node]:
    """All of a buffer; where the parts cover the picture, its border: what lies between two rows is one run."""
    if not covered:
        return _filled(y, value, number(0), math.prod(y.buffer_shape), machine)
    if not y.border:
        return []
    batch, height, width, _ = y.shape
    picture, row, column, _ = y.strides
    border = y.border
    first = border.top * row + border.left * column
    between = (border.left + border.right) * column
    ends = (border.top + height - 1) * row + (border.left + width) * column

    def one(n: Affine) -> Iterable[Node]:
        yield from _filled(y, value, n * picture, first, machine)
        yield from loop(
            "r",
            height - 1,
            lambda r: _filled(y, value, n * picture + (first + width * column) + r * row, between, machine),
        )
        yield from _filled(y, value, n * picture + ends, picture - ends, machine)

    return loop("n", batch, one)


def _filled(y: Tensor, value: float, start: Affine, count: int, machine: Machine) -> list[Node]:
    item = ITEM_BYTES[y.dtype]
    if not count:
        return []
    pattern = np.array([value]).astype(NUMPY[y.dtype]).tobytes()
    lanes = next((lanes for lanes in machine.widths() if 4 * lanes <= count * item), 0)
    if item == 8 or not lanes:
        bits = int.from_bytes(pattern, "little", signed=True)
        literal = f"{float(value).hex()}f" if y.dtype == "f32" else f"{bits}"
        if y.dtype == "f32" and not math.isfinite(value):
            literal = "__builtin_inff()" if value > 0 else "-__builtin_inff()" if value < 0 else '__builtin_nanf("")'
        return loop("e", count, lambda e: [f"y0[{start + e}] = {literal};"], unroll=count <= WRITTEN_OUT)
    word = int.from_bytes(pattern * (4 // item), "little", signed=True)
    kind = f"s32x{lanes}"
    full, rest = divmod(count * item, 4 * lanes)

    def step(at: Affine | int) -> list[Node]:
        return [f"ew_store_{kind}((int32_t *)((char *)(y0 + {start}) + {at}), ew_splat_{kind}({word}));"]

    body = loop("e", full, lambda e: step(e * (4 * lanes)), unroll=full <= WRITTEN_OUT)
    return [*body, *(step(count * item - 4 * lanes) if rest else ())]


FAMILY = Family(NAME, tiles, kernel)
