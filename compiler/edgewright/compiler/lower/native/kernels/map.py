"""Element-wise layers: one loop nest with as few axes as the operands allow, vectors along the innermost.

Booleans are read as 0 or 1 (an expression makes truth values of them); the lowest bit of a value is written. Numbers of
64 bits are computed in 32.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from ..expression import Beside, Expression, Kind, Leaf, Scalar, leaves, statements
from ..expression import replace as replace_leaves
from ..kernel import Family, Kernel, Tile
from ..machine import Machine
from ..nest import Affine, Loop, Node, loop, number, pieces, variable
from ..net import Array, Dtype, Map, Tensor
from .axes import collapse, nested, offset
from .epilogue import load, store

NAME = "map"
WRITTEN_OUT = 4
"""Vectors of an innermost axis that are written one after the other instead of in a loop."""
_VECTORS: tuple[Dtype, ...] = ("f32", "s32", "u8", "s8", "bool")
"""Types that vectors are loaded from and stored to; the others go element by element."""


@dataclass(frozen=True)
class _Source:
    """An operand as C sees it."""

    pointer: str
    dtype: Dtype
    strides: tuple[int, ...]
    start: int = 0


@dataclass(frozen=True, eq=False)
class _Plan:
    """Extents of the joined axes, and what is read and written along them."""

    extents: tuple[int, ...]
    y: _Source
    sources: dict[Leaf, _Source]
    constants: dict[str, Array]
    value: Expression

    @property
    def is_narrow(self) -> bool:
        """Whether some elements have to be taken one by one."""
        reads = ((source.dtype, source.strides[-1] in (0, 1)) for source in self.sources.values())
        writes = (self.y.dtype, self.y.strides[-1] == 1 or self.extents[-1] == 1)
        return any(dtype not in _VECTORS or not dense for dtype, dense in (*reads, writes))


def tiles(layer: Map, _machine: Machine) -> tuple[Tile, ...]:
    """One; none where numbers of half precision are read or written."""
    tensors = (layer.y, *layer.inputs)
    return () if any(tensor.dtype == "f16" for tensor in tensors) else (Tile(NAME),)


def kernel(layer: Map, machine: Machine, _tile: Tile) -> Kernel:
    """Units are steps of the outermost axis; of a single axis, its vectors."""
    lanes = machine.lanes
    plan = _repeated(_plan(layer), lanes)
    widths = (4,) if plan.is_narrow else machine.widths()
    *outer, inner = plan.extents
    if not outer:
        body, units = _flat(plan, inner, widths)
        return Kernel(body=tuple(body), constants=plan.constants, units=units)
    body = nested(outer, lambda index: _row(plan, index, inner, widths), divided=True)
    return Kernel(body=tuple(body), constants=plan.constants, units=outer[0])


def _plan(layer: Map) -> _Plan:
    """Single constants become numbers of the expression, others arrays of the kind that reads them."""

    def settle(leaf: Leaf) -> Expression:
        if isinstance(leaf, Beside):
            held = layer.operands[leaf.index].value
            if not isinstance(held, Tensor) and held.size == 1:
                return Scalar(_of_kind(held, leaf.kind).item(), leaf.kind)
        return leaf

    value = replace_leaves(layer.value, settle)
    constants: dict[str, Array] = {}
    found: dict[Leaf, _Source] = {}
    names = {tensor.name: f"x{index}" for index, tensor in reversed(list(enumerate(layer.inputs)))}
    for leaf in dict.fromkeys(leaves(value)):
        if not isinstance(leaf, Beside):
            continue
        operand = layer.operands[leaf.index]
        held = operand.value
        if isinstance(held, Tensor):
            found[leaf] = _Source(names[held.name], held.dtype, operand.strides, held.origin)
        else:
            name = f"c{leaf.index}_{leaf.kind}"
            constants[name] = _of_kind(held, leaf.kind).reshape(-1)
            found[leaf] = _Source(name, leaf.kind, operand.strides)
    operands = [layer.y.strides, *(source.strides for source in found.values())]
    extents, (y_strides, *strides) = collapse(layer.y.shape, operands)
    sources = {
        leaf: replace(source, strides=steps) for (leaf, source), steps in zip(found.items(), strides, strict=True)
    }
    return _Plan(extents, _Source("y0", layer.y.dtype, y_strides, layer.y.origin), sources, constants, value)


def _of_kind(array: Array, kind: Kind) -> Array:
    return array.astype(np.float32 if kind == "f32" else np.int32)


def _repeated(plan: _Plan, lanes: int) -> _Plan:
    """Rows of few elements beside constants of one row become longer rows beside repeated constants.

    (50176, 3) pixels times 3 numbers are 3136 rows of 48 elements, three full vectors.
    """
    if len(plan.extents) < 2 or plan.extents[-1] % lanes == 0 or plan.extents[-1] > 4 * lanes:
        return plan
    rows, row = plan.extents[-2:]
    fixed = {
        source.pointer: source
        for source in plan.sources.values()
        if source.pointer in plan.constants and source.strides == (0,) * (len(plan.extents) - 1) + (1,)
    }
    moving = [plan.y, *(source for source in plan.sources.values() if source.pointer not in fixed)]
    if any(source.strides[-2:] not in ((row, 1), (0, 0)) for source in moving):
        return plan
    wanted = lanes // math.gcd(row, lanes)
    times = next((count for count in (wanted, *range(wanted, 1, -1)) if rows % count == 0), 1)
    if times == 1:
        return plan

    def longer(source: _Source) -> _Source:
        *outer, _, last = source.strides
        return replace(source, strides=(*outer, source.strides[-2] * times, last))

    return _Plan(
        (*plan.extents[:-2], rows // times, row * times),
        longer(plan.y),
        {leaf: source if source.pointer in fixed else longer(source) for leaf, source in plan.sources.items()},
        {name: np.tile(array, times) if name in fixed else array for name, array in plan.constants.items()},
        plan.value,
    )


def _flat(plan: _Plan, extent: int, widths: tuple[int, ...]) -> tuple[list[Node], int]:
    full, rest = divmod(extent, widths[0])
    if not full:
        return _row(plan, (), extent, widths), 1
    at = variable("i") * widths[0]
    body: list[Node] = [Loop("i", "begin", "end", 1, tuple(_vector(plan, (at,), widths[0], widths[0])))]
    if rest:
        start = number(full * widths[0])
        body += [f"if (end == {full}) {{", *_pieces(plan, (), start, rest, widths), "}"]
    return body, full


def _row(plan: _Plan, index: tuple[Affine, ...], extent: int, widths: tuple[int, ...]) -> list[Node]:
    width = widths[0]
    full, rest = divmod(extent, width)
    body = loop("i", full, lambda i: _vector(plan, (*index, i * width), width, width), unroll=full <= WRITTEN_OUT)
    return [*body, *_pieces(plan, index, number(full * width), rest, widths)]


def _pieces(
    plan: _Plan, index: tuple[Affine, ...], start: Affine, extent: int, widths: tuple[int, ...]
) -> Iterable[Node]:
    for at, size in pieces(extent, widths):
        yield from _vector(plan, (*index, start + at), min(width for width in widths if width >= size), size)


def _vector(plan: _Plan, index: tuple[Affine, ...], lanes: int, count: int) -> list[Node]:
    def leaf(part: Leaf) -> str:
        source = plan.sources[part]
        return read(_pointer(source, index), source.dtype, part.kind, source.strides[-1], lanes, count)

    lines, result = statements(plan.value, lanes, leaf)
    return ["{", *lines, *write(_pointer(plan.y, index), plan.y.dtype, result, plan.y.strides[-1], lanes, count), "}"]


def _pointer(source: _Source, index: tuple[Affine, ...]) -> str:
    return f"{source.pointer} + {offset(index, source.strides, source.start)}"


def read(pointer: str, dtype: Dtype, kind: Kind, stride: int, lanes: int, count: int) -> str:
    """C text: `count` elements, `stride` apart, as a vector of `kind`."""
    if stride == 0:
        return f"ew_splat_{kind}x{lanes}({_element(pointer, 0, kind)})"
    if stride == 1 and dtype in _VECTORS:
        loaded = load(pointer, dtype, kind, lanes, count)
        if dtype == "f32" and kind == "s32":
            return f"ew_to_s32_trunc_f32x{lanes}({loaded})"
        return loaded
    elements = ", ".join(_element(pointer, lane * stride, kind) for lane in range(count))
    return f"({kind}x{lanes}){{{elements}}}"


def _element(pointer: str, at: int, kind: Kind) -> str:
    return f"({'float' if kind == 'f32' else 'int32_t'})({pointer})[{at}]"


def write(pointer: str, dtype: Dtype, value: str, stride: int, lanes: int, count: int) -> list[str]:
    """C lines: the first `count` elements of a vector, `stride` apart."""
    if dtype == "bool":
        value = f"({value} & 1)"
    if dtype in _VECTORS and (stride == 1 or count == 1):
        return [store(pointer, dtype, value, lanes, count)]
    return [f"({pointer})[{lane * stride}] = {value}[{lane}];" for lane in range(count)]


FAMILY = Family(NAME, tiles, kernel)
