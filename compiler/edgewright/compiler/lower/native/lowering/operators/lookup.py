"""Gather and Resize."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import onnx_ir as ir

from .....attributes import integer, integers, needed, text
from ...net import Gather, Resize
from ..elementwise import computable
from ..views import memory_shape
from ..walk import Walk, identity
from .movement import gather_constant, give_same, known
from .windows import PICTURE, SEQUENCE

Lines = tuple[tuple[int, int, float], ...]
_LEAST_SHARE = 1e-9


def gather(walk: Walk, node: ir.Node) -> None:
    """Rows at constant or computed indices; an embedding where the rows are constant."""
    x, indices = needed(node, 0), needed(node, 1)
    shape = walk.shape(x)
    axis = integer(node, "axis", 0) % len(shape)
    fixed = walk.constant(indices)
    if fixed is not None:
        gather_constant(walk, x, fixed, axis, node.outputs[0])
        return
    places = walk.read(indices, identity(len(walk.shape(indices))))
    if places.dtype not in ("s32", "s64"):
        walk.refuse(node, f"its indices are of type {places.dtype}", "cast them to int64")
    table = walk.constant(x)
    rows = np.ascontiguousarray(computable(table)) if table is not None else walk.read(x, identity(len(shape)))
    if table is not None and table.dtype.kind != "f":
        rows = np.ascontiguousarray(table)
    result = (*shape[:axis], *places.shape, *shape[axis + 1 :])
    y = walk.fresh(node.outputs[0].name or "", result, walk.dtype(x))
    walk.emit(
        Gather(
            x=rows,
            indices=places,
            y=y,
            outer=math.prod(shape[:axis]),
            rows=shape[axis],
            inner=math.prod(shape[axis + 1 :]),
            origin=walk.origin,
        )
    )
    walk.give(node.outputs[0], y, identity(len(result)))


def resize(walk: Walk, node: ir.Node) -> None:
    """Resize and Upsample of pictures and sequences: nearest and linear."""
    x, result = needed(node, 0), node.outputs[0]
    shape, mode = walk.shape(x), text(node, "mode", "nearest")
    out, scales = _sizes(walk, node, shape)
    if len(shape) not in (3, 4) or out[:2] != shape[:2]:
        walk.refuse(
            node, f"it makes {out} of {shape}", "native code resizes the last axes of (N, C, H, W) or (N, C, L)"
        )
    if mode not in ("nearest", "linear") or integer(node, "antialias", 0):
        walk.refuse(node, f"its mode is {mode!r} or it smooths", "use nearest or linear without antialias")
    if walk.dtype(x) != "f32":
        walk.refuse(node, f"its input is of type {walk.dtype(x)}", "cast it to float32 before")
    if out == shape and all(scale == 1 for scale in scales):
        give_same(walk, x, result)
        return
    lines = [_lines(walk, node, size, made, scale) for size, made, scale in zip(shape, out, scales, strict=True)]
    rows = lines[2] if len(shape) == 4 else ((0, 0, 0.0),)
    order = PICTURE if len(shape) == 4 else SEQUENCE
    y = walk.fresh(result.name or "", memory_shape(order, out))
    walk.emit(Resize(x=walk.read(x, order), y=y, rows=rows, columns=lines[-1], origin=walk.origin))
    walk.give(result, y, order)


def _sizes(walk: Walk, node: ir.Node, shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Sizes and scales of all axes."""
    old = node.op_type == "Upsample" or walk.opset < 11
    factors, sizes = known(walk, node, 1 if old else 2), None if old else known(walk, node, 3)
    axes = integers(node, "axes") or tuple(range(len(shape)))
    out, scales = list(shape), [1.0] * len(shape)
    if sizes is not None and sizes.size:
        wanted = [int(size) for size in sizes]
        ratio = [size / shape[axis] for size, axis in zip(wanted, axes, strict=True)]
        policy = text(node, "keep_aspect_ratio_policy", "stretch")
        if policy != "stretch":
            shared = min(ratio) if policy == "not_larger" else max(ratio)
            ratio = [shared] * len(ratio)
            wanted = [math.floor(shared * shape[axis] + 0.5) for axis in axes]
        for axis, size, scale in zip(axes, wanted, ratio, strict=True):
            out[axis], scales[axis] = size, scale
        return tuple(out), tuple(scales)
    if factors is None or not factors.size:
        walk.refuse(node, "it has neither scales nor sizes", "repair the export")
    for axis, factor in zip(axes, (float(each) for each in factors.reshape(-1)), strict=True):
        out[axis], scales[axis] = math.floor(shape[axis] * factor), factor
    return tuple(out), tuple(scales)


def _lines(walk: Walk, node: ir.Node, size: int, out: int, scale: float) -> Lines:
    """For every place in the result the two places it is made of."""
    corner = node.op_type == "Upsample" or walk.opset < 11
    mode = "asymmetric" if corner else text(node, "coordinate_transformation_mode", "half_pixel")
    if mode == "tf_crop_and_resize":
        walk.refuse(node, "it crops (tf_crop_and_resize)", "slice before it")
    rounding = "floor" if corner else text(node, "nearest_mode", "round_prefer_floor")
    found = []
    for index in range(out):
        place = _original(mode, index, size, out, scale)
        if text(node, "mode", "nearest") == "nearest":
            nearest = min(max(_rounded(place, rounding), 0), size - 1)
            found.append((nearest, nearest, 0.0))
        else:
            held = min(max(place, 0.0), size - 1.0)
            first = min(math.floor(held), size - 1)
            share = held - first
            found.append((first, min(first + 1, size - 1), share if share > _LEAST_SHARE else 0.0))
    return tuple(found)


def _original(mode: str, index: int, size: int, out: int, scale: float) -> float:
    """Where a place of the result lies in the source (ONNX operators, Resize-19)."""
    match mode:
        case "asymmetric":
            return index / scale
        case "align_corners":
            return 0.0 if out == 1 else index * (size - 1) / (out - 1)
        case "pytorch_half_pixel":
            return (index + 0.5) / scale - 0.5 if out > 1 else 0.0
        case "half_pixel_symmetric":
            adjusted = out / (scale * size)
            return size / 2 * (1 - adjusted) + (index + 0.5) / scale - 0.5
        case "tf_half_pixel_for_nn":
            return (index + 0.5) / scale
        case _:
            return (index + 0.5) / scale - 0.5


def _rounded(place: float, rounding: str) -> int:
    match rounding:
        case "floor":
            return math.floor(place)
        case "ceil":
            return math.ceil(place)
        case "round_prefer_ceil":
            return math.floor(place + 0.5)
        case _:
            return math.ceil(place - 0.5)


TABLE: Mapping[str, Callable[[Walk, ir.Node], None]] = {"Gather": gather, "Resize": resize, "Upsample": resize}
