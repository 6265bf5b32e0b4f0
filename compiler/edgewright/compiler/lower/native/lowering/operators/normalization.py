"""Softmax and normalizations."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import onnx_ir as ir

from .....attributes import given, integer, needed, number
from ...expression import Expression, call
from ...net import Alias, Array, Normalize, Softmax
from ..elementwise import emit_map
from ..views import give_reshaped
from ..walk import UNIT, Order, Walk, identity

AXIS_ALONE_OPSET = 13
"""Before it, Softmax took all axes from `axis` on as one."""
PER_CHANNEL_OPSET = 21
"""Before it, GroupNormalization had a scale per group."""


def softmax(walk: Walk, node: ir.Node) -> None:
    """Along any axis."""
    x, result = needed(node, 0), node.outputs[0]
    if walk.dtype(x) != "f32":
        walk.refuse(node, f"its input is of type {walk.dtype(x)}", "cast it to float32 before")
    shape, logarithm = walk.shape(x), node.op_type == "LogSoftmax"
    axis = integer(node, "axis", -1 if walk.opset >= AXIS_ALONE_OPSET else 1) % len(shape)
    if walk.opset >= AXIS_ALONE_OPSET or axis == len(shape) - 1:
        _softmax(walk, x, result, axis, logarithm)
        return
    flat, soft = ir.Value(name=f"{result.name}.flat"), ir.Value(name=f"{result.name}.soft")
    give_reshaped(walk, x, flat, (math.prod(shape[:axis]), math.prod(shape[axis:])))
    _softmax(walk, flat, soft, 1, logarithm)
    give_reshaped(walk, soft, result, shape)


def _softmax(walk: Walk, x: ir.Value, result: ir.Value, axis: int, logarithm: bool) -> None:
    order = _innermost(walk, x, (axis,))
    source = walk.read(x, order)
    y = walk.fresh(result.name or "", source.shape)
    walk.emit(Softmax(x=source, y=y, logarithm=logarithm, origin=walk.origin))
    walk.give(result, y, order)


def _innermost(walk: Walk, x: ir.Value, axes: tuple[int, ...]) -> Order:
    """The order in which a value lies, where these axes are innermost; else one that moves them there."""
    placed = walk.place(x)
    if placed.order[-len(axes) :] == axes:
        return placed.order
    others = tuple(axis for axis in placed.order if axis not in axes and axis != UNIT)
    return (*others, *axes)


def layer_normalization(walk: Walk, node: ir.Node) -> None:
    """LayerNormalization and RMSNormalization along the last axes."""
    x = needed(node, 0)
    shape = walk.shape(x)
    if any(value.uses() or value.is_graph_output() for value in node.outputs[1:]):
        walk.refuse(node, "its mean or deviation is used", "compute them by other operators")
    axis = integer(node, "axis", -1) % len(shape)
    axes = tuple(range(axis, len(shape)))
    order = _innermost(walk, x, axes)
    source = walk.read(x, order)
    y = walk.fresh(node.outputs[0].name or "", source.shape)
    walk.emit(
        Normalize(
            x=source,
            y=y,
            axes=len(axes),
            epsilon=number(node, "epsilon", 1e-5),
            scale=_spread(walk, node, 1, shape[axis:]),
            shift=_spread(walk, node, 2, shape[axis:]),
            centred=node.op_type == "LayerNormalization",
            origin=walk.origin,
        )
    )
    walk.give(node.outputs[0], y, order)


def _spread(walk: Walk, node: ir.Node, index: int, shape: tuple[int, ...]) -> Array | None:
    """A constant over the normalized axes, flat."""
    if given(node, index) is None:
        return None
    known = _constant(walk, node, index)
    return np.ascontiguousarray(np.broadcast_to(known, shape).reshape(-1), np.float32)


def _constant(walk: Walk, node: ir.Node, index: int) -> Array:
    value = needed(node, index)
    known = walk.constant(value)
    if known is None:
        walk.refuse(node, f"its input {value.name!r} is computed at run time", "make it constant before the export")
    return known


def batch_normalization(walk: Walk, node: ir.Node) -> None:
    """Of inference: a factor and a shift per channel."""
    x = needed(node, 0)
    if integer(node, "training_mode", 0):
        walk.refuse(node, "it is training", "export the model for inference")
    scale, shift, mean, variance = (_constant(walk, node, index).astype(np.float64) for index in range(1, 5))
    factor = scale / np.sqrt(variance + number(node, "epsilon", 1e-5))
    rank = len(walk.shape(x))
    _scaled(walk, x, node.outputs[0], factor, shift - mean * factor, (-1, *(1,) * (rank - 2)))


def _scaled(walk: Walk, x: ir.Value, result: ir.Value, factor: Array, shift: Array, shape: tuple[int, ...]) -> None:
    """Times a factor plus a shift, both per channel."""
    known = []
    for name, array in (("factor", factor), ("shift", shift)):
        value = ir.Value(name=f"{result.name}.{name}")
        walk.give_constant(value, array.astype(np.float32).reshape(shape))
        known.append(value)

    def build(each: Expression, by: Expression, more: Expression) -> Expression:
        return call("fma", each, by, more)

    emit_map(walk, [x, *known], result, "f32", build)


def instance_normalization(walk: Walk, node: ir.Node) -> None:
    """Every picture of every channel by itself."""
    x = needed(node, 0)
    shape = walk.shape(x)
    scale, shift = _constant(walk, node, 1), _constant(walk, node, 2)
    plain = ir.Value(name=f"{node.outputs[0].name}.plain")
    _normalized(walk, x, plain, (shape[0], shape[1], -1), number(node, "epsilon", 1e-5))
    _scaled(walk, plain, node.outputs[0], scale, shift, (-1, *(1,) * (len(shape) - 2)))


def group_normalization(walk: Walk, node: ir.Node) -> None:
    """Groups of channels with their pictures."""
    x = needed(node, 0)
    shape, groups = walk.shape(x), integer(node, "num_groups", 1)
    scale, shift = _constant(walk, node, 1), _constant(walk, node, 2)
    if walk.opset < PER_CHANNEL_OPSET:
        scale, shift = (np.repeat(each, shape[1] // groups) for each in (scale, shift))
    plain = ir.Value(name=f"{node.outputs[0].name}.plain")
    _normalized(walk, x, plain, (shape[0], groups, -1), number(node, "epsilon", 1e-5))
    _scaled(walk, plain, node.outputs[0], scale, shift, (-1, *(1,) * (len(shape) - 2)))


def _normalized(walk: Walk, x: ir.Value, result: ir.Value, rows: tuple[int, int, int], epsilon: float) -> None:
    """Along all elements of a row; rows are joined in the caller's order."""
    source = walk.read(x, identity(len(walk.shape(x))))
    flat = (rows[0], rows[1], source.elements // (rows[0] * rows[1]))
    joined, normal = walk.fresh(f"{result.name}.rows", flat), walk.fresh(f"{result.name}.normal", flat)
    y = walk.fresh(result.name or "", source.shape)
    walk.emit(Alias(x=source, y=joined, origin=walk.origin))
    walk.emit(Normalize(x=joined, y=normal, axes=1, epsilon=epsilon, origin=walk.origin))
    walk.emit(Alias(x=normal, y=y, origin=walk.origin))
    walk.give(result, y, identity(len(source.shape)))


TABLE: Mapping[str, Callable[[Walk, ir.Node], None]] = {
    "Softmax": softmax,
    "LogSoftmax": softmax,
    "LayerNormalization": layer_normalization,
    "RMSNormalization": layer_normalization,
    "BatchNormalization": batch_normalization,
    "InstanceNormalization": instance_normalization,
    "GroupNormalization": group_normalization,
}
