"""Axes of strided loops: those of one element fall away, neighbours that every operand walks as one are joined."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from ..nest import Affine, Builder, Loop, Node, number, variable

Strides = tuple[int, ...]


def collapse(extents: Sequence[int], operands: Sequence[Sequence[int]]) -> tuple[tuple[int, ...], tuple[Strides, ...]]:
    """The same loop nest with as few axes as possible (at least one), and the strides of every operand over them."""
    kept: list[tuple[int, list[int]]] = []
    for axis, extent in enumerate(extents):
        steps = [strides[axis] for strides in operands]
        if extent == 1:
            continue
        if kept and kept[-1][1] == [step * extent for step in steps]:
            kept[-1] = (kept[-1][0] * extent, steps)
        else:
            kept.append((extent, steps))
    if not kept:
        kept = [(1, [1] * len(operands))]
    return tuple(extent for extent, _ in kept), tuple(
        tuple(steps[operand] for _, steps in kept) for operand in range(len(operands))
    )


def offset(index: Sequence[Affine], strides: Sequence[int], start: int = 0) -> Affine:
    """How far an element lies from the start of a buffer."""
    found = number(start)
    for at, step in zip(index, strides, strict=True):
        found = found + at * step
    return found


def units_loop(index: str, extent: int, body: Builder) -> list[Node]:
    """The outermost loop of a kernel: as `loop`, but over the units from `begin` to `end`."""
    if extent <= 1:
        return list(body(number(0)))
    return [Loop(index, "begin", "end", 1, tuple(body(variable(index))))]


def nested(
    extents: Sequence[int],
    body: Callable[[tuple[Affine, ...]], Iterable[Node]],
    prefix: str = "a",
    *,
    divided: bool = False,
) -> list[Node]:
    """A loop per axis around `body(index)`; where `divided`, the outermost covers the units of a kernel."""

    def level(axis: int, index: tuple[Affine, ...]) -> Iterable[Node]:
        if axis == len(extents):
            return body(index)
        name = f"{prefix}{axis}"

        def inside(at: Affine) -> Iterable[Node]:
            return level(axis + 1, (*index, at))

        if divided and axis == 0:
            return units_loop(name, extents[0], inside)
        if extents[axis] == 1:
            return inside(number(0))
        return [Loop(name, "0", str(extents[axis]), 1, tuple(inside(variable(name))))]

    return list(level(0, ()))
