"""Normalization: over the batch when a model was trained, over parts of a sample when it runs."""

from __future__ import annotations

import numpy as np

from ....attributes import integer, integers, number
from ...file.model import Array
from ..chain import Chain, Number
from ..elementwise import broadcastable
from ..kernels import check_type
from ..orders import CHANNELS_LAST, Order, identity, in_memory_axes
from ..sites import Form, Site
from ..walk import Walk, fused
from .operator import Operator

SMALLEST_NORM = 1e-30
"""So that nothing divided by its norm gives nothing."""


def batch_normalization(walk: Walk, site: Site) -> None:
    """MUL and ADD of one number per channel.

    Not: training; parameters that are computed.
    """
    if integer(site.node, "training_mode", 0) or any(value.uses() for value in site.node.outputs[1:]):
        walk.refuse(site.node, "it is in training mode", "export the model for inference")
    scale, offset, average, variance = (_parameter(walk, site, index) for index in range(1, 5))
    factor = scale / np.sqrt(variance + number(site.node, "epsilon", 1e-5))
    chain, x, order = _start(walk, site)
    scaled = chain.apply("MUL", x, _per_channel(walk, factor, order, "factor"))
    shift = _per_channel(walk, offset - average * factor, order, "offset")
    y = walk.result(site, walk.shape_of(x), order)
    walk.emit("ADD", (scaled, shift), (y,), fusedActivationFunction=fused(site))


def instance_normalization(walk: Walk, site: Site) -> None:
    """MEAN, SUB, MUL, MEAN, ADD, RSQRT, MUL, MUL and ADD.

    Not: parameters that are computed.
    """
    scale, offset = _parameter(walk, site, 1), _parameter(walk, site, 2)
    chain, x, order = _start(walk, site)
    axes = tuple(range(2, len(walk.shape(site.input(0)))))
    apart, factor = _standardized(chain, x, in_memory_axes(order, axes), number(site.node, "epsilon", 1e-5))
    factor = chain.apply("MUL", factor, _per_channel(walk, scale, order, "scale"))
    y = chain.apply("ADD", chain.apply("MUL", apart, factor), _per_channel(walk, offset, order, "offset"))
    chain.finish(y, order)


def group_normalization(walk: Walk, site: Site) -> None:
    """RESHAPE to groups, MEAN, SUB, MUL, MEAN, ADD, RSQRT, MUL, RESHAPE, MUL and ADD.

    Not: parameters that are computed.
    """
    scale, offset = _parameter(walk, site, 1), _parameter(walk, site, 2)
    chain, x, order = _start(walk, site)
    order = order if order == CHANNELS_LAST else identity(len(walk.shape(site.input(0))))
    x = walk.data(site, site.input(0), order)
    shape = walk.shape_of(x)
    groups = integer(site.node, "num_groups", 1)
    parts, axes = _groups(shape, order, groups)
    apart, factor = _standardized(chain, walk.reshaped(x, parts), axes, number(site.node, "epsilon", 1e-5))
    whole = walk.reshaped(chain.apply("MUL", apart, factor), shape)
    scaled = chain.apply("MUL", whole, _per_channel(walk, scale, order, "scale"))
    chain.finish(chain.apply("ADD", scaled, _per_channel(walk, offset, order, "offset")), order)


def _groups(shape: tuple[int, ...], order: Order, groups: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """A shape in which groups of channels have axes of their own, and the axes over which each is one."""
    if order == CHANNELS_LAST:
        return (shape[0], shape[1] * shape[2], groups, shape[3] // groups), (1, 3)
    return (shape[0], groups, int(np.prod(shape[1:])) // groups), (2,)


def layer_normalization(walk: Walk, site: Site) -> None:
    """MEAN, SUB, MUL, MEAN, ADD, RSQRT, MUL, MUL and ADD.

    Not: its mean and deviation as results.
    """
    if any(value.uses() or value.is_graph_output() for value in site.node.outputs[1:]):
        walk.refuse(site.node, "its mean or deviation is read", "compute them with ReduceMean")
    chain, x, order = _start(walk, site)
    rank = len(walk.shape(site.input(0)))
    axes = in_memory_axes(order, tuple(range(integer(site.node, "axis", -1) % rank, rank)))
    apart, factor = _standardized(chain, x, axes, number(site.node, "epsilon", 1e-5))
    y = chain.apply("MUL", chain.apply("MUL", apart, factor), broadcastable(walk, site, site.input(1), order))
    offset = site.optional(2)
    chain.finish(y if offset is None else chain.apply("ADD", y, broadcastable(walk, site, offset, order)), order)


def root_mean_square_normalization(walk: Walk, site: Site) -> None:
    """MUL, MEAN, ADD, RSQRT, MUL and MUL."""
    chain, x, order = _start(walk, site)
    rank = len(walk.shape(site.input(0)))
    axes = in_memory_axes(order, tuple(range(integer(site.node, "axis", -1) % rank, rank)))
    power = chain.reduce("MEAN", chain.apply("MUL", x, x), axes)
    factor = chain.apply("RSQRT", chain.apply("ADD", power, Number(number(site.node, "epsilon", 1e-5))))
    chain.finish(
        chain.apply("MUL", chain.apply("MUL", x, factor), broadcastable(walk, site, site.input(1), order)), order
    )


def mean_variance_normalization(walk: Walk, site: Site) -> None:
    """MEAN, SUB, MUL, MEAN, SQRT, ADD and DIV."""
    chain, x, order = _start(walk, site)
    rank = len(walk.shape(site.input(0)))
    axes = in_memory_axes(order, tuple(axis % rank for axis in integers(site.node, "axes") or (0, 2, 3)))
    apart = chain.apply("SUB", x, chain.reduce("MEAN", x, axes))
    variance = chain.reduce("MEAN", chain.apply("MUL", apart, apart), axes)
    deviation = chain.apply("ADD", chain.apply("SQRT", variance), Number(1e-9))
    chain.finish(chain.apply("DIV", apart, deviation), order)


def lp_normalization(walk: Walk, site: Site) -> None:
    """MUL or ABS, SUM, SQRT, MAXIMUM and DIV."""
    chain, x, order = _start(walk, site)
    rank = len(walk.shape(site.input(0)))
    axes = in_memory_axes(order, (integer(site.node, "axis", -1) % rank,))
    if integer(site.node, "p", 2) == 1:
        norm = chain.reduce("SUM", chain.apply("ABS", x), axes)
    else:
        norm = chain.apply("SQRT", chain.reduce("SUM", chain.apply("MUL", x, x), axes))
    chain.finish(chain.apply("DIV", x, chain.apply("MAXIMUM", norm, Number(SMALLEST_NORM))), order)


def local_response_normalization(walk: Walk, site: Site) -> None:
    """LOCAL_RESPONSE_NORMALIZATION.

    Not: an even number of channels in its window; other than pictures.
    """
    size = integer(site.node, "size", 1)
    if size % 2 == 0 or len(walk.shape(site.input(0))) != len(CHANNELS_LAST):
        walk.refuse(site.node, f"its window of {size} channels is even, or it is over no picture", "use an odd size")
    x = walk.data(site, site.input(0), CHANNELS_LAST)
    check_type(walk, site.node, "LOCAL_RESPONSE_NORMALIZATION", x)
    walk.emit(
        "LOCAL_RESPONSE_NORMALIZATION",
        (x,),
        (walk.result(site, walk.shape_of(x), CHANNELS_LAST),),
        radius=size // 2,
        bias=number(site.node, "bias", 1.0),
        alpha=number(site.node, "alpha", 1e-4) / size,
        beta=number(site.node, "beta", 0.75),
    )


def _start(walk: Walk, site: Site) -> tuple[Chain, int, Order]:
    value = site.input(0)
    placed = walk.place(value)
    x = walk.data(site, value, placed.order)
    check_type(walk, site.node, "RSQRT", x)
    return Chain(walk, site), x, placed.order


def _standardized(chain: Chain, x: int, axes: tuple[int, ...], epsilon: float) -> tuple[int, int]:
    """How far everything is from its mean, and what brings its deviation to 1."""
    apart = chain.apply("SUB", x, chain.reduce("MEAN", x, axes))
    variance = chain.reduce("MEAN", chain.apply("MUL", apart, apart), axes)
    return apart, chain.apply("RSQRT", chain.apply("ADD", variance, Number(epsilon)))


def _parameter(walk: Walk, site: Site, index: int) -> Array:
    known = walk.constant(site.input(index))
    if known is None:
        walk.refuse(site.node, f"its input {index} is computed", "make it a constant of the model")
    return known.reshape(-1).astype(np.float64)


def _per_channel(walk: Walk, numbers: Array, order: Order, name: str) -> int:
    """One number per channel (axis 1) so that it broadcasts in an order."""
    behind = len(order) - 1 - order.index(1)
    return walk.draft.constant(name, numbers.astype(np.float32).reshape(-1, *[1] * behind))


TABLE = {
    "BatchNormalization": Operator(batch_normalization, Form(fuses=True)),
    "InstanceNormalization": Operator(instance_normalization),
    "GroupNormalization": Operator(group_normalization),
    "LayerNormalization": Operator(layer_normalization),
    "RMSNormalization": Operator(root_mean_square_normalization),
    "MeanVarianceNormalization": Operator(mean_variance_normalization),
    "LpNormalization": Operator(lp_normalization),
    "LRN": Operator(local_response_normalization),
}
