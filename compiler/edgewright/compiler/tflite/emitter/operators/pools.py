"""Pools over pictures and sequences."""

from __future__ import annotations

import numpy as np

from ....attributes import integer, integers
from ...file.model import Array, Quantization
from ...file.schema import PADDING
from ..orders import Order
from ..sites import Form, Site
from ..walk import Walk, fused
from ..weights import no_bias
from ..windows import Window, bordered, padded, picture, picture_order, whole, window_of
from .operator import INT8_AND_16, Operator


def max_pool(walk: Walk, site: Site) -> None:
    """MAX_POOL_2D; PAD or PADV2 before it where SAME is another padding.

    Not: dilations; indices as a second output.
    """
    if len(site.node.outputs) > 1:
        walk.refuse(site.node, "it gives indices too", "leave the second output out")
    x, order = picture(walk, site)
    window = _window(walk, site, x)
    x, padding = padded(walk, x, window, lowest=True)
    walk.finish(site, _pooled(walk, site, "MAX_POOL_2D", x, window, padding), order)


def average_pool(walk: Walk, site: Site) -> None:
    """AVERAGE_POOL_2D, or DEPTHWISE_CONV_2D where integers are rescaled; PAD and MUL for paddings that are not SAME.

    Zeros outside of the picture that count are PAD's. Where they do not count, and SAME is another padding or integers
    get finer, MUL takes them back, in float.

    Not: dilations.
    """
    x, order = picture(walk, site)
    window = _window(walk, site, x)
    counts = _counts(window, count_padding=bool(integer(site.node, "count_include_pad", 0)))
    places = window.kernel[0] * window.kernel[1]
    full = bool(np.all(counts == places))
    if full and _rescales(walk, site, x):
        _mean_by_products(walk, site, x, window, order)
    elif _is_finer(walk, site, x):
        _weighted(walk, site, window, places / counts)
    elif window.valid or (window.same and np.array_equal(counts, _counts(window, count_padding=False))):
        padding = PADDING["VALID"] if window.valid else PADDING["SAME"]
        walk.finish(site, _pooled(walk, site, "AVERAGE_POOL_2D", x, window, padding), order)
    elif full:
        x = bordered(walk, x, window.pads)
        walk.finish(site, _pooled(walk, site, "AVERAGE_POOL_2D", x, window, PADDING["VALID"]), order)
    else:
        _weighted(walk, site, window, places / counts)


def _rescales(walk: Walk, site: Site, x: int) -> bool:
    """Whether the graph gives the result another encoding than pools do, which keep that of what they read."""
    return site.integer and walk.draft.tensors[x].quantization != site.encodings[0].quantization


def _is_finer(walk: Walk, site: Site, x: int) -> bool:
    """Whether the result's steps are so small that rounding to those of the input first would show."""
    quantization = walk.draft.tensors[x].quantization
    return site.integer and quantization is not None and quantization.scales > site.encodings[0].quantization.scales


def _mean_by_products(walk: Walk, site: Site, x: int, window: Window, order: Order) -> None:
    """Ones as weights, their share as scale: rounds once, where AVERAGE_POOL_2D and QUANTIZE would round twice."""
    batch, _, _, channels = walk.shape_of(x)
    share = Quantization((float(np.float32(1 / (window.kernel[0] * window.kernel[1]))),), (0,))
    ones = walk.draft.constant("ones", np.ones((1, *window.kernel, channels), np.int8), share)
    zeros = no_bias(walk, x, ones, channels)
    x, padding = padded(walk, x, window)
    y = walk.result(site, (batch, *window.out, channels), order)
    # A window over all there is makes no step, and NPUs take steps of up to 3 only.
    once = [window.valid and kernel == size for kernel, size in zip(window.kernel, window.inputs, strict=True)]
    strides = [1 if alone else stride for alone, stride in zip(once, window.strides, strict=True)]
    walk.emit(
        "DEPTHWISE_CONV_2D",
        (x, ones, zeros),
        (y,),
        padding=padding,
        strideH=strides[0],
        strideW=strides[1],
        depthMultiplier=1,
        dilationHFactor=1,
        dilationWFactor=1,
        fusedActivationFunction=fused(site),
    )


def _weighted(walk: Walk, site: Site, window: Window, factors: Array) -> None:
    """Zeros outside count as the kernel sees it, and a factor for each place takes that back.

    In float: integers would be rounded between the two.
    """
    x, order = picture(walk, site.in_float)
    mean = _pooled(walk, site.in_float, "AVERAGE_POOL_2D", bordered(walk, x, window.pads), window, PADDING["VALID"])
    y = walk.like(mean, walk.shape_of(mean), "mean_of_counted")
    constant = walk.draft.constant("factors", factors.astype(np.float32)[None, :, :, None])
    walk.emit("MUL", (mean, constant), (y,), fusedActivationFunction=fused(site))
    walk.finish(site, y, order)


def _counts(window: Window, *, count_padding: bool) -> Array:
    """For each place of the result, how many places of the picture (and its declared padding) the mean is over."""
    along = []
    for size, pads, read, kernel, stride, out in zip(
        window.inputs, window.declared, window.pads, window.kernel, window.strides, window.out, strict=True
    ):
        starts = np.arange(out) * stride - read[0]
        low, high = (-read[0], size + max(pads[1], 0)) if count_padding else (0, size)
        along.append(np.minimum(starts + kernel, high) - np.maximum(starts, low))
    return np.outer(along[0], along[1]).astype(np.int64)


def global_average_pool(walk: Walk, site: Site) -> None:
    """AVERAGE_POOL_2D over the whole picture, MEAN where that also rescales integers."""
    order = picture_order(walk, site)
    x = walk.data(site, site.input(0), order)
    if _rescales(walk, site, x) and site.activation == "NONE":
        batch, _, _, channels = walk.shape_of(x)
        y = walk.result(site, (batch, 1, 1, channels), order)
        axes = walk.draft.constant("axes", np.asarray([1, 2], np.int32))
        walk.emit("MEAN", (x, axes), (y,), keepDims=True)
        return
    _global(walk, site, "AVERAGE_POOL_2D")


def global_max_pool(walk: Walk, site: Site) -> None:
    """MAX_POOL_2D over the whole picture."""
    _global(walk, site, "MAX_POOL_2D")


def _global(walk: Walk, site: Site, kind: str) -> None:
    x, order = picture(walk, site)
    _, height, width, _ = walk.shape_of(x)
    walk.finish(site, _pooled(walk, site, kind, x, whole((height, width)), PADDING["VALID"]), order)


def _window(walk: Walk, site: Site, x: int) -> Window:
    _, height, width, _ = walk.shape_of(x)
    window = window_of(walk, site.node, integers(site.node, "kernel_shape") or (1,), (height, width))
    if window.dilations != (1, 1):
        walk.refuse(site.node, f"it has dilations {window.dilations}", "pool without dilations")
    return window


def _pooled(walk: Walk, site: Site, kind: str, x: int, window: Window, padding: int) -> int:
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
    return y


_POOL = Form(fuses=True, integers=INT8_AND_16)

TABLE = {
    "MaxPool": Operator(max_pool, _POOL),
    "AveragePool": Operator(average_pool, _POOL),
    "GlobalAveragePool": Operator(global_average_pool, _POOL),
    "GlobalMaxPool": Operator(global_max_pool, _POOL),
}
