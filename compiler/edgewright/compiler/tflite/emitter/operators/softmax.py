"""Softmax."""

from __future__ import annotations

from typing import Final

from ....attributes import integer
from ...file.model import Quantization
from ..orders import identity
from ..sites import Form, Site
from ..walk import Walk
from .operator import INT8, Operator

FIXED: Final = {"INT8": Quantization((1 / 256,), (-128,)), "INT16": Quantization((1 / 32768,), (0,))}
"""The only encodings that TFLite's integer kernels give (tensorflow/lite/kernels/activations.cc)."""


def softmax(walk: Walk, site: Site) -> None:
    """SOFTMAX over the last axis, to which the axis is brought."""
    value = site.input(0)
    rank = len(walk.shape(value))
    axis = integer(site.node, "axis", -1) % rank
    order = (*(each for each in identity(rank) if each != axis), axis)
    placed = walk.place(value, integer=site.integer)
    if placed.order and placed.order[-1] == axis:
        order = placed.order
    x = walk.data(site, value, order)
    kind = walk.draft.tensors[x].type
    y = walk.like(x, walk.shape_of(x), site.results[0].name or "softmax", FIXED.get(kind))
    walk.emit("SOFTMAX", (x,), (y,), beta=1.0)
    walk.finish(site, y, order)


TABLE = {"Softmax": Operator(softmax, Form(integers=INT8))}
