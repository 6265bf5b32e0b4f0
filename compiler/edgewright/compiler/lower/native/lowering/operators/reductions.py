"""Pools, Reduce* and ArgMax."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
import onnx_ir as ir

from .....attributes import given, integer, integers, needed
from ...expression import Accumulator, Beside, Expression, call
from ...net import Dtype, Epilogue, Map, Operand, Pool, Reduce
from ..elementwise import emit_map
from ..walk import UNIT, Order, Walk
from .windows import PICTURE, SEQUENCE, Windows, windows_of

ReduceKind = Literal["sum", "mean", "max", "min", "prod", "sum_square", "argmax", "argmin"]
_LOWEST: Mapping[Dtype, float] = {"f32": float("-inf"), "u8": 0, "s8": -128}


def pool(walk: Walk, node: ir.Node) -> None:
    """MaxPool and AveragePool."""
    x = needed(node, 0)
    if len(node.outputs) > 1 and node.outputs[1].uses():
        walk.refuse(node, "its indices are used", "compute them by other operators")
    dtype = walk.dtype(x)
    if dtype not in _LOWEST or (dtype != "f32" and node.op_type != "MaxPool"):
        walk.refuse(node, f"its input is of type {dtype}", "cast it to float32 before")
    seen = windows_of(walk, node, integers(node, "kernel_shape") or ())
    if node.op_type == "AveragePool" and seen.covers_all:
        _reduce(walk, x, node.outputs[0], "mean", tuple(range(2, len(walk.shape(x)))), True)
        return
    largest = node.op_type == "MaxPool"
    border = seen.border(_LOWEST[dtype] if largest else 0.0)
    counts = bool(integer(node, "count_include_pad", 0)) or not border
    shape = walk.shape(x)
    y = walk.fresh(node.outputs[0].name or "", (shape[0], *seen.out, shape[1]), dtype)
    walk.emit(
        Pool(
            kind="max" if largest else "mean",
            x=walk.bordered(x, seen.order, border),
            y=y,
            window=seen.window,
            strides=seen.strides,
            dilations=seen.dilations,
            top=seen.begin[0],
            left=seen.begin[1],
            count_border=counts,
            epilogue=Epilogue(Accumulator("f32" if dtype == "f32" else "s32")),
            origin=walk.origin,
        )
    )
    walk.give(node.outputs[0], y, seen.order)
    if not largest and counts:
        _correct_edges(walk, node.outputs[0], seen)


def _correct_edges(walk: Walk, result: ir.Value, seen: Windows) -> None:
    """Windows that reach beyond the padding (ceil_mode) are divided by the part that does not."""
    lines = []
    for axis in range(2):
        room = seen.size[axis] + seen.begin[axis] + seen.end[axis]
        first = np.arange(seen.out[axis]) * seen.strides[axis]
        steps = first[:, None] + np.arange(seen.window[axis]) * seen.dilations[axis]
        lines.append((steps < room).sum(1))
    share = (seen.window[0] * seen.window[1] / (lines[0][:, None] * lines[1])).astype(np.float32)
    if (share == 1).all():
        return
    made = walk.place(result).tensor
    y = walk.fresh(made.name, made.shape)
    factors = Operand(np.ascontiguousarray(share), (0, share.shape[1], 1, 0))
    value = call("mul", Beside(0), Beside(1))
    walk.emit(Map(y=y, value=value, operands=(Operand(made, made.strides), factors), origin=walk.origin))
    walk.give(result, y, seen.order)


def global_pool(walk: Walk, node: ir.Node) -> None:
    """GlobalAveragePool and GlobalMaxPool."""
    x = needed(node, 0)
    rank = len(walk.shape(x))
    if walk.dtype(x) != "f32":
        walk.refuse(node, f"its input is of type {walk.dtype(x)}", "cast it to float32 before")
    kind: ReduceKind = "max" if node.op_type == "GlobalMaxPool" else "mean"
    _reduce(walk, x, node.outputs[0], kind, tuple(range(2, rank)), True)


_PLAIN: Mapping[str, tuple[ReduceKind, Expression]] = {
    "ReduceSum": ("sum", Accumulator()),
    "ReduceMean": ("mean", Accumulator()),
    "ReduceMax": ("max", Accumulator()),
    "ReduceMin": ("min", Accumulator()),
    "ReduceProd": ("prod", Accumulator()),
    "ReduceSumSquare": ("sum_square", Accumulator()),
    "ReduceL2": ("sum_square", call("sqrt", Accumulator())),
    "ReduceLogSum": ("sum", call("log", Accumulator())),
}


def reduce_axes(walk: Walk, node: ir.Node) -> None:
    """Reduce* of floats; sums, maxima and minima of integers too."""
    x, result = needed(node, 0), node.outputs[0]
    axes, kept = _axes(walk, node), bool(integer(node, "keepdims", 1))
    dtype = walk.dtype(x)
    if dtype != "f32" and not (dtype in ("s32", "s64") and node.op_type in ("ReduceSum", "ReduceMax", "ReduceMin")):
        walk.refuse(node, f"its input is of type {dtype}", "cast it to float32 before")
    if not axes:
        placed = walk.place(x)
        walk.give(result, placed.tensor, placed.order)
    elif node.op_type == "ReduceL1":
        sizes = ir.Value(name=f"{result.name}.sizes")
        emit_map(walk, [x], sizes, "f32", lambda each: call("abs", each))
        _reduce(walk, sizes, result, "sum", axes, kept)
    elif node.op_type == "ReduceLogSumExp":
        _log_sum_exp(walk, x, result, axes, kept)
    else:
        kind, value = _PLAIN[node.op_type]
        _reduce(walk, x, result, kind, axes, kept, Epilogue(value if dtype == "f32" else Accumulator("s32")))


def _log_sum_exp(walk: Walk, x: ir.Value, result: ir.Value, axes: tuple[int, ...], kept: bool) -> None:
    """The maximum comes off first, so that no exponential overflows."""
    top, small = ir.Value(name=f"{result.name}.max"), ir.Value(name=f"{result.name}.exp")
    _reduce(walk, x, top, "max", axes, True)
    emit_map(walk, [x, top], small, "f32", lambda each, most: call("exp", call("sub", each, most)))
    value = call("add", call("log", Accumulator()), Beside(0))
    _reduce(walk, small, result, "sum", axes, kept, Epilogue(value, (), (walk.place(top).tensor,)))


def _axes(walk: Walk, node: ir.Node) -> tuple[int, ...]:
    rank = len(walk.shape(needed(node, 0)))
    value = given(node, 1)
    known = None if value is None else walk.constant(value)
    if value is not None and known is None:
        walk.refuse(node, "its axes are computed at run time", "make them constant before the export")
    found = integers(node, "axes") if known is None else tuple(int(axis) for axis in known.reshape(-1))
    if not found:
        return () if integer(node, "noop_with_empty_axes", 0) else tuple(range(rank))
    return tuple(sorted(axis % rank for axis in found))


def _reduce(
    walk: Walk,
    x: ir.Value,
    result: ir.Value,
    kind: ReduceKind,
    axes: tuple[int, ...],
    kept: bool,
    epilogue: Epilogue | None = None,
    dtype: Dtype | None = None,
) -> None:
    """Over logical axes, in whatever order x lies; axes that are not kept stay in memory with size 1."""
    order, rank = _reading_order(walk, x, axes), len(walk.shape(x))
    source = walk.read(x, order)
    shape = tuple(1 if axis == UNIT or axis in axes else size for axis, size in zip(order, source.shape, strict=True))
    y = walk.fresh(result.name or "", shape, dtype or source.dtype)
    memory_axes = tuple(place for place, axis in enumerate(order) if axis in axes)
    walk.emit(Reduce(kind=kind, x=source, y=y, axes=memory_axes, epilogue=epilogue or Epilogue(), origin=walk.origin))
    remaining = [axis for axis in range(rank) if kept or axis not in axes]
    renamed = {axis: place for place, axis in enumerate(remaining)}
    walk.give(result, y, tuple(renamed.get(axis, UNIT) for axis in order))


def _reading_order(walk: Walk, x: ir.Value, axes: tuple[int, ...]) -> Order:
    """As the value lies; a picture that is reduced to its channels, as a picture with channels innermost."""
    placed = walk.place(x)
    rank = len(placed.shape)
    if rank in (3, 4) and axes == tuple(range(2, rank)) and placed.order == tuple(range(rank)) and placed.shape[1] == 1:
        return PICTURE if rank == 4 else SEQUENCE
    return placed.order


def arg_extreme(walk: Walk, node: ir.Node) -> None:
    """ArgMax and ArgMin, the first of equals."""
    x = needed(node, 0)
    if walk.dtype(x) != "f32":
        walk.refuse(node, f"its input is of type {walk.dtype(x)}", "cast it to float32 before")
    if integer(node, "select_last_index", 0):
        walk.refuse(node, "it wants the last of equal numbers", "export it with select_last_index=0")
    kind: ReduceKind = "argmax" if node.op_type == "ArgMax" else "argmin"
    axis = integer(node, "axis", 0) % len(walk.shape(x))
    kept = bool(integer(node, "keepdims", 1))
    _reduce(walk, x, node.outputs[0], kind, (axis,), kept, Epilogue(Accumulator("s32")), "s64")


TABLE: Mapping[str, Callable[[Walk, ir.Node], None]] = {
    "MaxPool": pool,
    "AveragePool": pool,
    "GlobalAveragePool": global_pool,
    "GlobalMaxPool": global_pool,
    **dict.fromkeys((*_PLAIN, "ReduceL1", "ReduceLogSumExp"), reduce_axes),
    "ArgMax": arg_extreme,
    "ArgMin": arg_extreme,
}
