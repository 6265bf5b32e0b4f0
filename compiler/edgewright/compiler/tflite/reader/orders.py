"""In which order the axes of a tensor of a file stand in its ONNX value: axis i of the value is `order[i]` of the file.

Pictures lie (N, H, W, C) in a file, and ONNX computes on (N, C, H, W). What computes on pictures leaves its result so,
and whoever reads it in another order has it transposed.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

Order = tuple[int, ...]
CHANNELS_FIRST: Final[Order] = (0, 3, 1, 2)


def identity(rank: int) -> Order:
    """The file's own order."""
    return tuple(range(rank))


def without(order: Order, axes: Collection[int]) -> Order:
    """The order of what is left when axes of the file are gone."""
    left = sorted(axis for axis in order if axis not in axes)
    return tuple(left.index(axis) for axis in order if axis not in axes)


def dense(order: Order, shape: tuple[int, ...]) -> Order:
    """The order without axes of size 1 (`shape` as the file has it): where it is sorted, the elements lie as in it."""
    return tuple(axis for axis in order if shape[axis] != 1)
