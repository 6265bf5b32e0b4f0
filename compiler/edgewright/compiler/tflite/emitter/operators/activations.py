"""Functions of one value."""

from __future__ import annotations

import numpy as np

from ....quantize.capability import bounds_of
from ..elementwise import unary
from ..sites import FUSED, Form, Site
from ..walk import Walk
from .operator import INT8_AND_16, Operator


def relu(walk: Walk, site: Site) -> None:
    """RELU, where it is not part of what is before it."""
    unary(walk, site, "RELU")


def clip(walk: Walk, site: Site) -> None:
    """RELU6 or RELU_N1_TO_1 where the bounds are theirs, else MAXIMUM and MINIMUM.

    Not: bounds that are computed.
    """
    bounds = bounds_of(site.node)
    if bounds is None:
        walk.refuse(site.node, "its bounds are computed", "make them constants")
    if bounds in FUSED:
        unary(walk, site, FUSED[bounds])
        return
    value = site.input(0)
    placed = walk.place(value, integer=site.integer)
    x = walk.data(site, value, placed.order)
    for kind, bound in (("MAXIMUM", bounds[0]), ("MINIMUM", bounds[1])):
        if np.isfinite(bound):
            y = walk.like(x, walk.shape_of(x), f"{value.name}_clipped")
            walk.emit(kind, (x, walk.draft.constant("bound", np.asarray([bound], np.float32))), (y,))
            x = y
    walk.finish(site, x, placed.order)


TABLE = {
    "Relu": Operator(relu, Form(integers=INT8_AND_16)),
    "Clip": Operator(clip),
}
