"""Conv with constant weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx_ir as ir

from .....attributes import given, integer, needed
from ...expression import Accumulator, Row, call
from ...net import Alias, Array, Convolution, Dense, Epilogue, Tensor
from ..walk import Order, Walk
from .windows import Windows, windows_of


def biased(bias: Array | None) -> Epilogue:
    """The sum with a number per channel added."""
    if bias is None or not np.any(bias):
        return Epilogue()
    return Epilogue(call("add", Accumulator(), Row(0)), (np.ascontiguousarray(bias, np.float32),))


def convolution(walk: Walk, node: ir.Node) -> None:
    """Conv; a product where windows are single points or the whole picture."""
    weight, bias = weight_of(walk, node), bias_of(walk, node)
    seen = windows_of(walk, node, weight.shape[2:])
    groups = integer(node, "group", 1)
    y, order = _result(walk, node, weight.shape[0], seen)
    weight = in_memory_order(weight)
    plain = seen.window == (1, 1) and seen.strides == (1, 1) and not any((*seen.begin, *seen.end))
    if groups == 1 and plain:
        x = walk.read(needed(node, 0), order)
        walk.emit(Dense(x=x, y=y, weight=weight[:, 0, 0], epilogue=biased(bias), origin=walk.origin))
    elif groups == 1 and seen.covers_all:
        _whole_picture(walk, walk.read(needed(node, 0), order), y, weight, bias)
    else:
        x = walk.bordered(needed(node, 0), order, seen.border(0.0))
        walk.emit(
            Convolution(
                x=x,
                y=y,
                weight=weight,
                strides=seen.strides,
                dilations=seen.dilations,
                top=seen.begin[0],
                left=seen.begin[1],
                groups=groups,
                epilogue=biased(bias),
                origin=walk.origin,
            )
        )
    walk.give(node.outputs[0], y, order)


def _whole_picture(walk: Walk, x: Tensor, y: Tensor, weight: Array, bias: Array | None) -> None:
    """One window: every sample is a row of numbers."""
    flat = walk.fresh(f"{x.name}.flat", (x.shape[0], 1, 1, weight[0].size), x.dtype)
    walk.emit(Alias(x=x, y=flat, origin=walk.origin))
    rows = np.ascontiguousarray(weight.reshape(len(weight), -1))
    walk.emit(Dense(x=flat, y=y, weight=rows, epilogue=biased(bias), origin=walk.origin))


def weight_of(walk: Walk, node: ir.Node) -> Array:
    """(K, C, H, W) or (K, C, L), constant."""
    weight = walk.constant(needed(node, 1))
    if weight is None:
        walk.refuse(node, "its weights are computed at run time", "make them constant before the export")
    if weight.dtype != np.float32:
        walk.refuse(node, f"its weights are {weight.dtype}", "convert the model to float32")
    if weight.ndim not in (3, 4):
        walk.refuse(node, f"its weights have shape {weight.shape}", "native code computes one and two dimensions")
    return weight


def bias_of(walk: Walk, node: ir.Node) -> Array | None:
    """A number per channel, constant."""
    value = given(node, 2)
    bias = None if value is None else walk.constant(value)
    if value is not None and bias is None:
        walk.refuse(node, "its bias is computed at run time", "make it constant, or add it by an Add")
    return bias


def in_memory_order(weight: Array) -> Array:
    """(K, C, H, W) or (K, C, L) as (K, H, W, C)."""
    four = weight if weight.ndim == 4 else weight[:, :, None, :]
    return np.ascontiguousarray(four.transpose(0, 2, 3, 1))


def _result(walk: Walk, node: ir.Node, channels: int, seen: Windows) -> tuple[Tensor, Order]:
    batch = walk.shape(needed(node, 0))[0]
    y = walk.fresh(node.outputs[0].name or "", (batch, *seen.out, channels))
    return y, seen.order


TABLE: Mapping[str, Callable[[Walk, ir.Node], None]] = {"Conv": convolution}
