"""Sums, means, extremes and products over some axes, and the place of an extreme.

Where the innermost axis is reduced, a row has sixteen partial results (`lanes`). Where it is kept, vectors lie along it
and every lane takes its elements in order; floats in blocks of thirty-two, whose sums are added up, so that rounding
grows with the number of blocks only. Either way the order does not depend on the machine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..expression import Expression, Leaf, Row, Scalar
from ..expression import replace as replace_leaves
from ..kernel import Family, Kernel, Tile
from ..machine import Machine
from ..nest import Affine, Loop, Node, Scope, number, pieces, tiled, variable
from ..net import Reduce, Tensor
from .axes import nested, offset
from .epilogue import finish, load, row_constants
from .lanes import along, declare, only, total

NAME = "reduce"
BLOCK = 32
"""Elements per lane that are summed before their sum is added to the others."""
_PLACES = ("argmax", "argmin")
_SMALL = ("f32", "s32", "u8", "s8", "bool")


@dataclass(frozen=True)
class _Kind:
    """How a kind of reduction joins two numbers, and what it begins with."""

    operation: str
    start: str


_FLOATS = {
    "sum": _Kind("add", "0"), "mean": _Kind("add", "0"), "sum_square": _Kind("add", "0"), "prod": _Kind("mul", "1"),
    "max": _Kind("max", "(-__builtin_inff())"), "min": _Kind("min", "__builtin_inff()"),
}  # fmt: skip
_INTEGERS = {
    "sum": _Kind("iadd", "0"), "mean": _Kind("iadd", "0"), "sum_square": _Kind("iadd", "0"), "prod": _Kind("imul", "1"),
    "max": _Kind("imax", "INT32_MIN"), "min": _Kind("imin", "INT32_MAX"),
}  # fmt: skip


def tiles(layer: Reduce, _machine: Machine) -> tuple[Tile, ...]:
    """One; none for types that vectors do not hold."""
    place = layer.kind in _PLACES
    dtypes = [layer.x.dtype, *(tensor.dtype for tensor in layer.epilogue.beside), *(() if place else (layer.y.dtype,))]
    return (Tile(NAME),) if all(dtype in _SMALL for dtype in dtypes) else ()


def kernel(layer: Reduce, machine: Machine, _tile: Tile) -> Kernel:
    """Units are steps of the outermost axis that is kept."""
    if layer.kind in _PLACES:
        return _places(layer)
    layer = _without_rows_of_one(layer)
    last = max((axis for axis, extent in enumerate(layer.x.shape) if extent > 1), default=len(layer.x.shape) - 1)
    dense = layer.x.strides[last] == 1
    if not dense:  # a border lies between neighbours: the last axis, of one element, stands in for theirs
        last = len(layer.x.shape) - 1
    in_rows = dense and last in layer.axes
    body, units = _rows(layer, machine) if in_rows else _columns(layer, machine, last)
    return Kernel(body=tuple(body), constants=row_constants(layer.epilogue, machine.lanes), units=units)


def _without_rows_of_one(layer: Reduce) -> Reduce:
    """Where the innermost axis has one element, vectors lie along another one: its rows are one number for all."""
    epilogue = layer.epilogue
    if layer.y.shape[-1] > 1 or not epilogue.rows:
        return layer

    def leaf(part: Leaf) -> Expression:
        return Scalar(epilogue.rows[part.index][0].item(), part.kind) if isinstance(part, Row) else part

    return replace(layer, epilogue=replace(epilogue, value=replace_leaves(epilogue.value, leaf), rows=()))


@dataclass(frozen=True)
class _Axes:
    """The axes that are kept and those that are reduced, by number, without those of one element."""

    kept: tuple[int, ...]
    reduced: tuple[int, ...]


def _axes(layer: Reduce, without: int) -> _Axes:
    axes = [axis for axis, extent in enumerate(layer.x.shape) if extent > 1 and axis != without]
    return _Axes(
        tuple(axis for axis in axes if axis not in layer.axes), tuple(axis for axis in axes if axis in layer.axes)
    )


def _place(tensor: Tensor, axes: Sequence[int], index: Sequence[Affine]) -> Affine:
    return offset(index, [tensor.strides[axis] for axis in axes], tensor.origin)


def _joined(extents: Sequence[int], strides: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Reduced axes with neighbours joined where they lie one after the other."""
    kept: list[tuple[int, int]] = []
    for extent, stride in zip(extents, strides, strict=True):
        if kept and kept[-1][1] == stride * extent:
            kept[-1] = (kept[-1][0] * extent, stride)
        else:
            kept.append((extent, stride))
    return tuple(extent for extent, _ in kept), tuple(stride for _, stride in kept)


def _term(layer: Reduce, value: str, suffix: str) -> str:
    """What is joined: the element, as it is or without its zero point, or its square."""
    if layer.x.dtype != "f32" and layer.kind in ("sum", "mean", "sum_square", "prod") and layer.x_zero_point:
        value = f"ew_isub_{suffix}({value}, ew_splat_{suffix}({layer.x_zero_point}))"
    return value


def _join(layer: Reduce, kind: str, lanes: int, into: str, term: str) -> list[Node]:
    suffix = f"{kind}x{lanes}"
    how = (_FLOATS if kind == "f32" else _INTEGERS)[layer.kind].operation
    if layer.kind != "sum_square":
        return [f"{into} = ew_{how}_{suffix}({term}, {into});"]
    if kind == "f32":
        return [Scope((f"const {suffix} t = {term};", f"{into} = ew_fma_{suffix}(t, t, {into});"))]
    return [Scope((f"const {suffix} t = {term};", f"{into} = ew_iadd_{suffix}(ew_imul_{suffix}(t, t), {into});"))]


def _kind_of(layer: Reduce) -> str:
    return "f32" if layer.x.dtype == "f32" else "s32"


def _count(layer: Reduce) -> int:
    return math.prod(layer.x.shape[axis] for axis in layer.axes)


def _rows(layer: Reduce, machine: Machine) -> tuple[list[Node], int]:
    """The innermost axis is reduced."""
    kind, x = _kind_of(layer), layer.x
    axes = _axes(layer, without=-1)
    extents, strides = _joined([x.shape[axis] for axis in axes.reduced], [x.strides[axis] for axis in axes.reduced])
    how = (_FLOATS if kind == "f32" else _INTEGERS)[layer.kind]
    lanes = machine.lanes

    def one(index: tuple[Affine, ...]) -> list[Node]:
        start = _place(x, axes.kept, index)

        def row(inner: tuple[Affine, ...]) -> list[Node]:
            def step(v: int, element: Affine, _: int, count: int) -> list[Node]:
                at = offset((*inner, element), strides or (1,), 0) + start
                loaded = load(f"x0 + {at}", x.dtype, kind, lanes, count)
                return _join(
                    layer,
                    kind,
                    lanes,
                    f"s{v}",
                    only(_term(layer, loaded, f"{kind}x{lanes}"), how.start, kind, lanes, count),
                )

            return along(extents[-1] if extents else 1, machine, step)

        value = total("s", how.operation, kind, machine)
        ends = _finished(layer, kind, f"ew_splat_{kind}x4({value})", axes.kept, index, 4, 1)
        return [Scope((*declare("s", kind, how.start, machine), *nested(extents[:-1], row, "q"), *ends))]

    kept = [x.shape[axis] for axis in axes.kept]
    return nested(kept, one, divided=True), kept[0] if kept else 1


def _columns(layer: Reduce, machine: Machine, last: int) -> tuple[list[Node], int]:
    """The innermost axis is kept: vectors along it, four at a time where it has them."""
    x = layer.x
    axes = _axes(layer, without=last)
    width = machine.lanes * 4

    def one(index: tuple[Affine, ...]) -> list[Node]:
        return tiled("k", x.shape[last], width, lambda k, size: _block(layer, machine, axes, last, index, k, size))

    kept = [x.shape[axis] for axis in axes.kept]
    return nested(kept, one, divided=True), kept[0] if kept else 1


def _block(
    layer: Reduce, machine: Machine, axes: _Axes, last: int, index: tuple[Affine, ...], k: Affine, size: int
) -> list[Node]:
    kind, x = _kind_of(layer), layer.x
    how = (_FLOATS if kind == "f32" else _INTEGERS)[layer.kind]
    extents, strides = _joined([x.shape[axis] for axis in axes.reduced], [x.strides[axis] for axis in axes.reduced])
    vectors = [
        (at, min(w for w in machine.widths() if w >= width), width) for at, width in pieces(size, machine.widths())
    ]
    start = _place(x, (*axes.kept, last), (*index, k))
    blocked = kind == "f32" and how.operation == "add"

    def declared(name: str) -> list[Node]:
        return [
            f"{kind}x{lanes} {name}{v} = ew_splat_{kind}x{lanes}({how.start});"
            for v, (_, lanes, _) in enumerate(vectors)
        ]

    def element(at: Affine, into: str) -> list[Node]:
        lines: list[Node] = []
        for v, (first, lanes, count) in enumerate(vectors):
            loaded = load(f"x0 + {at + start + first}", x.dtype, kind, lanes, count)
            lines += _join(layer, kind, lanes, f"{into}{v}", _term(layer, loaded, f"{kind}x{lanes}"))
        return lines

    def along_innermost(inner: tuple[Affine, ...]) -> list[Node]:
        base = offset(inner, strides[:-1])

        def run(first: Affine, count: int, into: str) -> list[Node]:
            at = base + (first + variable("e")) * strides[-1]
            return [Loop("e", "0", str(count), 1, tuple(element(at, into)))]

        if not blocked:
            return run(number(0), extents[-1], "s")
        sums = [f"s{v} = ew_add_{kind}x{lanes}(s{v}, b{v});" for v, (_, lanes, _) in enumerate(vectors)]
        return tiled("g", extents[-1], BLOCK, lambda first, count: [*declared("b"), *run(first, count, "b"), *sums])

    body = nested(extents[:-1], along_innermost, "q") if extents else element(number(0), "s")
    ends: list[Node] = []
    for v, (first, lanes, count) in enumerate(vectors):
        ends += _finished(layer, kind, f"s{v}", (*axes.kept, last), (*index, k + first), lanes, count)
    return [Scope((*declared("s"), *body, *ends))]


def _finished(
    layer: Reduce, kind: str, value: str, axes: Sequence[int], index: tuple[Affine, ...], lanes: int, count: int
) -> list[Node]:
    if layer.kind == "mean" and kind == "f32":
        value = f"({value} * {float(1 / _count(layer)).hex()}f)"
    rank = len(layer.x.shape)
    channel = index[-1] if axes and axes[-1] == rank - 1 else number(0)
    lines = finish(
        layer.epilogue,
        layer.y,
        "value",
        lambda tensor: str(_place(tensor, axes, index)),
        str(channel),
        lanes,
        count,
    )
    return [Scope((f"const {kind}x{lanes} value = {value};", *lines))]


def _places(layer: Reduce) -> Kernel:
    """The first place of an extreme, element by element."""
    x, y = layer.x, layer.y
    axes = _axes(layer, without=-1)
    extents = [x.shape[axis] for axis in axes.reduced] or [1]
    better = ">" if layer.kind == "argmax" else "<"
    scalar = "float" if x.dtype == "f32" else "int32_t"

    def one(index: tuple[Affine, ...]) -> list[Node]:
        start = _place(x, axes.kept, index)
        flat = [math.prod(extents[axis + 1 :]) for axis in range(len(extents))]

        def step(inner: tuple[Affine, ...]) -> list[Node]:
            at = offset(inner, [x.strides[axis] for axis in axes.reduced] or [0]) + start
            lines: list[Node] = [
                f"const {scalar} next = x0[{at}];",
                f"found = next {better} best ? {offset(inner, flat)} : found;",
                f"best = next {better} best ? next : best;",
            ]
            return [Scope(tuple(lines))]

        head: list[Node] = [f"{scalar} best = x0[{start}];", "int64_t found = 0;"]
        return [Scope((*head, *nested(extents, step, "q"), f"y0[{_place(y, axes.kept, index)}] = found;"))]

    kept = [x.shape[axis] for axis in axes.kept]
    return Kernel(body=tuple(nested(kept, one, divided=True)), units=kept[0] if kept else 1)


FAMILY = Family(NAME, tiles, kernel)
