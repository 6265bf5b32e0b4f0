"""Operators that move values and compute none."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from ....attributes import integer, integers, needed
from ..orders import Order, identity, in_memory
from ..regrouping import regrouped
from ..sites import Form, Site
from ..walk import Walk
from .operator import INT8_AND_16, Operator

PRODUCTS = frozenset({"Gemm", "MatMul"})


def transpose(walk: Walk, site: Site) -> None:
    """Nothing, as far as the order can be remembered; TRANSPOSE where someone reads the value in another."""
    value = site.input(0)
    rank = len(walk.shape(value))
    permutation = integers(site.node, "perm") or tuple(reversed(range(rank)))
    placed = walk.place(value, integer=site.integer)
    known = walk.data(site, value, placed.order)
    order = tuple(permutation.index(axis) if axis >= 0 else axis for axis in placed.order)
    walk.finish(site, known, order)


def reshape(walk: Walk, site: Site) -> None:
    """RESHAPE; nothing where memory stays as it is.

    Not: a shape that is computed from data.
    """
    value = site.input(0)
    source = walk.shape(value)
    target, inferred = _target(walk, site, source)
    if math.prod(target) != math.prod(source):
        walk.refuse(site.node, f"its shape {target} does not fit {source}", "reshape with -1 for the batch")
    order = walk.order_of(site, value)
    if order[:1] == (0,) and target == (source[0], math.prod(source[1:])) and _only_products(site):
        # A picture is flattened as it lies; the products behind read their weights in that order.
        logical = np.arange(target[1]).reshape(source[1:])
        walk.features[site.results[0].name or ""] = logical.transpose([axis - 1 for axis in order if axis > 0]).ravel()
        found: Order | None = identity(2)
    else:
        found = regrouped(source, target, order, free_batch=walk.free_batch)
    x = walk.data(site, value, identity(len(source)) if found is None else order)
    order = identity(len(target)) if found is None else found
    y = walk.reshaped(
        x, in_memory(target, order), site.results[0].name or "", None if inferred is None else order.index(inferred)
    )
    walk.finish(site, y, order)


def _only_products(site: Site) -> bool:
    """Whether only products with constant matrices read a flattened value, seen through quantizers."""
    waiting, found = list(site.results), False
    while waiting:
        value = waiting.pop()
        if value.is_graph_output():
            return False
        for use in value.uses():
            if use.node.op_type in {"QuantizeLinear", "DequantizeLinear"}:
                waiting += use.node.outputs
            elif not _is_matrix_product(use.node, use.idx):
                return False
            found = True
    return found


def _is_matrix_product(node: ir.Node, index: int) -> bool:
    """Whether an input is the left side of a product with a constant matrix, its rows the samples."""
    if node.op_type not in PRODUCTS or index != 0 or integer(node, "transA", 0):
        return False
    right = needed(node, 1)
    return _is_fixed(right) and len(right.shape or ()) == 2


def _is_fixed(value: ir.Value) -> bool:
    """Whether a value is a constant, or one dequantized."""
    producer = value.producer()
    if producer is None or value.const_value is not None:
        return value.const_value is not None
    return producer.op_type in {"DequantizeLinear", "Constant"} and all(
        each is None or each.const_value is not None for each in producer.inputs
    )


def _target(walk: Walk, site: Site, source: tuple[int, ...]) -> tuple[tuple[int, ...], int | None]:
    """The new shape, and the axis whose size follows from the others where the graph says so."""
    node = site.node
    if node.op_type == "Flatten":
        axis = integer(node, "axis", 1)
        axis = axis % len(source) if axis < 0 else axis
        return (math.prod(source[:axis]), math.prod(source[axis:])), 0
    if node.op_type in {"Squeeze", "Unsqueeze"}:
        return _with_ones(walk, site, source), None
    shape = walk.constant(site.input(1))
    if shape is None:
        walk.refuse(node, "its shape is computed from data", "reshape to a constant shape")
    zero_is_kept = not integer(node, "allowzero", 0)
    sizes = [
        source[i] if size == 0 and zero_is_kept and i < len(source) else int(size)
        for i, size in enumerate(shape.reshape(-1))
    ]
    if -1 not in sizes:
        return tuple(sizes), None
    unknown = sizes.index(-1)
    rest = math.prod(size for size in sizes if size != -1)
    sizes[unknown] = math.prod(source) // rest if rest else 0
    return tuple(sizes), unknown


def _with_ones(walk: Walk, site: Site, source: tuple[int, ...]) -> tuple[int, ...]:
    node = site.node
    given: ir.Value | None = site.optional(1)
    known = walk.constant(given) if given is not None else None
    if given is not None and known is None:
        walk.refuse(node, "its axes are computed from data", "make them constants")
    axes = integers(node, "axes") if known is None else tuple(int(axis) for axis in known.reshape(-1))
    if node.op_type == "Squeeze":
        gone = (
            {axis % len(source) for axis in axes} if axes is not None else {i for i, n in enumerate(source) if n == 1}
        )
        return tuple(size for axis, size in enumerate(source) if axis not in gone)
    rank = len(source) + len(axes or ())
    ones = {axis % rank for axis in axes or ()}
    rest = iter(source)
    return tuple(1 if axis in ones else next(rest) for axis in range(rank))


def identity_of(walk: Walk, site: Site) -> None:
    """Nothing: both names mean one tensor."""
    value = site.input(0)
    placed = walk.place(value, integer=site.integer)
    walk.finish(site, walk.data(site, value, placed.order), placed.order)


_MOVES = Form(integers=INT8_AND_16)

TABLE = {
    "Transpose": Operator(transpose, _MOVES),
    "Reshape": Operator(reshape, _MOVES),
    "Flatten": Operator(reshape, _MOVES),
    "Squeeze": Operator(reshape, _MOVES),
    "Unsqueeze": Operator(reshape, _MOVES),
    "Identity": Operator(identity_of, _MOVES),
    "Dropout": Operator(identity_of, _MOVES),
}
