"""Gemm and MatMul: a constant side becomes the weights of a Dense layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx_ir as ir

from .....attributes import given, integer, needed, number
from ...expression import Accumulator, Expression, Scalar, call
from ...net import Array, Dense, Epilogue, MatMul
from ..elementwise import emit_map
from ..views import give_reshaped
from ..walk import UNIT, Order, Walk, identity
from .convolutions import biased

PLAIN = Epilogue()


def gemm(walk: Walk, node: ir.Node) -> None:
    """The product of two matrices, scaled, and a third that is added."""
    a, b, c = needed(node, 0), needed(node, 1), given(node, 2)
    alpha, beta = number(node, "alpha", 1.0), number(node, "beta", 1.0)
    turned_a, turned_b = bool(integer(node, "transA", 0)), bool(integer(node, "transB", 0))
    weight = walk.constant(b)
    shape = walk.shape(a)
    rows = shape[1] if turned_a else shape[0]
    channels = walk.shape(b)[0 if turned_b else 1]
    bias = _row(walk, c, channels, beta)
    product = ir.Value(name=f"{node.outputs[0].name}.product") if c is not None and bias is None else node.outputs[0]
    y = walk.fresh(product.name or "", (rows, channels))
    if weight is not None:
        x = walk.read(a, (1, 0) if turned_a else (0, 1))
        matrix = np.ascontiguousarray((weight if turned_b else weight.T) * np.float32(alpha))
        walk.emit(Dense(x=x, y=y, weight=matrix, epilogue=biased(bias), origin=walk.origin))
    else:
        left, right = walk.read(a, (0, 1)), walk.read(b, (0, 1))
        epilogue = _scaled(alpha, biased(bias))
        walk.emit(
            MatMul(
                a=left,
                b=right,
                y=y,
                a_transposed=turned_a,
                b_transposed=turned_b,
                epilogue=epilogue,
                origin=walk.origin,
            )
        )
    walk.give(product, y, (0, 1))
    if product is not node.outputs[0] and c is not None:
        emit_map(walk, [product, c], node.outputs[0], "f32", _plus(beta))


def _row(walk: Walk, c: ir.Value | None, channels: int, beta: float) -> Array | None:
    """C as a number per channel, where it is one."""
    known = None if c is None else walk.constant(c)
    if known is None or known.size not in (1, channels) or (known.ndim == 2 and known.shape[0] != 1):
        return None
    return np.asarray(np.broadcast_to(known.reshape(-1), channels) * np.float32(beta))


def _plus(beta: float) -> Callable[..., Expression]:
    if beta == 1.0:
        return lambda x, y: call("add", x, y)
    return lambda x, y: call("fma", y, Scalar(beta), x)


def _scaled(alpha: float, epilogue: Epilogue) -> Epilogue:
    if alpha == 1.0:
        return epilogue
    value = call("mul", Accumulator(), Scalar(alpha))
    if isinstance(epilogue.value, Accumulator):
        return Epilogue(value)
    return Epilogue(call("add", value, epilogue.value.arguments[1]), epilogue.rows)  # type: ignore[union-attr]


def matmul(walk: Walk, node: ir.Node) -> None:
    """MatMul with a constant right side, a constant left side, or neither."""
    a, b = needed(node, 0), needed(node, 1)
    left, right = walk.constant(a), walk.constant(b)
    if walk.dtype(a) != "f32" or walk.dtype(b) != "f32":
        walk.refuse(node, "it multiplies integers", "cast them to float32 before")
    if right is not None and right.ndim == 2:
        from_the_right(walk, a, right.T, node.outputs[0])
    elif left is not None and left.ndim == 2 and len(walk.shape(b)) >= 2:
        _from_the_left(walk, left, b, node.outputs[0])
    elif min(len(walk.shape(a)), len(walk.shape(b))) >= 2:
        _both(walk, a, b, node.outputs[0])
    else:
        _vectors(walk, a, b, node.outputs[0])


def from_the_right(walk: Walk, a: ir.Value, weight: Array, result: ir.Value, epilogue: Epilogue = PLAIN) -> None:
    """A product by constant weights (K, C)."""
    placed = walk.place(a)
    rank = len(placed.shape)
    dense = placed.dense_order()
    order = placed.order if dense[-1:] == (rank - 1,) and placed.order[-1] == rank - 1 else identity(rank)
    x = walk.read(a, order)
    y = walk.fresh(result.name or "", (*x.shape[:-1], weight.shape[0]))
    walk.emit(Dense(x=x, y=y, weight=np.ascontiguousarray(weight), epilogue=epilogue, origin=walk.origin))
    walk.give(result, y, order)


def _from_the_left(walk: Walk, weight: Array, b: ir.Value, result: ir.Value) -> None:
    """Turned: the right side's columns are rows under the weights."""
    rank = len(walk.shape(b))
    order = (*range(rank - 2), rank - 1, rank - 2)
    x = walk.read(b, order)
    y = walk.fresh(result.name or "", (*x.shape[:-1], weight.shape[0]))
    walk.emit(Dense(x=x, y=y, weight=np.ascontiguousarray(weight), origin=walk.origin))
    walk.give(result, y, order)


def _both(walk: Walk, a: ir.Value, b: ir.Value, result: ir.Value) -> None:
    shapes = walk.shape(a), walk.shape(b)
    rank = max(len(shapes[0]), len(shapes[1]))
    lead = np.broadcast_shapes(shapes[0][:-2], shapes[1][:-2])
    (x, x_turned), (w, w_turned) = _factor(walk, a, rank), _factor(walk, b, rank)
    shape = (*lead, shapes[0][-2], shapes[1][-1])
    y = walk.fresh(result.name or "", shape)
    walk.emit(
        MatMul(
            a=walk.read(a, x), b=walk.read(b, w), y=y, a_transposed=x_turned, b_transposed=w_turned, origin=walk.origin
        )
    )
    walk.give(result, y, identity(rank))


def _factor(walk: Walk, value: ir.Value, rank: int) -> tuple[Order, bool]:
    """In which order to read a factor: turned where it lies so."""
    own = len(walk.shape(value))
    plain = identity(own)
    turned = (*range(own - 2), own - 1, own - 2)
    placed = walk.place(value)
    dense = tuple(axis for axis in turned if placed.shape[axis] != 1)
    lies_turned = placed.dense_order() == dense and dense != tuple(sorted(dense))
    return (UNIT,) * (rank - own) + (turned if lies_turned else plain), lies_turned


def _vectors(walk: Walk, a: ir.Value, b: ir.Value, result: ir.Value) -> None:
    """A side of one axis is a row on the left, a column on the right, and is left out of the result."""
    shapes = walk.shape(a), walk.shape(b)
    two = ir.Value(name=f"{result.name}.a"), ir.Value(name=f"{result.name}.b")
    wide = (1, *shapes[0]) if len(shapes[0]) == 1 else shapes[0], (*shapes[1], 1) if len(shapes[1]) == 1 else shapes[1]
    for value, new, shape in zip((a, b), two, wide, strict=True):
        give_reshaped(walk, value, new, shape)
    product = ir.Value(name=f"{result.name}.product")
    _both(walk, *two, product)
    shape = walk.shape(product)
    kept = [*shape[:-2], *(shape[-2:-1] if len(shapes[0]) > 1 else ()), *(shape[-1:] if len(shapes[1]) > 1 else ())]
    give_reshaped(walk, product, result, tuple(kept))


TABLE: Mapping[str, Callable[[Walk, ir.Node], None]] = {"Gemm": gemm, "MatMul": matmul}
