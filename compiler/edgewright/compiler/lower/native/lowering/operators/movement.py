"""Data that changes its place or only its shape."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from .....attributes import given, integer, integers, needed, text
from ...net import Array, Part, Tensor
from ..elementwise import computable
from ..views import give_parts, give_reshaped, in_order, memory_shape, strides_of
from ..walk import Order, Placed, Walk, identity

Run = tuple[int, int, int]
"""First source index, step and length."""


def known(walk: Walk, node: ir.Node, index: int) -> Array | None:
    """A constant input, None where it is left out.

    Raises:
        UnsupportedModel: it is computed at run time.
    """
    value = given(node, index)
    if value is None:
        return None
    array = walk.constant(value)
    if array is None:
        walk.refuse(
            node,
            f"its input {value.name!r} is computed at run time",
            "fix shapes and positions when you export the model",
        )
    return array


def listed(walk: Walk, node: ir.Node, index: int, attribute: str) -> tuple[int, ...] | None:
    """Integers that are an input in newer opsets, an attribute in older ones."""
    array = known(walk, node, index)
    return integers(node, attribute) if array is None else tuple(int(each) for each in array.reshape(-1))


def give_same(walk: Walk, value: ir.Value, result: ir.Value) -> None:
    """The value under another name."""
    placed = walk.place(value)
    walk.give(result, placed.tensor, placed.order)


def concat(walk: Walk, node: ir.Node) -> None:
    """Every input is read as it lies."""
    values = [value for value in node.inputs if value is not None and 0 not in walk.shape(value)]
    shape = list(walk.shape(values[0]))
    axis = integer(node, "axis", 0) % len(shape)
    shape[axis] = sum(walk.shape(value)[axis] for value in values)
    dynamic = [value for value in values if walk.constant(value) is None]
    order = max((walk.place(value) for value in dynamic), key=lambda placed: placed.tensor.elements).order
    y = walk.fresh(node.outputs[0].name or "", memory_shape(order, tuple(shape)), walk.dtype(dynamic[0]))
    parts, start = [], 0
    for value in values:
        parts.append(_copied(walk, value, y, order, start * strides_of(y, order)[axis]))
        start += walk.shape(value)[axis]
    give_parts(walk, node.outputs[0], y, order, tuple(parts))


def _copied(walk: Walk, value: ir.Value, y: Tensor, order: Order, start: int) -> Part:
    """All of a value to a place in y."""
    array = walk.constant(value)
    extents = memory_shape(order, walk.shape(value))
    if array is None:
        placed = walk.place(value)
        return Part(
            x=placed.tensor,
            extents=extents,
            x_strides=in_order(order, placed.strides),
            y_strides=y.strides,
            y_start=start,
        )
    content = np.ascontiguousarray(array if array.dtype.kind == "b" or y.dtype == "s64" else computable(array))
    steps = tuple(step // content.itemsize for step in content.strides)
    return Part(x=content, extents=extents, x_strides=in_order(order, steps), y_strides=y.strides, y_start=start)


def split(walk: Walk, node: ir.Node) -> None:
    """One slice per result."""
    x = needed(node, 0)
    shape = walk.shape(x)
    axis = integer(node, "axis", 0) % len(shape)
    sizes = listed(walk, node, 1, "split")
    if sizes is None:
        each = -(-shape[axis] // len(node.outputs))
        sizes = tuple(min(each, shape[axis] - each * index) for index in range(len(node.outputs)))
    start = 0
    for value, size in zip(node.outputs, sizes, strict=True):
        if value.uses() or value.is_graph_output():
            runs = [(0, 1, length) for length in shape]
            runs[axis] = (start, 1, size)
            _give_runs(walk, x, value, [[run] for run in runs])
        start += size


def slices(walk: Walk, node: ir.Node) -> None:
    """Constant starts, ends and steps."""
    x = needed(node, 0)
    shape = walk.shape(x)
    starts, ends = listed(walk, node, 1, "starts") or (), listed(walk, node, 2, "ends") or ()
    axes = listed(walk, node, 3, "axes") or tuple(range(len(starts)))
    steps = listed(walk, node, 4, "steps") or (1,) * len(starts)
    runs = [(0, 1, size) for size in shape]
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        taken = range(*slice(start, end if step > 0 or end >= -shape[axis] else None, step).indices(shape[axis]))
        runs[axis] = (taken.start, step, len(taken))
    _give_runs(walk, x, node.outputs[0], [[run] for run in runs])


def pad(walk: Walk, node: ir.Node) -> None:
    """Constant, reflect, edge and wrap; negative pads cut off."""
    x = needed(node, 0)
    shape = walk.shape(x)
    pads, axes = listed(walk, node, 1, "pads") or (), listed(walk, node, 3, "axes") or tuple(range(len(shape)))
    amounts = [(0, 0)] * len(shape)
    for index, axis in enumerate(axes):
        amounts[axis] = (pads[index], pads[index + len(axes)])
    mode = text(node, "mode", "constant")
    if mode == "constant":
        value = known(walk, node, 2)
        _pad_constant(walk, x, node.outputs[0], amounts, 0.0 if value is None else float(value.reshape(-1)[0]))
        return
    if mode not in _INDICES:
        walk.refuse(node, f"its mode is {mode!r}", "use constant, reflect, edge or wrap")
    indices = [
        _INDICES[mode](np.arange(-before, size + after), size)
        for size, (before, after) in zip(shape, amounts, strict=True)
    ]
    _give_runs(walk, x, node.outputs[0], [runs_of(each) for each in indices])


_INDICES: Mapping[str, Callable[[Array, int], Array]] = {
    "edge": lambda index, size: np.clip(index, 0, size - 1),
    "wrap": lambda index, size: index % size,
    "reflect": lambda index, size: size - 1 - abs(index % max(2 * size - 2, 1) - (size - 1)),
}


def _pad_constant(walk: Walk, x: ir.Value, result: ir.Value, amounts: Sequence[tuple[int, int]], fill: float) -> None:
    placed = walk.place(x)
    order, shape = placed.order, placed.shape
    full = tuple(before + size + after for size, (before, after) in zip(shape, amounts, strict=True))
    y = walk.fresh(result.name or "", memory_shape(order, full), placed.tensor.dtype)
    steps = strides_of(y, order)
    cut = [(max(0, -before), max(0, -after)) for before, after in amounts]
    extents = tuple(size - first - last for size, (first, last) in zip(shape, cut, strict=True))
    part = Part(
        x=placed.tensor,
        extents=memory_shape(order, extents),
        x_strides=in_order(order, placed.strides),
        y_strides=y.strides,
        x_start=sum(first * stride for (first, _), stride in zip(cut, placed.strides, strict=True)),
        y_start=sum(max(0, before) * stride for (before, _), stride in zip(amounts, steps, strict=True)),
    )
    give_parts(walk, result, y, order, (part,), fill if full != extents else None)


def runs_of(indices: Array) -> list[Run]:
    """Indices as arithmetic progressions, as few as a single look gives."""
    found: list[Run] = []
    for index in (int(each) for each in indices.reshape(-1)):
        if found and found[-1][2] == 1:
            found[-1] = (found[-1][0], index - found[-1][0], 2)
        elif found and index == found[-1][0] + found[-1][1] * found[-1][2]:
            found[-1] = (*found[-1][:2], found[-1][2] + 1)
        else:
            found.append((index, 1, 1))
    return found


def _give_runs(walk: Walk, x: ir.Value, result: ir.Value, runs: Sequence[Sequence[Run]]) -> None:
    """For every combination of runs, one per axis, a part; the value itself where it is taken whole."""
    placed = walk.place(x)
    order = placed.order
    if all(list(each) == [(0, 1, size)] for each, size in zip(runs, placed.shape, strict=True)):
        give_same(walk, x, result)
        return
    shape = tuple(sum(length for _, _, length in each) for each in runs)
    y = walk.fresh(result.name or "", memory_shape(order, shape), placed.tensor.dtype)
    parts = tuple(_run_part(placed, y, chosen) for chosen in itertools.product(*map(_placed_runs, runs)))
    give_parts(walk, result, y, order, parts)


def _placed_runs(runs: Sequence[Run]) -> list[tuple[Run, int]]:
    """Runs and where each begins in the result."""
    ends = list(itertools.accumulate((length for _, _, length in runs), initial=0))
    return list(zip(runs, ends, strict=False))


def _run_part(placed: Placed, y: Tensor, chosen: Sequence[tuple[Run, int]]) -> Part:
    order, made = placed.order, strides_of(y, placed.order)
    return Part(
        x=placed.tensor,
        extents=memory_shape(order, tuple(run[2] for run, _ in chosen)),
        x_strides=in_order(
            order, tuple(run[1] * stride for (run, _), stride in zip(chosen, placed.strides, strict=True))
        ),
        y_strides=y.strides,
        x_start=sum(run[0] * stride for (run, _), stride in zip(chosen, placed.strides, strict=True)),
        y_start=sum(start * stride for (_, start), stride in zip(chosen, made, strict=True)),
    )


def gather_constant(walk: Walk, x: ir.Value, indices: Array, axis: int, result: ir.Value) -> None:
    """Rows at places that are known: a few slices."""
    shape = walk.shape(x)
    wanted = np.where(indices < 0, indices + shape[axis], indices)
    runs = [[(0, 1, size)] for size in shape]
    runs[axis] = runs_of(wanted)
    taken = ir.Value(name=f"{result.name}.rows")
    _give_runs(walk, x, taken, runs)
    give_reshaped(walk, taken, result, (*shape[:axis], *indices.shape, *shape[axis + 1 :]))


def expand(walk: Walk, node: ir.Node) -> None:
    """Broadcasting to a shape."""
    x = needed(node, 0)
    asked = known(walk, node, 1)
    own = walk.shape(x)
    shape = tuple(np.broadcast_shapes(own, tuple(int(size) for size in (() if asked is None else asked))))
    if shape == own:
        give_same(walk, x, node.outputs[0])
        return
    placed, shift = walk.place(x), len(shape) - len(own)
    strides = (0,) * shift + tuple(0 if size == 1 else stride for size, stride in zip(own, placed.strides, strict=True))
    y = walk.fresh(node.outputs[0].name or "", shape, placed.tensor.dtype)
    give_parts(
        walk,
        node.outputs[0],
        y,
        identity(len(shape)),
        (Part(x=placed.tensor, extents=shape, x_strides=strides, y_strides=y.strides),),
    )


def tile(walk: Walk, node: ir.Node) -> None:
    """Whole copies along every axis."""
    x = needed(node, 0)
    repeats = listed(walk, node, 1, "repeats") or ()
    runs = [[(0, 1, size)] * count for size, count in zip(walk.shape(x), repeats, strict=True)]
    _give_runs(walk, x, node.outputs[0], runs)


def depth_to_space(walk: Walk, node: ir.Node) -> None:
    """Channels to blocks of points, by one copy of six axes."""
    x, block = needed(node, 0), integer(node, "blocksize", 1)
    placed = walk.place(x)
    batch, channels, height, width = placed.shape
    left = channels // block**2
    picture: Order = (0, 2, 3, 1)
    y = walk.fresh(node.outputs[0].name or "", (batch, height * block, width * block, left), placed.tensor.dtype)
    n, c, h, w = placed.strides
    depth_first = text(node, "mode", "DCR") == "DCR"
    blocks, kept = (c * left, c) if depth_first else (c, c * block**2)
    yn, yh, yw, yc = y.strides
    part = Part(
        x=placed.tensor,
        extents=(batch, height, block, width, block, left),
        x_strides=(n, h, blocks * block, w, blocks, kept),
        y_strides=(yn, yh * block, yh, yw * block, yw, yc),
    )
    give_parts(walk, node.outputs[0], y, picture, (part,))


def space_to_depth(walk: Walk, node: ir.Node) -> None:
    """Blocks of points to channels."""
    x, block = needed(node, 0), integer(node, "blocksize", 1)
    placed = walk.place(x)
    batch, channels, height, width = placed.shape
    shape = (batch, height // block, width // block, channels * block**2)
    y = walk.fresh(node.outputs[0].name or "", shape, placed.tensor.dtype)
    n, c, h, w = placed.strides
    yn, yh, yw, yc = y.strides
    part = Part(
        x=placed.tensor,
        extents=(batch, height // block, width // block, block, block, channels),
        x_strides=(n, h * block, w * block, h, w, c),
        y_strides=(yn, yh, yw, yc * channels * block, yc * channels, yc),
    )
    give_parts(walk, node.outputs[0], y, (0, 2, 3, 1), (part,))


TABLE: Mapping[str, Callable[[Walk, ir.Node], None]] = {
    "Concat": concat,
    "Split": split,
    "Slice": slices,
    "Pad": pad,
    "Expand": expand,
    "Tile": tile,
    "DepthToSpace": depth_to_space,
    "SpaceToDepth": space_to_depth,
}
