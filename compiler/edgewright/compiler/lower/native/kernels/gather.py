"""Rows of a table by their numbers; numbers that are outside are held to the nearest row."""

from __future__ import annotations

from ..kernel import Family, Kernel, Tile
from ..machine import Machine
from ..nest import Affine, Node, Scope, loop
from ..net import ITEM_BYTES, Array, Gather, Tensor
from .axes import units_loop
from .move import copied_run

NAME = "gather"


def tiles(layer: Gather, _machine: Machine) -> tuple[Tile, ...]:
    """One, for tensors without borders."""
    tensors = [layer.y, layer.indices, *([layer.x] if isinstance(layer.x, Tensor) else [])]
    return () if any(tensor.border for tensor in tensors) else (Tile(NAME),)


def kernel(layer: Gather, machine: Machine, _tile: Tile) -> Kernel:
    """Units are steps of the outermost axis: of `outer`, or of the indices where that is one."""
    constants: dict[str, Array] = {}
    table, numbers = "x0", "x1"
    if not isinstance(layer.x, Tensor):
        constants["table"] = layer.x.reshape(-1)
        table, numbers = "table", "x0"
    elif layer.x.name == layer.indices.name:
        numbers = "x0"
    count = layer.indices.elements

    def one(o: Affine, i: Affine) -> list[Node]:
        lines: list[Node] = [
            f"int64_t row = {numbers}[{i}];",
            f"row += row < 0 ? {layer.rows} : 0;",
            f"row = row < 0 ? 0 : row >= {layer.rows} ? {layer.rows - 1} : row;",
        ]
        x = f"(const char *)({table} + {o * (layer.rows * layer.inner)} + row * {layer.inner})"
        y = f"(char *)(y0 + {o * (count * layer.inner) + i * layer.inner})"
        return [Scope((*lines, *copied_run(x, y, layer.inner * ITEM_BYTES[layer.y.dtype], machine)))]

    if layer.outer == 1:
        body = units_loop("i", count, lambda i: one(i * 0, i))
        return Kernel(body=tuple(body), constants=constants, units=count)
    body = units_loop("o", layer.outer, lambda o: loop("i", count, lambda i: one(o, i)))
    return Kernel(body=tuple(body), constants=constants, units=layer.outer)


FAMILY = Family(NAME, tiles, kernel)
