"""Borders around values, along axes as they lie in memory."""

from __future__ import annotations

from typing import Final

import numpy as np

from ....attributes import text
from ..orders import UNIT
from ..parameters import known, listed
from ..sites import Form, Site
from ..walk import Walk, numpy_of
from .joining import requantized, rounded
from .operator import INT8_AND_16, Operator
from .slicing import taken

REFLECT: Final = 0
SYMMETRIC: Final = 1
MAX_RINGS: Final = 8
"""How often an edge is repeated, one ring an operator."""

Amounts = list[tuple[int, int]]
"""Before and after, by axis in memory."""


def pad(walk: Walk, site: Site) -> None:
    """PAD, PADV2 for other numbers than 0, MIRROR_PAD for reflect and edge; SLICE where paddings are negative.

    Not: paddings that are computed; wrap; edges repeated more than 8 times.
    """
    value = site.input(0)
    shape = walk.shape(value)
    mode = text(site.node, "mode", "constant")
    order = walk.order_of(site, value)
    amounts = _amounts(walk, site, len(shape))
    in_order = [(0, 0) if axis == UNIT else amounts[axis] for axis in order]
    x = walk.data(site, value, order)
    if site.integer:
        x = requantized(walk, x, site.encodings[0].quantization)
    x = _cut(walk, site, x, in_order)
    in_order = [(max(before, 0), max(after, 0)) for before, after in in_order]
    if not any(map(any, in_order)):
        walk.finish(site, x, order)
        return
    if mode == "constant":
        x = _constant(walk, site, x, in_order)
    elif mode == "reflect":
        x = _mirrored(walk, site, x, in_order, REFLECT)
    elif mode == "edge":
        x = _edges(walk, site, x, in_order)
    else:
        walk.refuse(site.node, f"its mode is {mode!r}", "use constant, reflect or edge")
    walk.finish(site, x, order)


def _amounts(walk: Walk, site: Site, rank: int) -> Amounts:
    pads = listed(walk, site, 1, "pads") or ()
    axes = listed(walk, site, 3, "axes") or tuple(range(rank))
    if len(pads) != 2 * len(axes):
        walk.refuse(site.node, f"its {len(pads)} paddings do not fit {len(axes)} axes", "correct the model")
    amounts = [(0, 0)] * rank
    for index, axis in enumerate(axes):
        amounts[axis % rank] = (pads[index], pads[index + len(axes)])
    return amounts


def _cut(walk: Walk, site: Site, x: int, amounts: Amounts) -> int:
    runs = [
        range(size)[max(-before, 0) : size + min(after, 0)]
        for size, (before, after) in zip(walk.shape_of(x), amounts, strict=True)
    ]
    return taken(walk, site.node, x, runs, "cut")


def _constant(walk: Walk, site: Site, x: int, amounts: Amounts) -> int:
    given = known(walk, site, 2, "value")
    number = np.zeros(1, np.float32) if given is None or not given.size else given.reshape(1)
    y = _larger(walk, site, x, amounts)
    pads = _pads(walk, amounts)
    if number[0] == 0:
        walk.emit("PAD", (x, pads), (y,))
        return y
    source = walk.draft.tensors[x]
    fill = rounded(number, site.encodings[0]) if site.integer else number.astype(numpy_of(source.type))
    walk.emit("PADV2", (x, pads, walk.draft.constant("fill", fill, source.quantization)), (y,))
    return y


def _edges(walk: Walk, site: Site, x: int, amounts: Amounts) -> int:
    """One ring after the other: beside its edge, a mirror that shows the edge too shows the edge."""
    rings = max(max(pair) for pair in amounts)
    if rings > MAX_RINGS:
        walk.refuse(site.node, f"it repeats edges {rings} times", f"repeat them at most {MAX_RINGS} times")
    for ring in range(rings):
        x = _mirrored(walk, site, x, [(int(before > ring), int(after > ring)) for before, after in amounts], SYMMETRIC)
    return x


def _mirrored(walk: Walk, site: Site, x: int, amounts: Amounts, mode: int) -> int:
    short = [size for size, pair in zip(walk.shape_of(x), amounts, strict=True) if max(pair) > size - (mode == REFLECT)]
    if short:
        walk.refuse(site.node, f"its paddings are longer than an axis of {short[0]}", "reflect less")
    y = _larger(walk, site, x, amounts)
    walk.emit("MIRROR_PAD", (x, _pads(walk, amounts)), (y,), mode=mode)
    return y


def _larger(walk: Walk, site: Site, x: int, amounts: Amounts) -> int:
    shape = tuple(size + before + after for size, (before, after) in zip(walk.shape_of(x), amounts, strict=True))
    return walk.like(x, shape, site.results[0].name or "padded")


def _pads(walk: Walk, amounts: Amounts) -> int:
    return walk.draft.constant("pads", np.asarray(amounts, np.int32))


TABLE = {"Pad": Operator(pad, Form(integers=INT8_AND_16))}
