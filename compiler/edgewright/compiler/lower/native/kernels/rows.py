"""Layers that work row by row along the last axes: where the rows of x and y lie."""

from __future__ import annotations

import math
from collections.abc import Callable

from ..machine import Machine
from ..nest import Affine, Node
from ..net import Tensor
from .axes import collapse, nested, offset
from .epilogue import load

Row = Callable[[str, str], list[Node]]
"""Lines for one row, given C text of pointers to its elements in x and y."""


def each_row(x: Tensor, y: Tensor, axes: int, row: Row) -> tuple[list[Node], int]:
    """Loops over the rows of the last `axes` axes, which lie without gaps in x and y, and their units."""
    outer = len(x.shape) - axes
    extents, (x_strides, y_strides) = collapse(x.shape[:outer], [x.strides[:outer], y.strides[:outer]])

    def one(index: tuple[Affine, ...]) -> list[Node]:
        return row(f"x0 + {offset(index, x_strides, x.origin)}", f"y0 + {offset(index, y_strides, y.origin)}")

    return nested(extents, one, "r", divided=True), extents[0]


def has_dense_rows(tensor: Tensor, axes: int) -> bool:
    """Whether the elements of a row lie side by side."""
    shape = tensor.shape[-axes:]
    return tensor.strides[-axes:] == tuple(math.prod(shape[axis + 1 :]) for axis in range(axes))


def at(pointer: str, element: Affine, machine: Machine, count: int) -> str:
    """C text: a vector of float32 of a row."""
    return load(f"{pointer} + {element}", "f32", "f32", machine.lanes, count)
