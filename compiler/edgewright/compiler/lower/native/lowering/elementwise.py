"""Makes Maps: operands of any layout, broadcast as ONNX broadcasts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from ..expression import Beside, Expression, Kind, Scalar, call
from ..net import Array, Dtype, Map, Operand
from .walk import UNIT, Order, Placed, Walk

Build = Callable[..., Expression]
ONE, ZERO = Scalar(1, "s32"), Scalar(0, "s32")


def kind_of(dtype: Dtype) -> Kind:
    """In which expressions compute a type."""
    return "f32" if dtype in ("f32", "f16") else "s32"


def emit_map(walk: Walk, values: Sequence[ir.Value], result: ir.Value, dtype: Dtype, build: Build) -> None:
    """`build` gets one expression per value (truth values for booleans) and gives what the result is.

    The result lies as the largest value lies; values of its size that lie otherwise are moved first.
    """
    shape = tuple(np.broadcast_shapes(*(walk.shape(value) for value in values)))
    order = _order(walk, values, shape)
    operands: list[Operand] = []
    leaves: dict[ir.Value, Expression] = {}
    for value in values:
        if value not in leaves:
            leaves[value] = _leaf(walk, value, shape, order, operands)
    expression = build(*(leaves[value] for value in values))
    if dtype == "bool":
        expression = call("and", expression, ONE)
    y = walk.fresh(result.name or "", tuple(1 if axis == UNIT else shape[axis] for axis in order), dtype)
    walk.emit(Map(y=y, value=expression, operands=tuple(operands), origin=walk.origin))
    walk.give(result, y, order)


def _order(walk: Walk, values: Sequence[ir.Value], shape: tuple[int, ...]) -> Order:
    """Of the largest value, and of several the first that is not in the caller's order."""
    best: tuple[int, bool] = (-1, False)
    order: Order = tuple(range(len(shape)))
    for value in values:
        if walk.constant(value) is not None:
            continue
        placed = walk.place(value)
        shift = len(shape) - len(placed.shape)
        given = (*range(shift), *(axis if axis == UNIT else axis + shift for axis in placed.order))
        rank = (placed.tensor.elements, placed.dense_order() != tuple(sorted(placed.dense_order())))
        if rank > best:
            best, order = rank, given
    return order


def _leaf(walk: Walk, value: ir.Value, shape: tuple[int, ...], order: Order, operands: list[Operand]) -> Expression:
    known = walk.constant(value)
    if known is None:
        operands.append(_tensor_operand(walk, value, shape, order))
        dtype = walk.dtype(value)
    else:
        dtype = walk.dtype(value)
        array = computable(known)
        if known.size == 1:
            number = array.reshape(-1)[0].item()
            return truth(Scalar(number, kind_of(dtype)), dtype)
        operands.append(constant_operand(array, shape, order))
    return truth(Beside(len(operands) - 1, kind_of(dtype)), dtype)


def truth(expression: Expression, dtype: Dtype) -> Expression:
    """0 and 1 of a boolean as the truth values of expressions."""
    return call("iless", ZERO, expression) if dtype == "bool" else expression


def computable(known: Array) -> Array:
    """A constant in float32 or int32; larger integers are held to the range."""
    if known.dtype.kind == "f":
        return known.astype(np.float32)
    limits = np.iinfo(np.int32)
    return np.clip(known.astype(np.int64), limits.min, limits.max).astype(np.int32)


def constant_operand(array: Array, shape: tuple[int, ...], order: Order) -> Operand:
    """A constant in the order of a result, broadcast to its shape."""
    full = array.reshape((1,) * (len(shape) - array.ndim) + array.shape)
    moved = np.ascontiguousarray(full.transpose([axis for axis in order if axis != UNIT]))
    steps = {
        axis: 0 if size == 1 else stride // moved.itemsize
        for axis, size, stride in zip((axis for axis in order if axis != UNIT), moved.shape, moved.strides, strict=True)
    }
    return Operand(moved, tuple(0 if axis == UNIT else steps[axis] for axis in order))


def _tensor_operand(walk: Walk, value: ir.Value, shape: tuple[int, ...], order: Order) -> Operand:
    placed = walk.place(value)
    shift = len(shape) - len(placed.shape)
    wanted = tuple(axis for axis in order if axis != UNIT and axis >= shift and placed.shape[axis - shift] != 1)
    if tuple(axis + shift for axis in placed.dense_order()) != wanted and placed.tensor.elements > 1:
        own = tuple(axis - shift for axis in order if axis != UNIT and axis >= shift)
        placed = Placed(walk.read(value, own), own)
    steps = dict(enumerate(placed.strides, start=shift))
    sizes = dict(enumerate(placed.shape, start=shift))
    return Operand(placed.tensor, tuple(steps[axis] if sizes.get(axis, 1) != 1 else 0 for axis in order))
