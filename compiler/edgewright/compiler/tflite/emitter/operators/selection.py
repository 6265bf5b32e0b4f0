"""What is largest and where, and running sums."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ....attributes import integer
from ....folding import ConstantOf
from ...file.schema import TYPES
from ..chain import Chain
from ..kernels import check_type
from ..orders import in_memory_axes, with_last, without
from ..sites import Form, Site
from ..walk import Walk
from .operator import INT8, INT8_AND_16, Operator


def arg_max(walk: Walk, site: Site) -> None:
    """ARG_MAX.

    Not: int64; the last of several largest.
    """
    _place_of(walk, site, "ARG_MAX")


def arg_min(walk: Walk, site: Site) -> None:
    """ARG_MIN.

    Not: int64; the last of several smallest.
    """
    _place_of(walk, site, "ARG_MIN")


def _place_of(walk: Walk, site: Site, kind: str) -> None:
    node, value = site.node, site.input(0)
    if integer(node, "select_last_index", 0):
        walk.refuse(node, "it gives the last of equal ones, and TFLite the first", "leave select_last_index at 0")
    placed = walk.place(value, integer=site.integer)
    x = walk.data(site, value, placed.order)
    check_type(walk, node, kind, x)
    axis = integer(node, "axis", 0) % len(walk.shape(value))
    place = in_memory_axes(placed.order, (axis,))[0]
    shape = walk.shape_of(x)
    name = site.results[0].name or kind.lower()
    y = walk.draft.tensor(name, "INT64", (*shape[:place], *shape[place + 1 :]))
    where = walk.draft.constant("axis", np.asarray(place, np.int32))
    walk.emit(kind, (x, where), (y,), outputType=TYPES["INT64"])
    if integer(node, "keepdims", 1):
        walk.finish(site, walk.reshaped(y, (*shape[:place], 1, *shape[place + 1 :])), placed.order)
    else:
        walk.finish(site, y, without(placed.order, (axis,)))


def top_k(walk: Walk, site: Site) -> None:
    """TOPK_V2 over the last axis in memory, to which the axis is brought, and CAST; NEG around it for the smallest.

    Not: a number that is computed.
    """
    node, value = site.node, site.input(0)
    count = walk.constant(site.input(1))
    if count is None:
        walk.refuse(node, "its K is computed", "make it a constant")
    placed = walk.place(value, integer=site.integer)
    order = with_last(placed.order, integer(node, "axis", -1) % len(walk.shape(value)))
    x, chain = walk.data(site, value, order), Chain(walk, site)
    check_type(walk, node, "TOPK_V2", x)
    smallest = not integer(node, "largest", 1)
    if smallest:
        check_type(walk, node, "NEG", x)
        x = chain.apply("NEG", x)
    k = int(count.reshape(-1)[0])
    shape = (*walk.shape_of(x)[:-1], k)
    values = walk.like(x, shape, site.results[0].name or "values")
    indices = walk.draft.tensor(site.results[1].name or "indices", "INT32", shape)
    walk.emit("TOPK_V2", (x, walk.draft.constant("k", np.asarray(k, np.int32))), (values, indices))
    walk.finish(site, chain.apply("NEG", values) if smallest else values, order)
    walk.finish(site, chain.cast(indices, "INT64"), order, 1)


def _takes_largest(node: ir.Node, _: ConstantOf) -> bool:
    return bool(integer(node, "largest", 1))


def cumulative_sum(walk: Walk, site: Site) -> None:
    """CUMSUM.

    Not: an axis that is computed.
    """
    node, value = site.node, site.input(0)
    known = walk.constant(site.input(1))
    if known is None:
        walk.refuse(node, "its axis is computed", "make it a constant")
    placed = walk.place(value)
    x = walk.data(site, value, placed.order)
    check_type(walk, node, "CUMSUM", x)
    axis = int(known.reshape(-1)[0]) % len(walk.shape(value))
    place = walk.draft.constant("axis", np.asarray(in_memory_axes(placed.order, (axis,))[0], np.int32))
    options = {"exclusive": bool(integer(node, "exclusive", 0)), "reverse": bool(integer(node, "reverse", 0))}
    walk.emit("CUMSUM", (x, place), (walk.result(site, walk.shape_of(x), placed.order),), **options)


TABLE = {
    "ArgMax": Operator(arg_max, Form(integers=INT8)),
    "ArgMin": Operator(arg_min, Form(integers=INT8)),
    "TopK": Operator(top_k, Form(integers=INT8_AND_16, suits=_takes_largest)),
    "CumSum": Operator(cumulative_sum),
}
