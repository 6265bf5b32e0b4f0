"""Convolutions over pictures and sequences."""

from __future__ import annotations

from ....attributes import integer
from ...file.model import Array, OptionValue
from ..sites import Form, Site
from ..walk import Walk, fused
from ..weights import weight_and_bias
from ..windows import Window, padded, picture, window_of
from .operator import INT8_AND_16, Operator


def conv(walk: Walk, site: Site) -> None:
    """CONV_2D, DEPTHWISE_CONV_2D where every channel is a group; PAD before it where SAME is another padding.

    Not: weights that are computed; three spatial axes.
    """
    filters = walk.constant(site.input(1))
    if filters is None:
        walk.refuse(site.node, "its weights are computed", "make them a constant of the model")
    x, order = picture(walk, site)
    batch, height, width, channels = walk.shape_of(x)
    window = window_of(walk, site.node, filters.shape[2:], (height, width))
    depthwise = integer(site.node, "group", 1) == channels > 1
    w, b = weight_and_bias(
        walk, site, x, 1, 2, _depthwise_filters if depthwise else _filters, axis=3 if depthwise else 0
    )
    x, padding = padded(walk, x, window)
    y = walk.result(site, (batch, *window.out, filters.shape[0]), order)
    options = _options(site, window, padding)
    if depthwise:
        walk.emit("DEPTHWISE_CONV_2D", (x, w, b), (y,), depthMultiplier=filters.shape[0] // channels, **options)
    else:
        walk.emit("CONV_2D", (x, w, b), (y,), **options)


def _options(site: Site, window: Window, padding: int) -> dict[str, OptionValue]:
    return {
        "padding": padding,
        "strideH": window.strides[0],
        "strideW": window.strides[1],
        "dilationHFactor": window.dilations[0],
        "dilationWFactor": window.dilations[1],
        "fusedActivationFunction": fused(site),
    }


def _filters(array: Array) -> Array:
    """(out, in, height, width) to (out, height, width, in); a sequence's have height 1."""
    return as_picture(array).transpose(0, 2, 3, 1)


def _depthwise_filters(array: Array) -> Array:
    """(out, 1, height, width) to (1, height, width, out)."""
    return as_picture(array).transpose(1, 2, 3, 0)


def as_picture(array: Array) -> Array:
    """Filters over a sequence, (out, in, width), with a height of 1."""
    return array[:, :, None, :] if array.ndim == 3 else array


TABLE = {"Conv": Operator(conv, Form(fuses=True, integers=INT8_AND_16, weight=1))}
