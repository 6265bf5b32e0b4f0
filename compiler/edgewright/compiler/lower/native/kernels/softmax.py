"""Softmax along the last axis: maximum, exponentials and their sum, then one factor per row."""

from __future__ import annotations

from ..kernel import Family, Kernel, Tile
from ..machine import Machine
from ..nest import Affine, Node, Scope
from ..net import Softmax
from .epilogue import store
from .lanes import along, declare, only, total
from .rows import at, each_row

NAME = "softmax"
LOWEST = "(-__builtin_inff())"


def tiles(layer: Softmax, _machine: Machine) -> tuple[Tile, ...]:
    """One, for float32."""
    return (Tile(NAME),) if layer.x.dtype == layer.y.dtype == "f32" else ()


def kernel(layer: Softmax, machine: Machine, _tile: Tile) -> Kernel:
    """Units are rows of the outermost axis. A row of NaN or of nothing but -inf comes out as NaN."""
    body, units = each_row(layer.x, layer.y, 1, lambda x, y: _row(layer, machine, x, y))
    return Kernel(body=tuple(body), units=units)


def _row(layer: Softmax, machine: Machine, x: str, y: str) -> list[Node]:
    lanes, extent = machine.lanes, layer.x.shape[-1]
    kind = f"f32x{lanes}"

    def highest(v: int, element: Affine, _: int, count: int) -> list[Node]:
        value = only(at("x", element, machine, count), LOWEST, "f32", lanes, count)
        return [f"m{v} = ew_max_{kind}({value}, m{v});"]

    def exponentials(v: int, element: Affine, _: int, count: int) -> list[Node]:
        power = f"ew_exp_{kind}(ew_sub_{kind}({at('x', element, machine, count)}, highest))"
        kept = [] if layer.logarithm else [store(f"y + {element}", "f32", "e", lanes, count)]
        return [
            Scope(
                (
                    f"const {kind} e = {power};",
                    *kept,
                    f"s{v} = ew_add_{kind}(s{v}, {only('e', '0', 'f32', lanes, count)});",
                )
            )
        ]

    def finished(_v: int, element: Affine, _: int, count: int) -> list[Node]:
        if layer.logarithm:
            value = f"ew_sub_{kind}(ew_sub_{kind}({at('x', element, machine, count)}, highest), last)"
        else:
            value = f"ew_mul_{kind}({at('y', element, machine, count)}, last)"
        return [store(f"y + {element}", "f32", value, lanes, count)]

    sum_ = total("s", "add", "f32", machine)
    last = f"ew_log_f32x4(ew_splat_f32x4({sum_}))[0]" if layer.logarithm else f"1.0f / {sum_}"
    return [
        Scope(
            (
                f"const float *x = ({x});",
                f"float *y = ({y});",
                *declare("m", "f32", LOWEST, machine),
                *along(extent, machine, highest),
                f"const {kind} highest = ew_splat_{kind}({total('m', 'max', 'f32', machine)});",
                *declare("s", "f32", "0", machine),
                *along(extent, machine, exponentials),
                f"const {kind} last = ew_splat_{kind}({last});",
                *along(extent, machine, finished),
            )
        )
    ]


FAMILY = Family(NAME, tiles, kernel)
