"""Elements by their indices."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ....attributes import integer
from ...file.model import Array
from ..orders import Order, identity, in_memory
from ..sites import Form, Site
from ..walk import Walk
from .operator import INT8_AND_16, Operator
from .slicing import taken


def gather(walk: Walk, site: Site) -> None:
    """GATHER; SLICE where constant indices follow each other; FLOOR_MOD before it where indices are computed.

    Not: constant indices beyond the axis.
    """
    value, where = site.input(0), site.input(1)
    shape = walk.shape(value)
    axis = integer(site.node, "axis", 0) % len(shape)
    order = walk.order_of(site, value)
    x = walk.data(site, value, order)
    indices = walk.constant(where)
    new = _order_behind(order, axis, len(walk.shape(where)))
    if indices is not None:
        if indices.size == 0 or indices.min() < -shape[axis] or indices.max() >= shape[axis]:
            walk.refuse(site.node, f"its indices leave an axis of {shape[axis]}, or are none", "correct the model")
        _known(walk, site, x, order.index(axis), np.where(indices < 0, indices + shape[axis], indices), new)
        return
    full = (*shape[:axis], *walk.shape(where), *shape[axis + 1 :])
    y = walk.like(x, in_memory(full, new), site.results[0].name or "gathered")
    walk.emit("GATHER", (x, _from_zero(walk, where, shape[axis])), (y,), axis=order.index(axis))
    walk.finish(site, y, new)


def _known(walk: Walk, site: Site, x: int, place: int, indices: Array, order: Order) -> None:
    memory = walk.shape_of(x)
    shape = (*memory[:place], *indices.shape, *memory[place + 1 :])
    flat = [int(each) for each in indices.reshape(-1)]
    step = flat[1] - flat[0] if len(flat) > 1 else 1
    run = range(flat[0], flat[0] + step * len(flat), step) if step else None
    if run is not None and list(run) == flat:
        runs = [range(size) for size in memory]
        runs[place] = run
        y = walk.reshaped(taken(walk, site.node, x, runs, site.results[0].name or ""), shape)
    else:
        y = walk.like(x, shape, site.results[0].name or "gathered")
        walk.emit("GATHER", (x, walk.draft.constant("indices", indices.astype(np.int32))), (y,), axis=place)
    walk.finish(site, y, order)


def _order_behind(order: Order, axis: int, count: int) -> Order:
    """The order after an axis became `count` axes in its place."""
    found: list[int] = []
    for each in order:
        if each == axis:
            found += range(axis, axis + count)
        else:
            found.append(each + count - 1 if each > axis else each)
    return tuple(found)


def _from_zero(walk: Walk, where: ir.Value, size: int) -> int:
    """Computed indices, which may count from the end."""
    indices = walk.read(where, identity(len(walk.shape(where))))
    made = walk.like(indices, walk.shape_of(indices), f"{where.name}_from_zero")
    kind = np.int64 if walk.draft.tensors[indices].type == "INT64" else np.int32
    walk.emit("FLOOR_MOD", (indices, walk.draft.constant("size", np.asarray(size, kind))), (made,))
    return made


def gather_nd(walk: Walk, site: Site) -> None:
    """GATHER_ND.

    Not: indices that are computed; batch_dims other than 0.
    """
    value = site.input(0)
    shape = walk.shape(value)
    indices = walk.constant(site.input(1))
    if indices is None or integer(site.node, "batch_dims", 0):
        walk.refuse(site.node, "its indices are computed, or it has batch_dims", "use Gather")
    depth = indices.shape[-1]
    sizes = np.asarray(shape[:depth])
    if (indices < -sizes).any() or (indices >= sizes).any() or indices.size == 0:
        walk.refuse(site.node, f"its indices leave {shape}, or are none", "correct the model")
    x = walk.data(site, value, identity(len(shape)))
    full = (*indices.shape[:-1], *shape[depth:])
    y = walk.like(x, full, site.results[0].name or "gathered")
    constant = walk.draft.constant("indices", np.where(indices < 0, indices + sizes, indices).astype(np.int32))
    walk.emit("GATHER_ND", (x, constant), (y,))
    walk.finish(site, y, identity(len(full)))


_MOVES = Form(integers=INT8_AND_16)

TABLE = {"Gather": Operator(gather, _MOVES), "GatherND": Operator(gather_nd, _MOVES)}
