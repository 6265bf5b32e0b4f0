"""Operators that put values side by side, along axes as they lie in memory."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ....attributes import integer
from ...file.model import Array, Quantization
from ..encodings import Encoding
from ..orders import UNIT, Order, identity, in_memory
from ..parameters import listed
from ..sites import Form, Site
from ..walk import Walk
from .operator import INT8_AND_16, Operator


def concat(walk: Walk, site: Site) -> None:
    """CONCATENATION; QUANTIZE before it where integers do not share one scale.

    Not: only values without elements.
    """
    values = [value for value in site.node.inputs if value is not None and 0 not in walk.shape(value)]
    if not values:
        walk.refuse(site.node, "none of its inputs has elements", "leave it out")
    rank = len(walk.shape(values[0]))
    axis = integer(site.node, "axis", 0) % rank
    order = _shared_order(walk, site, values, rank)
    encoding = _shared_encoding(walk, site, values)
    tensors = tuple(_part(walk, site, value, order, encoding) for value in values)
    if len(tensors) == 1:
        walk.finish(site, tensors[0], order)
        return
    place = order.index(axis)
    shapes = [walk.shape_of(tensor) for tensor in tensors]
    total = sum(shape[place] for shape in shapes)
    shape = (*shapes[0][:place], total, *shapes[0][place + 1 :])
    y = walk.like(tensors[0], shape, site.results[0].name or "joined")
    walk.emit("CONCATENATION", tensors, (y,), axis=place)
    walk.finish(site, y, order)


def _shared_order(walk: Walk, site: Site, values: list[ir.Value], rank: int) -> Order:
    """The one in which most of the data lies."""
    sizes: dict[Order, int] = {}
    for value in values:
        if walk.constant(value) is None:
            order = walk.order_of(site, value)
            sizes[order] = sizes.get(order, 0) + int(np.prod(walk.shape(value)))
    return max(sizes, key=lambda order: sizes[order]) if sizes else identity(rank)


def _shared_encoding(walk: Walk, site: Site, values: list[ir.Value]) -> Encoding | None:
    """Of all that is joined: the one that all have, else that of the result."""
    if not site.integer:
        return None
    found = [walk.encoding(value) if walk.constant(value) is None else None for value in values]
    first = found[0]
    if first is not None and all(each is not None and _same(each, first) for each in found):
        return first
    return site.encodings[0]


def _same(one: Encoding, other: Encoding) -> bool:
    return one.kind == other.kind and one.quantization == other.quantization


def _part(walk: Walk, site: Site, value: ir.Value, order: Order, encoding: Encoding | None) -> int:
    """A value in an order and an encoding."""
    constant = walk.constant(value)
    if encoding is None:
        return walk.data(site, value, order)
    if constant is not None:
        turned = constant.transpose([axis for axis in order if axis != UNIT]).reshape(in_memory(constant.shape, order))
        return walk.draft.constant(value.name or "", rounded(turned, encoding), encoding.quantization)
    return requantized(walk, walk.data(site, value, order), encoding.quantization)


def rounded(real: Array, encoding: Encoding) -> Array:
    """Numbers in integers, as QuantizeLinear rounds them."""
    quantization, limits = encoding.quantization, np.iinfo(encoding.kind)
    steps = np.rint(real.astype(np.float32) / np.float32(quantization.scales[0])) + quantization.zero_points[0]
    clipped: Array = np.clip(steps, limits.min, limits.max).astype(encoding.kind)
    return clipped


def requantized(walk: Walk, tensor: int, quantization: Quantization) -> int:
    """Integers in another encoding of the same type."""
    source = walk.draft.tensors[tensor]
    if source.quantization == quantization:
        return tensor
    made = walk.like(tensor, source.shape, f"{source.name}_rescaled", quantization)
    walk.emit("QUANTIZE", (tensor,), (made,))
    return made


def expand(walk: Walk, site: Site) -> None:
    """TILE; RESHAPE before it where axes are new.

    Not: a shape that is computed from data.
    """
    shape = listed(walk, site, 1, "shape") or ()
    source = walk.shape(site.input(0))
    target = np.broadcast_shapes(source, shape)
    missing = len(target) - len(source)
    _tiled(walk, site, missing, [
        size // old for size, old in zip(target, (1,) * missing + source, strict=True)
    ])  # fmt: skip


def tile(walk: Walk, site: Site) -> None:
    """TILE.

    Not: repeats that are computed from data.
    """
    repeats = listed(walk, site, 1, "repeats") or ()
    if len(repeats) != len(walk.shape(site.input(0))) or min(repeats, default=1) < 1:
        walk.refuse(site.node, f"its repeats {repeats} do not fit its input", "correct the model")
    _tiled(walk, site, 0, list(repeats))


def _tiled(walk: Walk, site: Site, missing: int, repeats: list[int]) -> None:
    """Repeats along all axes, after `missing` new ones in front."""
    value = site.input(0)
    order = walk.order_of(site, value)
    x = walk.data(site, value, order)
    if missing:
        order = (*range(missing), *(axis + missing if axis != UNIT else UNIT for axis in order))
        x = walk.reshaped(x, (1,) * missing + walk.shape_of(x))
    times = [1 if axis == UNIT else repeats[axis] for axis in order]
    if any(each != 1 for each in times):
        shape = tuple(size * each for size, each in zip(walk.shape_of(x), times, strict=True))
        y = walk.like(x, shape, site.results[0].name or "tiled")
        walk.emit("TILE", (x, walk.draft.constant("repeats", np.asarray(times, np.int32))), (y,))
        x = y
    walk.finish(site, x, order)


_MOVES = Form(integers=INT8_AND_16)

TABLE = {"Concat": Operator(concat, _MOVES), "Expand": Operator(expand, _MOVES), "Tile": Operator(tile, _MOVES)}
