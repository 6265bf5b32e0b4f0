"""Reshapes of values that do not lie as the graph says: which ones need no TRANSPOSE."""

from __future__ import annotations

import math
from typing import Final

from .orders import Order, identity

BATCH: Final = 2**61 - 1
"""Stands for a batch of any size, which has no factor in common with other sizes."""

Group = tuple[tuple[int, ...], tuple[int, ...]]
"""Axes before and after that hold the same elements."""


def regrouped(source: tuple[int, ...], target: tuple[int, ...], order: Order, *, free_batch: bool) -> Order | None:
    """The order of the new axes where those that are joined or divided lie side by side in memory; else None.

    With `free_batch` the first axis is a batch that callers may resize.
    """
    if order == identity(len(source)):
        return identity(len(target))
    if free_batch and source[:1] == (1,):
        if target[:1] != (1,):
            return None
        source, target = (BATCH, *source[1:]), (BATCH, *target[1:])
    groups = _groups(source, target)
    memory = [axis for axis in order if axis >= 0 and source[axis] != 1]
    for old, _ in groups:
        if not old or tuple(memory[memory.index(old[0]) :][: len(old)]) != old:
            return None
    starts = {old[0]: new for old, new in groups}
    return _with_ones([each for axis in memory for each in starts.get(axis, ())], target)


def _groups(old: tuple[int, ...], new: tuple[int, ...]) -> list[Group]:
    """The finest division of both shapes into runs of axes of the same size; axes of size 1 are left out."""
    before = [axis for axis, size in enumerate(old) if size != 1]
    after = [axis for axis, size in enumerate(new) if size != 1]
    groups: list[Group] = []
    while before and after:
        left, right = [before.pop(0)], [after.pop(0)]
        while (a := math.prod(old[axis] for axis in left)) != (b := math.prod(new[axis] for axis in right)):
            side, rest = (left, before) if a < b else (right, after)
            if not rest:
                return [((), ())]
            side.append(rest.pop(0))
        groups.append((tuple(left), tuple(right)))
    return groups


def _with_ones(found: list[int], shape: tuple[int, ...]) -> Order:
    """Axes of size 1 before the axis that follows them: a sequence becomes a picture of height 1 as TFLite reads it."""
    if found == sorted(found):
        return identity(len(shape))
    order = list(found)
    for axis in reversed(range(len(shape))):
        if shape[axis] != 1:
            continue
        if axis + 1 in order:
            order.insert(order.index(axis + 1), axis)
        else:
            order.insert(order.index(max(each for each in found if each < axis)) + 1, axis)
    return tuple(order)
