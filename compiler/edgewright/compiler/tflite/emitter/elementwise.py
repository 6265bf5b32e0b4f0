"""Operators on single elements of one or more values, in the order in which most of the data lies already."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ..file.model import OptionValue
from .orders import Order, identity, in_memory
from .sites import Site
from .walk import Walk


def unary(walk: Walk, site: Site, kind: str, **options: OptionValue) -> None:
    """One input, one result of the same shape."""
    value = site.input(0)
    placed = walk.place(value, integer=site.integer)
    x = walk.data(site, value, placed.order)
    walk.emit(kind, (x,), (walk.result(site, walk.shape_of(x), placed.order),), **options)


def binary(walk: Walk, site: Site, kind: str, **options: OptionValue) -> None:
    """Two inputs with ONNX's broadcasting; results may be of another type (comparisons)."""
    values = [site.input(0), site.input(1)]
    shape = np.broadcast_shapes(*(walk.shape(value) for value in values))
    order = common_order(walk, site, values, len(shape))
    inputs = tuple(broadcastable(walk, site, value, order) for value in values)
    y = walk.result(site, in_memory(shape, order), order)
    walk.emit(kind, inputs, (y,), **options)


def common_order(walk: Walk, site: Site, values: list[ir.Value], rank: int) -> Order:
    """The order of the largest computed value of full rank; the graph's where there is none."""
    known = [value for value in values if walk.constant(value) is None and len(walk.shape(value)) == rank]
    if not known:
        return identity(rank)
    largest = max(known, key=lambda value: int(np.prod(walk.shape(value))))
    order = walk.place(largest, integer=site.integer).order
    return order if sorted(order) == list(range(rank)) else identity(rank)


def broadcastable(walk: Walk, site: Site, value: ir.Value, order: Order) -> int:
    """A value brought into an order, with axes of size 1 in front where it has fewer."""
    shape = walk.shape(value)
    missing = len(order) - len(shape)
    if missing == 0:
        return walk.data(site, value, order)
    own = tuple(axis - missing for axis in order if axis >= missing)
    sizes = tuple(1 if axis < missing else shape[axis - missing] for axis in order)
    return (
        walk.reshaped(walk.data(site, value, own), sizes)
        if walk.constant(value) is None
        else _constant(walk, site, value, own, sizes)
    )


def _constant(walk: Walk, site: Site, value: ir.Value, own: Order, sizes: tuple[int, ...]) -> int:
    """A constant with its axes of size 1, without an operator that would add them."""
    tensor = walk.draft.tensors[walk.data(site, value, own)]
    if tensor.data is None:
        raise ValueError(f"{tensor.name!r} is no constant")
    return walk.draft.constant(tensor.name, tensor.data.reshape(sizes), tensor.quantization)
