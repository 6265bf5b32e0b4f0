"""Reshapes that cost nothing, and copies that may read any layout."""

from __future__ import annotations

import math

import onnx_ir as ir

from ..net import Alias, Move, Part, Tensor
from .walk import UNIT, Order, Placed, Walk, identity

Group = tuple[tuple[int, ...], tuple[int, ...]]
"""Axes before and after a reshape that hold the same elements."""


def give_reshaped(walk: Walk, value: ir.Value, result: ir.Value, shape: tuple[int, ...]) -> None:
    """The same elements, in row-major order of logical axes, under another shape.

    No Move where axes that are joined lie side by side in memory.
    """
    placed = walk.place(value)
    order = None if placed.tensor.border else _view(placed, shape)
    if order is None:
        source = walk.read(value, identity(len(placed.shape)))
        order = identity(len(shape))
    else:
        source = placed.tensor
    memory = tuple(1 if axis == UNIT else shape[axis] for axis in order)
    if memory == source.shape:
        walk.give(result, source, order)
        return
    y = walk.fresh(result.name or "", memory, source.dtype)
    walk.emit(Alias(x=source, y=y, origin=walk.origin))
    walk.give(result, y, order)


def _view(placed: Placed, shape: tuple[int, ...]) -> Order | None:
    """The order of the new axes in the memory of the old ones; None where the elements lie otherwise."""
    memory = list(placed.dense_order())
    found: list[int] = []
    for old, _ in _groups(placed.shape, shape):
        if old and (old[0] not in memory or tuple(memory[memory.index(old[0]) :][: len(old)]) != old):
            return None
    starts = {old[0]: new for old, new in _groups(placed.shape, shape) if old}
    for axis in memory:
        found.extend(starts.get(axis, ()))
    return _with_unit_axes(found, shape)


def _groups(old: tuple[int, ...], new: tuple[int, ...]) -> list[Group]:
    """The finest division of both shapes into runs of axes of the same size; axes of size 1 are left out."""
    before = [axis for axis, size in enumerate(old) if size != 1]
    after = [axis for axis, size in enumerate(new) if size != 1]
    groups = []
    while before or after:
        left, right = before[:1], after[:1]
        del before[:1], after[:1]
        while (a := math.prod(old[axis] for axis in left)) != (b := math.prod(new[axis] for axis in right)):
            if a < b and before:
                left.append(before.pop(0))
            elif after:
                right.append(after.pop(0))
            else:
                break
        groups.append((tuple(left), tuple(right)))
    return groups


def _with_unit_axes(found: list[int], shape: tuple[int, ...]) -> Order:
    """Axes of size 1 behind the axis before them, so that as many orders as possible are those of the caller."""
    if found == sorted(found):
        return identity(len(shape))
    order = list(found)
    for axis, size in enumerate(shape):
        if size == 1:
            order.insert(order.index(axis - 1) + 1 if axis else 0, axis)
    return tuple(order)


def give_relabelled(walk: Walk, value: ir.Value, result: ir.Value, axes: dict[int, int]) -> None:
    """The same memory with its logical axes renamed (`axes` old to new); axes that are not named have size 1."""
    placed = walk.place(value)
    order = tuple(UNIT if axis == UNIT else axes.get(axis, UNIT) for axis in placed.order)
    walk.give(result, placed.tensor, order)


def memory_shape(order: Order, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Of a tensor that holds a logical shape in an order."""
    return tuple(1 if axis == UNIT else shape[axis] for axis in order)


def in_order(order: Order, by_axis: tuple[int, ...]) -> tuple[int, ...]:
    """Numbers per logical axis as numbers per memory axis; 0 for axes that the value does not have."""
    return tuple(0 if axis == UNIT else by_axis[axis] for axis in order)


def strides_of(tensor: Tensor, order: Order) -> tuple[int, ...]:
    """A tensor's strides per logical axis."""
    return Placed(tensor, order).strides


def give_parts(
    walk: Walk, result: ir.Value, y: Tensor, order: Order, parts: tuple[Part, ...], fill: float | None = None
) -> None:
    """A Move, and where its result lies."""
    walk.emit(Move(y=y, parts=parts, fill=fill, origin=walk.origin))
    walk.give(result, y, order)
