"""Operators on single elements of one or more values, in the order in which most of the data lies already."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import onnx_ir as ir

from ..file.model import OptionValue, Quantization
from .kernels import MAX_BROADCAST_RANK, check_type
from .orders import Order, identity, in_memory
from .sites import Site, is_uniform
from .walk import Walk

LARGEST: Final = {"int8": 127, "int16": 32767}


def unary(walk: Walk, site: Site, kind: str, **options: OptionValue) -> None:
    """One input, one result of the same shape."""
    value = site.input(0)
    placed = walk.place(value, integer=site.integer)
    x = walk.data(site, value, placed.order)
    check_type(walk, site.node, kind, x)
    walk.emit(kind, (x,), (walk.result(site, walk.shape_of(x), placed.order),), **options)


def fixed_unary(walk: Walk, site: Site, kind: str, fixed: Quantization, **options: OptionValue) -> None:
    """One input, one result of the same shape, in the only encoding that the integer kernel gives."""
    value = site.input(0)
    placed = walk.place(value, integer=site.integer)
    x = walk.data(site, value, placed.order)
    check_type(walk, site.node, kind, x)
    y = walk.like(x, walk.shape_of(x), site.results[0].name or kind, fixed if site.integer else None)
    walk.emit(kind, (x,), (y,), **options)
    walk.finish(site, y, placed.order)


def binary(walk: Walk, site: Site, kind: str, **options: OptionValue) -> None:
    """Two inputs with ONNX's broadcasting; results may be of another type (comparisons)."""
    order, shape, inputs = together(walk, site, [site.input(0), site.input(1)])
    check_type(walk, site.node, kind, inputs[0])
    y = walk.result(site, in_memory(shape, order), order)
    walk.emit(kind, tuple(inputs), (y,), **options)


def together(walk: Walk, site: Site, values: Sequence[ir.Value]) -> tuple[Order, tuple[int, ...], list[int]]:
    """The order and logical shape of a result of all these values, and the values so that they broadcast to it."""
    shapes = [walk.shape(value) for value in values]
    shape = tuple(int(size) for size in np.broadcast_shapes(*shapes))
    if len(shape) > MAX_BROADCAST_RANK and any(each != shape for each in shapes):
        walk.refuse(
            site.node,
            f"it broadcasts {' and '.join(map(str, shapes))}, and TFLite does so up to {MAX_BROADCAST_RANK} axes",
            "reshape to fewer axes before it",
        )
    order = common_order(walk, site, values, len(shape))
    return order, shape, [broadcastable(walk, site, value, order) for value in values]


def common_order(walk: Walk, site: Site, values: Sequence[ir.Value], rank: int) -> Order:
    """The order of the largest computed value of full rank; the graph's where there is none."""
    known = [value for value in values if walk.constant(value) is None and len(walk.shape(value)) == rank]
    if not known:
        return identity(rank)
    largest = max(known, key=lambda value: int(np.prod(walk.shape(value))))
    return walk.place(largest, integer=site.integer and walk.encoding(largest) is not None).order


def broadcastable(walk: Walk, site: Site, value: ir.Value, order: Order) -> int:
    """A value brought into an order; axes of size 1 are added where its own would not meet those of the others."""
    shape = walk.shape(value)
    missing = sum(axis >= 0 for axis in order) - len(shape)
    own = tuple(axis - missing for axis in order if axis >= missing) if missing else order
    tensor = operand(walk, site, value, own)
    if missing == 0 or order == identity(len(order)) or not shape:
        return tensor
    sizes = tuple(1 if axis < missing else shape[axis - missing] for axis in order)
    held = walk.draft.tensors[tensor]
    if held.data is None:
        return walk.reshaped(tensor, sizes)
    return walk.draft.constant(held.name, held.data.reshape(sizes), held.quantization)


def operand(walk: Walk, site: Site, value: ir.Value, order: Order) -> int:
    """What an operator computes with; one number throughout becomes an integer of a scale that holds it exactly."""
    known = walk.constant(value)
    if not site.integer or known is None or walk.stored(value) is not None or known.dtype != np.float32:
        return walk.data(site, value, order)
    if not is_uniform(known):
        raise ValueError(f"{value.name!r} has no scale")
    return exact_number(walk, site, float(known.flat[0]), value.name or "number")


def exact_number(walk: Walk, site: Site, number: float, name: str) -> int:
    """A scalar in the integers in which a site computes."""
    scale, integer = _exact(number, site.kind)
    return walk.draft.constant(name, np.asarray(integer, site.kind), Quantization((scale,), (0,)))


def _exact(number: float, kind: str) -> tuple[float, int]:
    """A scale and an integer that together are a number."""
    if number == 0:
        return 1.0, 0
    return float(np.float32(abs(number) / LARGEST[kind])), LARGEST[kind] if number > 0 else -LARGEST[kind]


def in_encoding(walk: Walk, site: Site, value: ir.Value, order: Order, quantization: Quantization) -> int:
    """A value so that it broadcasts in an order, rounded as said: for kernels that compare integers as they are."""
    known = walk.constant(value)
    if known is not None and known.dtype == np.float32:
        tensor = broadcastable(walk, site, value, order)
        shape = walk.shape_of(tensor)
        held = walk.draft.tensors[tensor]
        if held.quantization == quantization:
            return tensor
        number = known.reshape(-1)[:1] if is_uniform(known) else _real(walk, tensor)
        return walk.draft.constant(held.name, rounded(number, quantization, site.kind).reshape(shape), quantization)
    tensor = broadcastable(walk, site, value, order)
    held = walk.draft.tensors[tensor]
    if held.quantization is None or held.quantization == quantization:
        return tensor
    made = walk.draft.tensor(f"{held.name}_rounded", held.type, held.shape, quantization)
    walk.emit("QUANTIZE", (tensor,), (made,))
    return made


def _real(walk: Walk, tensor: int) -> np.ndarray:
    held = walk.draft.tensors[tensor]
    if held.data is None or held.quantization is None:
        raise ValueError(f"{held.name!r} is no stored constant")
    scale, zero_point = held.quantization.scales[0], held.quantization.zero_points[0]
    return (held.data.astype(np.float64) - zero_point) * scale


def rounded(numbers: np.ndarray, quantization: Quantization, kind: str) -> np.ndarray:
    """Real numbers as integers of an encoding."""
    bounds = np.iinfo(kind)
    steps = np.rint(np.asarray(numbers, np.float64) / quantization.scales[0]) + quantization.zero_points[0]
    return np.asarray(np.clip(steps, bounds.min, bounds.max).astype(kind))
