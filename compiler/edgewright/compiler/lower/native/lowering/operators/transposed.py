"""ConvTranspose with constant weights: one convolution that makes all phases of the result as channels, then a copy.

With stride s, output q * s + a of an axis is a sum over few inputs near q, whose weights depend on the phase a alone
(sub-pixel convolution: Shi et al., "Is the deconvolution layer the same as a convolutional layer?", 2016). Phases whose
windows are shorter than the longest have zeros there. Dilated kernels see the picture with zeros between its points.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from .....attributes import integer, integers, needed, text
from ...net import Array, Border, Convolution, Dense, Move, Part, Tensor
from ..views import give_parts, memory_shape
from ..walk import UNIT, Order, Walk
from .convolutions import bias_of, biased, in_memory_order, weight_of
from .windows import PICTURE, SEQUENCE


def transposed_convolution(walk: Walk, node: ir.Node) -> None:
    """By phases, or, with a dilated kernel or steps of 1, as the convolution that it is."""
    weight = weight_of(walk, node)
    count = weight.ndim - 2
    strides = integers(node, "strides") or (1,) * count
    dilations = integers(node, "dilations") or (1,) * count
    shape = walk.shape(needed(node, 0))
    begin, out = _transposed_size(walk, node, shape[2:], weight.shape[2:], strides, dilations)
    if max(strides) > 1 and max(dilations) == 1:
        _by_phases(walk, node, weight, strides, begin, out)
    else:
        _between_zeros(walk, node, weight, strides, dilations, begin, out)


@dataclass(frozen=True)
class _Line:
    """One axis: which input (relative to q) meets which kernel element in every phase."""

    stride: int
    first: int
    """The lowest input, at most 0."""
    window: int
    taps: tuple[tuple[int, int, int], ...]
    """Phase, place in the window, kernel element."""
    steps: int
    """How many q there are."""


def _line(kernel: int, stride: int, begin: int, out: int) -> _Line:
    met = [
        (phase, (phase + begin - element) // stride, element)
        for phase in range(stride)
        for element in range(kernel)
        if (phase + begin - element) % stride == 0
    ]
    first = min(0, *(place for _, place, _ in met))
    last = max(0, *(place for _, place, _ in met))
    taps = tuple((phase, place - first, element) for phase, place, element in met)
    return _Line(stride, first, last - first + 1, taps, -(-out // stride))


def _by_phases(
    walk: Walk, node: ir.Node, weight: Array, strides: tuple[int, ...], begin: tuple[int, ...], out: tuple[int, ...]
) -> None:
    groups, bias = integer(node, "group", 1), bias_of(walk, node)
    lines = [_line(*each) for each in zip(weight.shape[2:], strides, begin, out, strict=True)]
    order, out_two = (PICTURE, out) if len(lines) == 2 else (SEQUENCE, (1, *out))
    if len(lines) == 1:
        lines, weight = [_line(1, 1, 0, 1), *lines], weight[:, :, None]
    rows, columns = lines
    shape = walk.shape(needed(node, 0))
    size = (1, *shape[2:])[-2:]
    made = weight.shape[1]
    phases = rows.stride * columns.stride
    kernel = _phase_weights(weight, groups, rows, columns)
    value = ir.Value(name=f"{node.outputs[0].name}.phases")
    y = walk.fresh(value.name or "", (shape[0], rows.steps, columns.steps, groups * phases * made))
    tiled = None if bias is None else np.tile(bias.reshape(groups, 1, made), (1, phases, 1)).reshape(-1)
    reach = [
        max(0, line.steps - 1 + line.first + line.window - length) for line, length in zip(lines, size, strict=True)
    ]
    border = Border(-rows.first, -columns.first, reach[0], reach[1], 0.0)
    x = walk.bordered(needed(node, 0), order, border)
    if groups == 1 and (rows.window, columns.window) == (1, 1) and not border:
        flat = np.ascontiguousarray(kernel[:, 0, 0])
        walk.emit(Dense(x=x, y=y, weight=flat, epilogue=biased(tiled), origin=walk.origin))
    else:
        walk.emit(
            Convolution(
                x=x,
                y=y,
                weight=kernel,
                top=-rows.first,
                left=-columns.first,
                groups=groups,
                epilogue=biased(tiled),
                origin=walk.origin,
            )
        )
    result = walk.fresh(node.outputs[0].name or "", (shape[0], *out_two, groups * made))
    give_parts(walk, node.outputs[0], result, order, _interleaved(y, result, groups, rows, columns))


def _phase_weights(weight: Array, groups: int, rows: _Line, columns: _Line) -> Array:
    """(groups * phases * K, window, window, C / groups)."""
    taken, made = weight.shape[0] // groups, weight.shape[1]
    split = weight.reshape(groups, taken, made, *weight.shape[2:])
    shape = (groups, rows.stride, columns.stride, made, rows.window, columns.window, taken)
    found = np.zeros(shape, np.float32)
    for (a, i, p), (b, j, q) in itertools.product(rows.taps, columns.taps):
        found[:, a, b, :, i, j, :] = split[:, :, :, p, q].swapaxes(1, 2)
    return np.ascontiguousarray(found.reshape(-1, rows.window, columns.window, taken))


def _interleaved(y: Tensor, result: Tensor, groups: int, rows: _Line, columns: _Line) -> tuple[Part, ...]:
    """Every phase to its places."""
    batch, high, wide, channels = result.shape
    made = channels // groups
    n, h, w, c = result.strides
    x_n, x_h, x_w, _ = y.strides
    parts = []
    for a, b in itertools.product(range(rows.stride), range(columns.stride)):
        extents = (batch, -(-(high - a) // rows.stride), -(-(wide - b) // columns.stride), groups, made)
        if min(extents) < 1:
            continue
        parts.append(
            Part(
                x=y,
                extents=extents,
                x_strides=(x_n, x_h, x_w, rows.stride * columns.stride * made, 1),
                y_strides=(n, h * rows.stride, w * columns.stride, c * made, c),
                x_start=(a * columns.stride + b) * made,
                y_start=a * h + b * w,
            )
        )
    return tuple(parts)


def _between_zeros(
    walk: Walk,
    node: ir.Node,
    weight: Array,
    strides: tuple[int, ...],
    dilations: tuple[int, ...],
    begin: tuple[int, ...],
    out: tuple[int, ...],
) -> None:
    """The picture with zeros between its points, under the kernel turned round."""
    count, groups, bias = weight.ndim - 2, integer(node, "group", 1), bias_of(walk, node)
    turned, shape = _turned(weight, groups), walk.shape(needed(node, 0))
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
            weight=in_memory_order(turned),
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


TABLE: Mapping[str, Callable[[Walk, ir.Node], None]] = {"ConvTranspose": transposed_convolution}
