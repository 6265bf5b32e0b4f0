"""Layer norm and RMS norm: two passes over a row (mean, then squares about it) and one that writes it.

What rounding took from the mean comes out of the second pass, as the mean of the distances, and is taken off: without
that, rows far from zero beside their spread would lose digits.
"""

from __future__ import annotations

import math

from ..kernel import Family, Kernel, Tile
from ..machine import Machine
from ..nest import Affine, Node, Scope
from ..net import Array, Normalize
from .epilogue import load, store
from .lanes import along, declare, only, total, vectors
from .rows import at, each_row, has_dense_rows

NAME = "normalize"


def tiles(layer: Normalize, _machine: Machine) -> tuple[Tile, ...]:
    """One, for float32 rows without gaps."""
    tensors = (layer.x, layer.y)
    dense = all(tensor.dtype == "f32" and has_dense_rows(tensor, layer.axes) for tensor in tensors)
    return (Tile(NAME),) if dense else ()


def kernel(layer: Normalize, machine: Machine, _tile: Tile) -> Kernel:
    """Units are rows of the outermost axis."""
    constants: dict[str, Array] = {}
    for name, array in (("scale", layer.scale), ("shift", layer.shift)):
        if array is not None:
            constants[name] = array.astype("float32").reshape(-1)
    body, units = each_row(layer.x, layer.y, layer.axes, lambda x, y: _row(layer, machine, x, y))
    return Kernel(body=tuple(body), constants=constants, units=units)


def _row(layer: Normalize, machine: Machine, x: str, y: str) -> list[Node]:
    lanes, extent = machine.lanes, math.prod(layer.x.shape[-layer.axes :])
    kind = f"f32x{lanes}"

    def sums(v: int, element: Affine, _: int, count: int) -> list[Node]:
        return [f"s{v} = ew_add_{kind}(s{v}, {at('x', element, machine, count)});"]

    def squares(v: int, element: Affine, _: int, count: int) -> list[Node]:
        value = at("x", element, machine, count)
        if layer.centred:
            value = only(f"ew_sub_{kind}({value}, mean)", "0", "f32", lanes, count)
        missed = [f"s{v} = ew_add_{kind}(s{v}, d);"] if layer.centred else []
        return [Scope((f"const {kind} d = {value};", f"q{v} = ew_fma_{kind}(d, d, q{v});", *missed))]

    def written(_v: int, element: Affine, _: int, count: int) -> list[Node]:
        value = at("x", element, machine, count)
        if layer.centred:
            value = f"ew_sub_{kind}(ew_sub_{kind}({value}, mean), missed)"
        value = f"ew_mul_{kind}({value}, factor)"
        scale, shift = (load(f"{name} + {element}", "f32", "f32", lanes, count) for name in ("scale", "shift"))
        if layer.scale is not None and layer.shift is not None:
            value = f"ew_fma_{kind}({value}, {scale}, {shift})"
        elif layer.scale is not None:
            value = f"ew_mul_{kind}({value}, {scale})"
        elif layer.shift is not None:
            value = f"ew_add_{kind}({value}, {shift})"
        return [store(f"y + {element}", "f32", value, lanes, count)]

    part = f"{float(1 / extent).hex()}f"
    sum_ = total("s", "add", "f32", machine)
    mean: list[Node] = [*along(extent, machine, sums), f"const {kind} mean = ew_splat_{kind}({sum_} * {part});"]
    missed: list[Node] = [f"const {kind} missed = ew_splat_{kind}({sum_} * {part});"]
    variance = f"{total('q', 'add', 'f32', machine)} * {part}"
    if layer.centred:
        variance += " - missed[0] * missed[0]"
    factor = f"ew_rsqrt_f32x4(ew_splat_f32x4({variance} + {float(layer.epsilon).hex()}f))[0]"
    zeros = [f"s{v} = ew_splat_{kind}(0);" for v in range(vectors(machine))]
    return [
        Scope(
            (
                f"const float *x = ({x});",
                f"float *y = ({y});",
                *declare("s", "f32", "0", machine),
                *((*mean, *zeros) if layer.centred else ()),
                *declare("q", "f32", "0", machine),
                *along(extent, machine, squares),
                *(missed if layer.centred else ()),
                f"const {kind} factor = ew_splat_{kind}({factor});",
                *along(extent, machine, written),
            )
        )
    ]


FAMILY = Family(NAME, tiles, kernel)
