"""Operators that take parts of a value, along axes as they lie in memory."""

from __future__ import annotations

from typing import Final

import numpy as np
import onnx_ir as ir

from ....attributes import integer
from ..parameters import listed
from ..sites import Form, Site
from ..walk import Walk
from .operator import INT8_AND_16, Operator

MAX_RANK: Final = 5
"""Of STRIDED_SLICE's and SLICE's kernels."""


def slices(walk: Walk, site: Site) -> None:
    """SLICE, STRIDED_SLICE where steps are not 1 or the batch is free; nothing where all is taken.

    Not: starts, ends or steps that are computed; more than 5 axes; no elements at all.
    """
    value = site.input(0)
    shape = walk.shape(value)
    starts, ends = listed(walk, site, 1, "starts") or (), listed(walk, site, 2, "ends") or ()
    axes = listed(walk, site, 3, "axes") or tuple(range(len(starts)))
    steps = listed(walk, site, 4, "steps") or (1,) * len(starts)
    if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
        walk.refuse(site.node, "its starts, ends, axes and steps do not fit each other", "correct the model")
    runs = [range(size) for size in shape]
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        runs[axis % len(shape)] = range(shape[axis % len(shape)])[start:end:step]
    order = walk.order_of(site, value)
    x = walk.data(site, value, order)
    in_order = [range(1) if axis < 0 else runs[axis] for axis in order]
    y = taken(walk, site.node, x, in_order, site.results[0].name or "")
    walk.finish(site, y, order)


def taken(walk: Walk, node: ir.Node, x: int, runs: list[range], name: str) -> int:
    """Of each axis in memory the places of a run; an axis that is taken whole keeps a size that callers set."""
    shape = walk.shape_of(x)
    whole = [run == range(size) for run, size in zip(runs, shape, strict=True)]
    if all(whole):
        return x
    if len(shape) > MAX_RANK:
        walk.refuse(node, f"it has {len(shape)} axes", f"use at most {MAX_RANK}")
    if not all(runs):
        walk.refuse(node, "it takes no elements", "leave it out")
    y = walk.like(x, tuple(len(run) for run in runs), name)
    if all(run.step == 1 for run in runs) and not walk.free_batch:  # SLICE's kernel does not let callers resize
        begin = _constant(walk, "begin", [run.start for run in runs])
        size = _constant(walk, "size", [-1 if all_of else len(run) for run, all_of in zip(runs, whole, strict=True)])
        walk.emit("SLICE", (x, begin, size), (y,))
        return y
    begin = _constant(walk, "begin", [run.start for run in runs])
    end = _constant(walk, "end", [max(run.stop, 0) for run in runs])
    steps = _constant(walk, "steps", [run.step for run in runs])
    untouched = _mask(whole)
    to_the_edge = _mask([all_of or run.stop < 0 for run, all_of in zip(runs, whole, strict=True)])
    walk.emit("STRIDED_SLICE", (x, begin, end, steps), (y,), beginMask=untouched, endMask=to_the_edge)
    return y


def _mask(flags: list[bool]) -> int:
    return sum(1 << index for index, flag in enumerate(flags) if flag)


def _constant(walk: Walk, name: str, numbers: list[int]) -> int:
    return walk.draft.constant(name, np.asarray(numbers, np.int32))


def split(walk: Walk, site: Site) -> None:
    """SPLIT, SPLIT_V where the parts differ in size.

    Not: sizes that are computed; parts without elements.
    """
    value = site.input(0)
    shape = walk.shape(value)
    axis = integer(site.node, "axis", 0) % len(shape)
    sizes = _sizes(walk, site, shape[axis])
    if sum(sizes) != shape[axis] or min(sizes) < 0 or len(sizes) != len(site.node.outputs):
        walk.refuse(site.node, f"its parts {sizes} do not fit an axis of {shape[axis]}", "correct the model")
    parted = [(index, size) for index, size in enumerate(sizes) if size or _is_read(site.node.outputs[index])]
    if any(size == 0 for _, size in parted):
        walk.refuse(site.node, f"one of its parts {sizes} is empty and read", "leave the empty part unread")
    sizes = tuple(size for _, size in parted)
    order = walk.order_of(site, value)
    x = walk.data(site, value, order)
    place = order.index(axis)
    memory = walk.shape_of(x)
    if len(sizes) == 1:
        walk.finish(site, x, order, parted[0][0])
        return
    parts = tuple(
        walk.like(x, (*memory[:place], size, *memory[place + 1 :]), site.results[index].name or f"{value.name}_part")
        for index, size in parted
    )
    where = walk.draft.constant("axis", np.asarray(place, np.int32))
    if len(set(sizes)) == 1:
        walk.emit("SPLIT", (where, x), parts, numSplits=len(sizes))
    else:
        walk.emit("SPLIT_V", (x, _constant(walk, "sizes", list(sizes)), where), parts, numSplits=len(sizes))
    for (index, _), part in zip(parted, parts, strict=True):
        if site.results[index].name:
            walk.finish(site, part, order, index)


def _is_read(value: ir.Value) -> bool:
    return bool(value.uses()) or value.is_graph_output()


def _sizes(walk: Walk, site: Site, size: int) -> tuple[int, ...]:
    """As given, or as equal as they can be: the last is the smallest."""
    given = listed(walk, site, 1, "split")
    if given is not None:
        return given
    count = len(site.node.outputs)
    each = -(-size // count)
    return tuple(min(each, size - each * index) for index in range(count))


_MOVES = Form(integers=INT8_AND_16)

TABLE = {"Slice": Operator(slices, _MOVES), "Split": Operator(split, _MOVES)}
