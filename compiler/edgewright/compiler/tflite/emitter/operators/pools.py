"""Pools over pictures."""

from __future__ import annotations

from ....attributes import integer, integers
from ...file.schema import PADDING
from ..orders import CHANNELS_LAST
from ..sites import Form, Site
from ..walk import Walk, fused
from ..windows import Window, padded, picture, window_of
from .operator import INT8_AND_16, Operator


def _pool(walk: Walk, site: Site, kind: str, x: int, window: Window, padding: int) -> None:
    """Pools keep the encoding of what they read; where the graph gives the result another, QUANTIZE follows."""
    batch, _, _, channels = walk.shape_of(x)
    y = walk.like(x, (batch, *window.out, channels), site.results[0].name or "pool")
    walk.emit(
        kind,
        (x,),
        (y,),
        padding=padding,
        strideH=window.strides[0],
        strideW=window.strides[1],
        filterHeight=window.kernel[0],
        filterWidth=window.kernel[1],
        fusedActivationFunction=fused(site),
    )
    walk.finish(site, y, CHANNELS_LAST)


def max_pool(walk: Walk, site: Site) -> None:
    """MAX_POOL_2D; PADV2 where SAME is another padding.

    Not: dilations, indices as a second output.
    """
    x = picture(walk, site)
    _, height, width, _ = walk.shape_of(x)
    kernel = integers(site.node, "kernel_shape") or (1, 1)
    window = window_of(walk, site.node, (kernel[0], kernel[1]), (height, width))
    if window.dilations != (1, 1):
        walk.refuse(site.node, f"it has dilations {window.dilations}", "pool without dilations")
    x, padding = padded(walk, x, window, float("-inf"))
    _pool(walk, site, "MAX_POOL_2D", x, window, padding)


def average_pool(walk: Walk, site: Site) -> None:
    """AVERAGE_POOL_2D; PAD before it where zeros outside of the picture count.

    Not: dilations; padding that is not SAME and does not count.
    """
    x = picture(walk, site)
    _, height, width, _ = walk.shape_of(x)
    kernel = integers(site.node, "kernel_shape") or (1, 1)
    window = window_of(walk, site.node, (kernel[0], kernel[1]), (height, width))
    if window.valid or (window.same and not integer(site.node, "count_include_pad", 0)):
        padding = PADDING["VALID"] if window.valid else PADDING["SAME"]
        _pool(walk, site, "AVERAGE_POOL_2D", x, window, padding)
        return
    walk.refuse(site.node, f"it pads {window.pads} as TFLite cannot", "pad with zeros before the pool")


def global_average_pool(walk: Walk, site: Site) -> None:
    """AVERAGE_POOL_2D over the whole picture."""
    x = picture(walk, site)
    _, height, width, _ = walk.shape_of(x)
    whole = (height, width)
    window = Window(whole, whole, (1, 1), ((0, 0), (0, 0)), (1, 1), whole)
    _pool(walk, site, "AVERAGE_POOL_2D", x, window, PADDING["VALID"])


TABLE = {
    "MaxPool": Operator(max_pool, Form(fuses=True, integers=INT8_AND_16)),
    "AveragePool": Operator(average_pool, Form(fuses=True, integers=INT8_AND_16)),
    "GlobalAveragePool": Operator(global_average_pool, Form(fuses=True, integers=INT8_AND_16)),
}
