"""Reductions over axes."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from ....attributes import integer, integers
from ....folding import ConstantOf
from ..chain import Chain
from ..kernels import check_type
from ..orders import Order, in_memory_axes, without
from ..sites import Form, Site
from ..walk import Walk
from .operator import INT8_AND_16, Operator

Ends = Callable[[Chain, int], int]


def mean(walk: Walk, site: Site) -> None:
    """MEAN.

    Not: integers that are no quantized numbers; axes that are computed.
    """
    _plain(walk, site, "MEAN")


def total(walk: Walk, site: Site) -> None:
    """SUM.

    Not: axes that are computed.
    """
    _plain(walk, site, "SUM")


def product(walk: Walk, site: Site) -> None:
    """REDUCE_PROD.

    Not: axes that are computed.
    """
    _plain(walk, site, "REDUCE_PROD")


def largest(walk: Walk, site: Site) -> None:
    """REDUCE_MAX; in integers QUANTIZE behind it where the encodings differ.

    Not: axes that are computed.
    """
    _plain(walk, site, "REDUCE_MAX")


def smallest(walk: Walk, site: Site) -> None:
    """REDUCE_MIN; in integers QUANTIZE behind it where the encodings differ.

    Not: axes that are computed.
    """
    _plain(walk, site, "REDUCE_MIN")


def norm_1(walk: Walk, site: Site) -> None:
    """ABS and SUM.

    Not: axes that are computed.
    """
    _composed(walk, site, lambda chain, x: chain.apply("ABS", x))


def norm_2(walk: Walk, site: Site) -> None:
    """MUL, SUM and SQRT.

    Not: axes that are computed.
    """
    _composed(walk, site, lambda chain, x: chain.apply("MUL", x, x), lambda chain, y: chain.apply("SQRT", y))


def sum_of_squares(walk: Walk, site: Site) -> None:
    """MUL and SUM.

    Not: axes that are computed.
    """
    _composed(walk, site, lambda chain, x: chain.apply("MUL", x, x))


def log_of_sum(walk: Walk, site: Site) -> None:
    """SUM and LOG.

    Not: axes that are computed.
    """
    _composed(walk, site, behind=lambda chain, y: chain.apply("LOG", y))


def log_of_sum_of_exponentials(walk: Walk, site: Site) -> None:
    """REDUCE_MAX, SUB, EXP, SUM, LOG and ADD, which do not overflow.

    Not: axes that are computed.
    """
    chain, x, order, axes = _start(walk, site, "EXP")
    places = in_memory_axes(order, axes)
    top = chain.reduce("REDUCE_MAX", x, places) if places else x
    powers = chain.apply("EXP", chain.apply("SUB", x, top))
    total = chain.reduce("SUM", powers, places) if places else powers
    y = chain.apply("ADD", chain.apply("LOG", total), top)
    if integer(site.node, "keepdims", 1):
        chain.finish(y, order)
    else:
        sizes = [size for place, size in enumerate(walk.shape_of(y)) if place not in places]
        chain.finish(walk.reshaped(y, tuple(sizes)), without(order, axes))


def _plain(walk: Walk, site: Site, kind: str) -> None:
    chain, x, order, axes = _start(walk, site, kind)
    _reduce(chain, x, order, axes, kind)


def _composed(walk: Walk, site: Site, before: Ends | None = None, behind: Ends | None = None) -> None:
    """A SUM with other operators around it."""
    chain, x, order, axes = _start(walk, site, "EXP")
    _reduce(chain, before(chain, x) if before is not None else x, order, axes, "SUM", behind)


def _reduce(chain: Chain, x: int, order: Order, axes: tuple[int, ...], kind: str, behind: Ends | None = None) -> None:
    site, keep = chain.site, bool(integer(chain.site.node, "keepdims", 1))
    rescales = site.integer and kind in RESCALING
    quantization = site.encodings[0].quantization if rescales else None
    places = in_memory_axes(order, axes)
    y = chain.reduce(kind, x, places, keep=keep, quantization=quantization) if places else x
    chain.finish(behind(chain, y) if behind is not None else y, order if keep else without(order, axes))


RESCALING = frozenset({"MEAN", "SUM"})
"""Their integer kernels give results in another encoding."""


def _start(walk: Walk, site: Site, kind: str) -> tuple[Chain, int, Order, tuple[int, ...]]:
    """The input as it lies, and the logical axes."""
    value = site.input(0)
    placed = walk.place(value, integer=site.integer)
    x = walk.data(site, value, placed.order)
    check_type(walk, site.node, kind, x)
    return Chain(walk, site), x, placed.order, _axes(walk, site, len(walk.shape(value)))


def _axes(walk: Walk, site: Site, rank: int) -> tuple[int, ...]:
    node, given = site.node, site.optional(1)
    known = walk.constant(given) if given is not None else None
    if given is not None and known is None:
        walk.refuse(node, "its axes are computed", "make them constants")
    axes = integers(node, "axes") if known is None else tuple(int(axis) for axis in known.reshape(-1))
    if not axes:
        return () if integer(node, "noop_with_empty_axes", 0) else tuple(range(rank))
    return tuple(sorted({axis % rank for axis in axes}))


def _does_something(node: ir.Node, _: ConstantOf) -> bool:
    """Nothing is rescaled where no axis is reduced."""
    value = node.inputs[0]
    return bool(value is not None and value.shape) and not integer(node, "noop_with_empty_axes", 0)


_INTEGERS = Form(integers=INT8_AND_16, suits=_does_something)

TABLE = {
    "ReduceMean": Operator(mean, _INTEGERS),
    "ReduceSum": Operator(total, _INTEGERS),
    "ReduceMax": Operator(largest, _INTEGERS),
    "ReduceMin": Operator(smallest, _INTEGERS),
    "ReduceProd": Operator(product),
    "ReduceL1": Operator(norm_1),
    "ReduceL2": Operator(norm_2),
    "ReduceSumSquare": Operator(sum_of_squares),
    "ReduceLogSum": Operator(log_of_sum),
    "ReduceLogSumExp": Operator(log_of_sum_of_exponentials),
}
