"""Softmax and its logarithm."""

from __future__ import annotations

from typing import Final

from ....attributes import integer
from ...file.model import Quantization
from ..kernels import check_type
from ..orders import with_last
from ..sites import Form, Site
from ..walk import Walk
from .operator import INT8, INT8_AND_16, Operator

SOFTMAX: Final = {"": None, "int8": Quantization((1 / 256,), (-128,)), "int16": Quantization((1 / 32768,), (0,))}
LOG_SOFTMAX: Final = {"": None, "int8": Quantization((16 / 256,), (127,))}
"""The only encodings that integer kernels give (tflite/kernels/activations.cc, SoftmaxPrepare, LogSoftmaxPrepare)."""


def softmax(walk: Walk, site: Site) -> None:
    """SOFTMAX over the last axis in memory, to which the axis is brought."""
    x, order = _ready(walk, site)
    y = walk.like(x, walk.shape_of(x), site.results[0].name or "softmax", SOFTMAX[site.kind])
    walk.emit("SOFTMAX", (x,), (y,), beta=1.0)
    walk.finish(site, y, order)


def log_softmax(walk: Walk, site: Site) -> None:
    """LOG_SOFTMAX over the last axis in memory, to which the axis is brought."""
    x, order = _ready(walk, site)
    y = walk.like(x, walk.shape_of(x), site.results[0].name or "log_softmax", LOG_SOFTMAX[site.kind])
    walk.emit("LOG_SOFTMAX", (x,), (y,))
    walk.finish(site, y, order)


def _ready(walk: Walk, site: Site) -> tuple[int, tuple[int, ...]]:
    value = site.input(0)
    placed = walk.place(value, integer=site.integer)
    order = with_last(placed.order, integer(site.node, "axis", -1) % len(walk.shape(value)))
    x = walk.data(site, value, order)
    check_type(walk, site.node, "SOFTMAX", x)
    return x, order


TABLE = {
    "Softmax": Operator(softmax, Form(integers=INT8_AND_16)),
    "LogSoftmax": Operator(log_softmax, Form(integers=INT8)),
}
