"""Products of matrices."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from ....attributes import integer, number
from ...file.model import Array
from ..elementwise import broadcastable
from ..orders import UNIT, Order, identity
from ..sites import Form, Site
from ..walk import Walk, fused
from ..weights import weight_and_bias
from .operator import INT8_AND_16, Operator

MAX_RANK = 5
"""Of BATCH_MATMUL's kernels."""
SWAPPED: Order = (1, 0)


def gemm(walk: Walk, site: Site) -> None:
    """FULLY_CONNECTED; BATCH_MATMUL where no matrix is constant; ADD where C is no row.

    Not: an alpha below 0 in integers (then in float).
    """
    node = site.node
    alpha, beta = number(node, "alpha", 1.0), number(node, "beta", 1.0)
    constant = walk.constant(site.input(1)) is not None
    row = _is_row(walk, site.optional(2)) if constant else site.optional(2) is None
    scaled = alpha != 1.0 and not constant
    if row and not scaled and (alpha > 0 or not site.integer):
        _gemm(walk, site, alpha, beta)
        return
    y, order = _product(walk, site.in_float, alpha)
    addend = site.optional(2)
    if addend is not None:
        y = _added(walk, site, y, addend, beta, order)
    elif site.activation != "NONE":
        made = walk.like(y, walk.shape_of(y), "clipped")
        walk.emit(site.activation, (y,), (made,))
        y = made
    walk.finish(site, y, order)


def _gemm(walk: Walk, site: Site, alpha: float, beta: float) -> None:
    """One operator."""
    left = SWAPPED if integer(site.node, "transA", 0) else identity(2)
    if walk.constant(site.input(1)) is None:
        a = walk.data(site, site.input(0), left)
        b = walk.data(site, site.input(1), SWAPPED if integer(site.node, "transB", 0) else identity(2))
        y = walk.result(site, (walk.shape_of(a)[0], walk.shape_of(b)[1]), identity(2))
        _batch_matmul(walk, site, a, b, y)
        return
    x = walk.data(site, site.input(0), left)
    rows = bool(integer(site.node, "transB", 0))
    w, b = weight_and_bias(walk, site, x, 1, 2, _rows(walk, site, rows), axis=0, factors=(alpha, beta))
    y = walk.result(site, (walk.shape_of(x)[0], walk.shape_of(w)[0]), identity(2))
    walk.emit("FULLY_CONNECTED", (x, w, b), (y,), fusedActivationFunction=fused(site))


def _product(walk: Walk, site: Site, alpha: float) -> tuple[int, Order]:
    """A B by alpha, in float, without C and clamp."""
    node = site.node
    a = walk.data(site, site.input(0), SWAPPED if integer(node, "transA", 0) else identity(2))
    if walk.constant(site.input(1)) is not None:
        rows = bool(integer(node, "transB", 0))
        w, b = weight_and_bias(walk, site, a, 1, None, _rows(walk, site, rows), axis=0, factors=(alpha, 1.0))
        y = walk.like(a, (walk.shape_of(a)[0], walk.shape_of(w)[0]), "product")
        walk.emit("FULLY_CONNECTED", (a, w, b), (y,))
        return y, identity(2)
    b = walk.data(site, site.input(1), SWAPPED if integer(node, "transB", 0) else identity(2))
    y = walk.like(a, (walk.shape_of(a)[0], walk.shape_of(b)[1]), "product")
    walk.emit("BATCH_MATMUL", (a, b), (y,))
    if alpha != 1.0:
        scaled = walk.like(y, walk.shape_of(y), "scaled")
        walk.emit("MUL", (y, walk.draft.constant("alpha", np.asarray([alpha], np.float32))), (scaled,))
        y = scaled
    return y, identity(2)


def _added(walk: Walk, site: Site, y: int, addend: ir.Value, beta: float, order: Order) -> int:
    """C by beta on top."""
    known = walk.constant(addend)
    if known is not None:
        c = walk.draft.constant(addend.name or "C", (known * np.float32(beta)).astype(np.float32))
    else:
        c = broadcastable(walk, site.in_float, addend, order)
        if beta != 1.0:
            scaled = walk.like(c, walk.shape_of(c), "scaled")
            walk.emit("MUL", (c, walk.draft.constant("beta", np.asarray([beta], np.float32))), (scaled,))
            c = scaled
    made = walk.like(y, walk.shape_of(y), "sum")
    walk.emit("ADD", (y, c), (made,), fusedActivationFunction=fused(site))
    return made


def _is_row(walk: Walk, value: ir.Value | None) -> bool:
    """Whether C adds the same to each row of the result."""
    if value is None:
        return True
    known = walk.constant(value)
    return known is not None and (known.ndim < 2 or known.shape[0] == 1)


def matmul(walk: Walk, site: Site) -> None:
    """FULLY_CONNECTED where one side is a constant matrix, else BATCH_MATMUL.

    Not: more than 5 axes.
    """
    left, right = walk.constant(site.input(0)), walk.constant(site.input(1))
    if right is not None and right.ndim == 2 and len(walk.shape(site.input(0))) > 1:
        _matrix_right(walk, site)
    elif left is not None and left.ndim == 2 and len(walk.shape(site.input(1))) > 1:
        _matrix_left(walk, site)
    else:
        _two_sided(walk, site)


def _matrix_right(walk: Walk, site: Site) -> None:
    """Rows of the left side stay where they lie as long as the last axis is last in memory."""
    value = site.input(0)
    rank = len(walk.shape(value))
    order = walk.place(value, integer=site.integer and walk.encoding(value) is not None).order
    if order[-1] != rank - 1 or (UNIT in order) or (walk.features.get(value.name or "") is not None):
        order = identity(rank)
    x = walk.data(site, value, order)
    w, b = weight_and_bias(walk, site, x, 1, None, _rows(walk, site, False), axis=0)
    shape = walk.shape_of(x)
    y = walk.result(site, (*shape[:-1], walk.shape_of(w)[0]), order)
    walk.emit("FULLY_CONNECTED", (x, w, b), (y,), fusedActivationFunction=fused(site), keepNumDims=rank > 2)


def _matrix_left(walk: Walk, site: Site) -> None:
    """A B is the transpose of B' A', and a transpose is only an order."""
    rank = len(walk.shape(site.input(1)))
    order = (*identity(rank - 2), rank - 1, rank - 2)
    x = walk.data(site, site.input(1), order)
    w, b = weight_and_bias(walk, site, x, 0, None, lambda array: array, axis=0)
    y = walk.result(site, (*walk.shape_of(x)[:-1], walk.shape_of(w)[0]), order)
    walk.emit("FULLY_CONNECTED", (x, w, b), (y,), fusedActivationFunction=fused(site), keepNumDims=rank > 2)


def _two_sided(walk: Walk, site: Site) -> None:
    """Vectors become matrices of one row or column, which the result loses again."""
    values = [site.input(0), site.input(1)]
    shapes = [walk.shape(value) for value in values]
    if max(len(shape) for shape in shapes) > MAX_RANK:
        walk.refuse(site.node, f"it has {max(map(len, shapes))} axes", f"use at most {MAX_RANK}")
    read = site if _takes_integers(walk, site) else site.in_float
    tensors = [_operand(walk, read, value) for value in values]
    sides = [
        (1, *shapes[0]) if len(shapes[0]) == 1 else shapes[0],
        (*shapes[1], 1) if len(shapes[1]) == 1 else shapes[1],
    ]
    a, b = (walk.reshaped(tensor, side) for tensor, side in zip(tensors, sides, strict=True))
    batch = np.broadcast_shapes(sides[0][:-2], sides[1][:-2])
    full = (*batch, sides[0][-2], sides[1][-1])
    dropped = {len(full) - 2} if len(shapes[0]) == 1 else set()
    dropped |= {len(full) - 1} if len(shapes[1]) == 1 else set()
    if not dropped and read.integer == site.integer:
        y = walk.result(site, full, identity(len(full)))
        _batch_matmul(walk, site, a, b, y)
        return
    encoding = site.encodings[0].quantization if read.integer else None
    kind = walk.draft.tensors[a].type
    made = walk.draft.tensor(f"{site.results[0].name}_matrix", kind, full, encoding)
    _batch_matmul(walk, site, a, b, made)
    final = tuple(size for axis, size in enumerate(full) if axis not in dropped)
    walk.finish(site, walk.reshaped(made, final, site.results[0].name or ""), identity(len(final)))


def _takes_integers(walk: Walk, site: Site) -> bool:
    """Whether BATCH_MATMUL's integer kernels take the constants: one scale, and in 16 bits none on the left."""
    for index in range(2):
        stored = walk.stored(site.input(index))
        if stored is not None and (
            len(stored.encoding.quantization.scales) > 1 or (index == 0 and site.kind == "int16")
        ):
            return False
    return site.integer


def _operand(walk: Walk, site: Site, value: ir.Value) -> int:
    return walk.data(site, value, identity(len(walk.shape(value))))


def _batch_matmul(walk: Walk, site: Site, a: int, b: int, y: int) -> None:
    """BATCH_MATMUL has no clamp of its own; in float one follows, in integers the rounding did its work.

    A matrix times itself is read from two tensors: from one, LiteRT 2.3's fast kernels give wrong numbers.
    """
    if a == b:
        b = walk.like(a, walk.shape_of(a), "same_matrix")
        sizes = (-1, *walk.shape_of(a)[1:])
        walk.emit("RESHAPE", (a, walk.draft.constant("shape", np.asarray(sizes, np.int32))), (b,), newShape=sizes)
    if site.activation == "NONE":
        walk.emit("BATCH_MATMUL", (a, b), (y,))
        return
    made = walk.like(y, walk.shape_of(y), "product")
    walk.emit("BATCH_MATMUL", (a, b), (made,))
    walk.emit(site.activation, (made,), (y,))


def _rows(walk: Walk, site: Site, transposed: bool) -> Callable[[Array], Array]:
    """A constant matrix as FULLY_CONNECTED reads it: one row for each output, in the order of flattened pictures."""
    features = walk.features.get(site.input(0).name or "")

    def arrange(array: Array) -> Array:
        rows = array if transposed else array.T
        return np.ascontiguousarray(rows if features is None else rows[:, features])

    return arrange


_PRODUCT = Form(fuses=True, integers=INT8_AND_16, product=True)

TABLE = {"Gemm": Operator(gemm, _PRODUCT), "MatMul": Operator(matmul, _PRODUCT)}
