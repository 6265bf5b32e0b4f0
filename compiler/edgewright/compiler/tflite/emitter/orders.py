"""In which order the axes of an ONNX value lie in a tensor.

For every axis of the tensor, in memory order, the logical axis of the value that it is, or `UNIT` for an axis of size 1
that the value does not have: a picture (N, C, H, W) that lies as N, H, W, C has the order (0, 2, 3, 1); a sequence
(N, C, L) as a picture of height 1 has (0, UNIT, 2, 1).
"""

from __future__ import annotations

from typing import Final

UNIT: Final = -1
Order = tuple[int, ...]
CHANNELS_LAST: Final[Order] = (0, 2, 3, 1)
SEQUENCE_AS_PICTURE: Final[Order] = (0, UNIT, 2, 1)


def identity(rank: int) -> Order:
    """The order in which memory axes are logical axes."""
    return tuple(range(rank))


def in_memory(shape: tuple[int, ...], order: Order) -> tuple[int, ...]:
    """The shape of the tensor in which a value of a logical shape lies."""
    return tuple(1 if axis == UNIT else shape[axis] for axis in order)


def logical(shape: tuple[int, ...], order: Order) -> tuple[int, ...]:
    """The logical shape of a value that lies in a tensor of this shape."""
    sizes = {axis: size for axis, size in zip(order, shape, strict=True) if axis != UNIT}
    return tuple(sizes[axis] for axis in range(len(sizes)))


def dense(shape: tuple[int, ...], order: Order) -> Order:
    """The order without axes of size 1 (`shape` in memory order): equal ones mean equal bytes."""
    return tuple(axis for axis, size in zip(order, shape, strict=True) if size != 1)


def without(order: Order, gone: tuple[int, ...]) -> Order:
    """The order of a value that has lost these logical axes, and with them their axes in memory."""
    left = sorted(axis for axis in order if axis >= 0 and axis not in gone)
    return tuple(axis if axis == UNIT else left.index(axis) for axis in order if axis not in gone)


def in_memory_axes(order: Order, axes: tuple[int, ...]) -> tuple[int, ...]:
    """Where logical axes lie in memory, ascending."""
    return tuple(place for place, axis in enumerate(order) if axis in axes)


def with_last(order: Order, axis: int) -> Order:
    """This order where a logical axis is its last, else the logical one with the axis moved to the end."""
    if order and order[-1] == axis:
        return order
    return (*(each for each in range(len([each for each in order if each >= 0])) if each != axis), axis)
