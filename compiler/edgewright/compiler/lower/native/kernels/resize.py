"""Pictures of another size: every row and column is one source row (column), or two with a weight.

y = (1 - w) a + w b, first along columns, then along rows, computed as a + w (b - a); sequences (N, L, C) along L.
Integers are rounded half to even.
"""

from __future__ import annotations

import numpy as np

from ..kernel import Family, Kernel, Tile
from ..machine import Machine
from ..nest import Affine, Loop, Node, Scope, number, pieces, tiled, variable
from ..net import Array, Resize, Tensor
from .axes import nested
from .epilogue import load, store

NAME = "resize"
Taps = tuple[tuple[int, int, float], ...]


def tiles(layer: Resize, _machine: Machine) -> tuple[Tile, ...]:
    """One, for types that vectors hold."""
    small = ("f32", "u8", "s8")
    return (Tile(NAME),) if layer.x.dtype == layer.y.dtype and layer.x.dtype in small else ()


def kernel(layer: Resize, machine: Machine, _tile: Tile) -> Kernel:
    """Units are rows of y where the batch is one picture, else pictures."""
    x, y = layer.x, layer.y
    batch, height, width, channels = y.shape if len(y.shape) == 4 else (y.shape[0], 1, *y.shape[1:])
    x_strides, y_strides = _strides(x), _strides(y)
    constants = {**_table("rows", layer.rows, x_strides[1]), **_table("columns", layer.columns, x_strides[2])}

    def element(n: Affine, row: Affine, column: Affine) -> list[Node]:
        x_at, y_at = (
            n * x_strides[0] + x.origin,
            n * y_strides[0] + row * y_strides[1] + column * y_strides[2] + y.origin,
        )
        lines: list[Node] = [
            f"const int32_t a = columns[{column * 2}], b = columns[{column * 2 + 1}];",
            f"const float by = columns_weight[{column}];",
        ]
        blocks = tiled(
            "c", channels, 4 * machine.lanes, lambda c, size: _vectors(layer, machine, x_at + c, y_at + c, size)
        )
        return [Scope((*lines, *blocks))]

    def picture_row(index: tuple[Affine, ...]) -> list[Node]:
        n, row = index
        lines: list[Node] = [
            f"const int32_t top = rows[{row * 2}], bottom = rows[{row * 2 + 1}];",
            f"const float down = rows_weight[{row}];",
        ]
        return [*lines, Loop("w", "0", str(width), 1, tuple(element(n, row, variable("w"))))]

    if batch == 1:
        body = nested([height], lambda index: picture_row((number(0), *index)), divided=True)
        return Kernel(body=tuple(body), constants=constants, units=height)
    body = nested([batch, height], picture_row, divided=True)
    return Kernel(body=tuple(body), constants=constants, units=batch)


def _strides(tensor: Tensor) -> tuple[int, ...]:
    """Of a picture; a sequence (N, L, C) is a picture of one row."""
    return tensor.strides if len(tensor.shape) == 4 else (tensor.strides[0], *tensor.strides)


def _table(name: str, taps: Taps, stride: int) -> dict[str, Array]:
    return {
        name: np.array([[first * stride, second * stride] for first, second, _ in taps], np.int32).reshape(-1),
        f"{name}_weight": np.array([weight for *_, weight in taps], np.float32),
    }


def _vectors(layer: Resize, machine: Machine, x_at: Affine, y_at: Affine, size: int) -> list[Node]:
    nodes: list[Node] = []
    across = any(weight for *_, weight in layer.columns)
    along = any(weight for *_, weight in layer.rows)
    dtype = layer.x.dtype
    for first, count in pieces(size, machine.widths()):
        lanes = min(width for width in machine.widths() if width >= count)
        kind = f"f32x{lanes}"

        def tap(row: str, column: str, at: Affine = x_at + first, lanes: int = lanes, count: int = count) -> str:
            return load(f"x0 + {at} + {row} + {column}", dtype, "f32", lanes, count)

        def mixed(low: str, high: str, weight: str, kind: str = kind) -> str:
            return f"ew_fma_{kind}(ew_splat_{kind}({weight}), ew_sub_{kind}({high}, {low}), {low})"

        def line(name: str, row: str, kind: str = kind) -> list[Node]:
            if not across:
                return [f"const {kind} {name} = {tap(row, 'a')};"]
            return [
                f"const {kind} {name}a = {tap(row, 'a')};",
                f"const {kind} {name}b = {tap(row, 'b')};",
                f"const {kind} {name} = {mixed(f'{name}a', f'{name}b', 'by')};",
            ]

        lines = [*line("t", "top"), *(line("u", "bottom") if along else ())]
        value = mixed("t", "u", "down") if along else "t"
        if dtype != "f32":
            value = f"ew_to_s32_even_{kind}({value})"
        nodes.append(Scope((*lines, store(f"y0 + {y_at + first}", dtype, value, lanes, count))))
    return nodes


FAMILY = Family(NAME, tiles, kernel)
