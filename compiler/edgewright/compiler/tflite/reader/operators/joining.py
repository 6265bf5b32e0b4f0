"""Operators that take values apart and put them together."""

from __future__ import annotations

from math import prod

from ..orders import Order, identity
from ..step import PICTURE_RANK, Step
from .row import MANY, Row


def concatenation(step: Step) -> None:
    """Concat."""
    count = len(step.operator.inputs)
    step.one_type(*range(count))
    rank = len(step.shape(0))
    if any(len(step.shape(index)) != rank for index in range(count)):
        step.wrong("its inputs have different numbers of axes")
    order = _order(step, count, rank)
    axis = step.axis(step.integer("axis", -8, 8), rank)
    _check(step, count, axis)
    y = step.node("Concat", *(step.real(index, order) for index in range(count)), axis=order.index(axis))
    step.finish(step.activated(y), order)


def _order(step: Step, count: int, rank: int) -> Order:
    """That of the largest input that is computed."""
    computed = [index for index in range(count) if step.reading.known(step.input(index)) is None]
    if rank != PICTURE_RANK or not computed:
        return identity(rank)
    return step.native(max(computed, key=lambda index: prod(step.shape(index))))


def _check(step: Step, count: int, axis: int) -> None:
    """All sizes but those of the axis must be equal."""
    rests = {(*step.shape(index)[:axis], *step.shape(index)[axis + 1 :]) for index in range(count)}
    if len(rests) > 1:
        step.wrong(f"its inputs have shapes {[step.shape(index) for index in range(count)]}, joined at axis {axis}")


def split(step: Step) -> None:
    """Split in equal parts."""
    count, numbers = len(step.operator.outputs), step.numbers(0)
    axis = _one_axis(step, numbers, 1)
    size = step.shape(1)[axis]
    if size % count:
        step.wrong(f"{size} is not divided by {count}")
    _split(step, 1, axis, (size // count,) * count)


def split_v(step: Step) -> None:
    """Split in parts of given sizes."""
    sizes, axis = list(step.numbers(1)), _one_axis(step, step.numbers(2), 0)
    size = step.shape(0)[axis]
    if sizes.count(-1) == 1:
        sizes[sizes.index(-1)] = size - sum(each for each in sizes if each != -1)
    if len(sizes) != len(step.operator.outputs) or min(sizes) < 1 or sum(sizes) != size:
        step.wrong(f"{size} is not the sum of {sizes}")
    _split(step, 0, axis, tuple(sizes))


def _one_axis(step: Step, numbers: tuple[int, ...], index: int) -> int:
    if len(numbers) != 1:
        step.wrong(f"it has the axes {numbers}, expected one")
    return step.axis(numbers[0], len(step.shape(index)))


def _split(step: Step, index: int, axis: int, sizes: tuple[int, ...]) -> None:
    order = step.native(index)
    parts = _parts(step, step.real(index, order), order.index(axis), sizes)
    for position, part in enumerate(parts):
        step.finish(part, order, position)


def _parts(step: Step, value: str, axis: int, sizes: tuple[int, ...]) -> tuple[str, ...]:
    tensors = step.reading.model.tensors
    hints = [tensors[output].name for output in step.operator.outputs]
    return step.reading.draft.split("Split", (value, step.row(*sizes)), hints, axis=axis)


def pack(step: Step) -> None:
    """Unsqueeze each, and Concat."""
    count = len(step.operator.inputs)
    step.one_type(*range(count))
    if len({step.shape(index) for index in range(count)}) > 1:
        step.wrong(f"its inputs have shapes {[step.shape(index) for index in range(count)]}, expected one")
    axis = step.axis(step.integer("axis", -8, 8), len(step.shape(0)) + 1)
    parts = [
        step.rounded(step.node("Unsqueeze", step.real(index), step.row(axis)), step.input(index))
        for index in range(count)
    ]
    step.finish(step.node("Concat", *parts, axis=axis))


def unpack(step: Step) -> None:
    """Split, and Squeeze of each."""
    count, rank = len(step.operator.outputs), len(step.shape(0))
    axis = step.axis(step.integer("axis", -8, 8), rank)
    if step.shape(0)[axis] != count:
        step.wrong(f"axis {axis} of {step.shape(0)} gives {count} results")
    for position, part in enumerate(_parts(step, step.real(0), axis, (1,) * count)):
        step.finish(step.node("Squeeze", step.rounded(part, step.input(0)), step.row(axis)), index=position)


TABLE = {
    "CONCATENATION": Row(concatenation, 1, MANY),
    "PACK": Row(pack, 1, MANY),
    "SPLIT": Row(split, 2, 2, MANY),
    "SPLIT_V": Row(split_v, 3, 3, MANY),
    "UNPACK": Row(unpack, 1, 1, MANY),
}
