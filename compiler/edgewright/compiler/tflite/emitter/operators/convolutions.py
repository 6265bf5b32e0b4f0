"""Convolutions over pictures."""

from __future__ import annotations

from ....attributes import integer
from ...file.model import Array
from ..orders import CHANNELS_LAST
from ..sites import Form, Site
from ..walk import Walk, fused
from ..weights import bias, weight
from ..windows import padded, picture, window_of
from .operator import INT8_AND_16, Operator


def conv(walk: Walk, site: Site) -> None:
    """CONV_2D, DEPTHWISE_CONV_2D where every channel is a group of its own; PAD where SAME is another padding.

    Not: weights that are computed.
    """
    filters = walk.constant(site.input(1))
    if filters is None:
        walk.refuse(site.node, "its weights are computed", "make them a constant of the model")
    if filters.ndim != 4:
        walk.refuse(site.node, f"it has {filters.ndim - 2} spatial axes", "use two")
    x = picture(walk, site)
    batch, height, width, channels = walk.shape_of(x)
    window = window_of(walk, site.node, (filters.shape[2], filters.shape[3]), (height, width))
    depthwise = integer(site.node, "group", 1) == channels > 1
    w = weight(walk, site.input(1), _depthwise_filters if depthwise else _filters, 3 if depthwise else 0)
    b = bias(walk, site, site.optional(2), x, w, filters.shape[0])
    x, padding = padded(walk, x, window)
    y = walk.result(site, (batch, *window.out, filters.shape[0]), CHANNELS_LAST)
    options = {
        "padding": padding,
        "strideH": window.strides[0],
        "strideW": window.strides[1],
        "dilationHFactor": window.dilations[0],
        "dilationWFactor": window.dilations[1],
        "fusedActivationFunction": fused(site),
    }
    if depthwise:
        walk.emit("DEPTHWISE_CONV_2D", (x, w, b), (y,), depthMultiplier=filters.shape[0] // channels, **options)
    else:
        walk.emit("CONV_2D", (x, w, b), (y,), **options)


def _filters(array: Array) -> Array:
    """(out, in, height, width) to (out, height, width, in)."""
    return array.transpose(0, 2, 3, 1)


def _depthwise_filters(array: Array) -> Array:
    """(out, 1, height, width) to (1, height, width, out)."""
    return array.transpose(1, 2, 3, 0)


TABLE = {"Conv": Operator(conv, Form(fuses=True, integers=INT8_AND_16, weight=1))}
