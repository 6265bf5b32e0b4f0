"""Conv and ConvTranspose with constant weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx_ir as ir

from ...expression import Accumulator, Row, call
from ...net import Alias, Array, Border, Convolution, Dense, Epilogue, Move, Part, Tensor
from ..attributes import given, integer, integers, needed, text
from ..views import memory_shape
from ..walk import UNIT, Order, Walk
from .windows import PICTURE, SEQUENCE, Windows, windows_of


def biased(bias: Array | None) -> Epilogue:
    """The sum with a number per channel added."""
    if bias is None or not np.any(bias):
        return Epilogue()
    return Epilogue(call("add", Accumulator(), Row(0)), (np.ascontiguousarray(bias, np.float32),))


def convolution(walk: Walk, node: ir.Node) -> None:
    """Conv; a product where windows are single points or the whole picture."""
    weight, bias = _weight(walk, node), _bias(walk, node)
    seen = windows_of(walk, node, weight.shape[2:])
    groups = integer(node, "group", 1)
    y, order = _result(walk, node, weight.shape[0], seen)
    weight = _in_memory_order(weight)
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


def _weight(walk: Walk, node: ir.Node) -> Array:
    weight = walk.constant(needed(node, 1))
    if weight is None:
        walk.refuse(node, "its weights are computed at run time", "make them constant before the export")
    if weight.dtype != np.float32:
        walk.refuse(node, f"its weights are {weight.dtype}", "convert the model to float32")
    if weight.ndim not in (3, 4):
        walk.refuse(node, f"its weights have shape {weight.shape}", "native code computes one and two dimensions")
    return weight


def _bias(walk: Walk, node: ir.Node) -> Array | None:
    value = given(node, 2)
    bias = None if value is None else walk.constant(value)
    if value is not None and bias is None:
        walk.refuse(node, "its bias is computed at run time", "make it constant, or add it by an Add")
    return bias


def _in_memory_order(weight: Array) -> Array:
    """(K, C, H, W) or (K, C, L) as (K, H, W, C)."""
    four = weight if weight.ndim == 4 else weight[:, :, None, :]
    return np.ascontiguousarray(four.transpose(0, 2, 3, 1))


def _result(walk: Walk, node: ir.Node, channels: int, seen: Windows) -> tuple[Tensor, Order]:
    batch = walk.shape(needed(node, 0))[0]
    y = walk.fresh(node.outputs[0].name or "", (batch, *seen.out, channels))
    return y, seen.order


def transposed_convolution(walk: Walk, node: ir.Node) -> None:
    """ConvTranspose: the picture with zeros between its points, under the kernel turned round."""
    weight, bias = _weight(walk, node), _bias(walk, node)
    count, groups = weight.ndim - 2, integer(node, "group", 1)
    turned = _turned(weight, groups)
    strides = integers(node, "strides") or (1,) * count
    dilations = integers(node, "dilations") or (1,) * count
    shape = walk.shape(needed(node, 0))
    begin, out = _transposed_size(walk, node, shape[2:], weight.shape[2:], strides, dilations)
    reach = [(size - 1) * each for size, each in zip(weight.shape[2:], dilations, strict=True)]
    before = tuple(each - pad for each, pad in zip(reach, begin, strict=True))
    if min(before) < 0:
        walk.refuse(node, "its pads are wider than its kernel", "slice its result instead")
    order = PICTURE if count == 2 else SEQUENCE
    x = _spread(walk, node, order, strides, before, out, reach)
    two = tuple(dilations) if count == 2 else (1, *dilations)
    top, left = before if count == 2 else (0, *before)
    y = walk.fresh(node.outputs[0].name or "", memory_shape(order, (shape[0], turned.shape[0], *out)))
    walk.emit(
        Convolution(
            x=x,
            y=y,
            weight=_in_memory_order(turned),
            dilations=(two[0], two[1]),
            top=top,
            left=left,
            groups=groups,
            epilogue=biased(bias),
            origin=walk.origin,
        )
    )
    walk.give(node.outputs[0], y, order)


def _turned(weight: Array, groups: int) -> Array:
    """(C, K / groups, ...) as the (K, C / groups, ...) of the convolution that computes the same."""
    given_channels, made = weight.shape[:2]
    split = weight.reshape(groups, given_channels // groups, made, *weight.shape[2:]).swapaxes(1, 2)
    whole = split.reshape(groups * made, given_channels // groups, *weight.shape[2:])
    return np.asarray(np.flip(whole, tuple(range(2, whole.ndim))))


def _transposed_size(
    walk: Walk,
    node: ir.Node,
    size: tuple[int, ...],
    kernel: tuple[int, ...],
    strides: tuple[int, ...],
    dilations: tuple[int, ...],
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Padding that is taken off at the beginning, and the size of the result."""
    count = len(kernel)
    extra = integers(node, "output_padding") or (0,) * count
    full = tuple(
        (length - 1) * stride + (window - 1) * dilation + 1 + more
        for length, stride, window, dilation, more in zip(size, strides, kernel, dilations, extra, strict=True)
    )
    mode, asked = text(node, "auto_pad", "NOTSET"), integers(node, "output_shape")
    if mode in ("SAME_UPPER", "SAME_LOWER") and asked is None:
        asked = tuple(length * stride for length, stride in zip(size, strides, strict=True))
    if asked is not None:
        total = [max(0, a - b) for a, b in zip(full, asked[-count:], strict=True)]
        half = [each // 2 for each in total]
        begin = tuple(half if mode == "SAME_UPPER" else (a - b for a, b in zip(total, half, strict=True)))
        return begin, asked[-count:]
    pads = integers(node, "pads") or (0,) * (2 * count)
    out = tuple(a - b - c for a, b, c in zip(full, pads[:count], pads[count:], strict=True))
    if mode == "VALID":
        return (0,) * count, full
    if min(out) < 1:
        walk.refuse(node, f"its result has shape {out}", "repair its pads")
    return pads[:count], out


def _spread(
    walk: Walk,
    node: ir.Node,
    order: Order,
    strides: tuple[int, ...],
    before: tuple[int, ...],
    out: tuple[int, ...],
    reach: list[int],
) -> Tensor:
    """The input with zeros between its points and around it."""
    placed = walk.place(needed(node, 0))
    size = tuple((length - 1) * stride + 1 for length, stride in zip(placed.shape[2:], strides, strict=True))
    after = tuple(max(0, o + r - b - s) for o, r, b, s in zip(out, reach, before, size, strict=True))
    two_before, two_after = (before, after) if len(before) == 2 else ((0, *before), (0, *after))
    border = Border(two_before[0], two_before[1], two_after[0], two_after[1], 0.0)
    shape = memory_shape(order, (*placed.shape[:2], *size))
    y = walk.fresh(f"{placed.tensor.name}.spread", shape, "f32", border)
    per_axis = dict(zip(order, y.strides, strict=True))
    for axis, stride in enumerate(strides, start=2):
        per_axis[axis] *= stride
    part = Part(
        x=placed.tensor,
        extents=memory_shape(order, placed.shape),
        x_strides=tuple(0 if axis == UNIT else placed.strides[axis] for axis in order),
        y_strides=tuple(per_axis[axis] for axis in order),
    )
    walk.emit(Move(y=y, parts=(part,), fill=0.0, origin=walk.origin))
    return y


TABLE: Mapping[str, Callable[[Walk, ir.Node], None]] = {
    "Conv": convolution,
    "ConvTranspose": transposed_convolution,
}
