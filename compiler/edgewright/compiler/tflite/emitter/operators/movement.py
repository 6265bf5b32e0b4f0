"""Operators that move values and compute none."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ....attributes import integers
from ..orders import CHANNELS_LAST, identity
from ..sites import Form, Site
from ..walk import Walk
from .operator import INT8_AND_16, Operator

PRODUCTS = frozenset({"Gemm", "MatMul"})


def transpose(walk: Walk, site: Site) -> None:
    """Nothing, as far as the order can be remembered; TRANSPOSE where someone reads the value in another."""
    value = site.input(0)
    rank = len(walk.shape(value))
    permutation = integers(site.node, "perm") or tuple(reversed(range(rank)))
    placed = walk.place(value, integer=site.integer)
    known = walk.data(site, value, placed.order)
    order = tuple(permutation.index(axis) if axis >= 0 else axis for axis in placed.order)
    walk.finish(site, known, order)


def reshape(walk: Walk, site: Site) -> None:
    """RESHAPE.

    Not: a shape that is computed from data.
    """
    value = site.input(0)
    source = walk.shape(value)
    target = _target(walk, site, source)
    placed = walk.place(value, integer=site.integer)
    if placed.order == CHANNELS_LAST and target == (source[0], int(np.prod(source[1:]))) and _only_products(site):
        # A picture is flattened as it lies; the products behind read their weights in that order.
        logical = np.arange(target[1]).reshape(source[1:]).transpose(1, 2, 0).reshape(-1)
        walk.features[site.results[0].name or ""] = logical
        x = walk.data(site, value, placed.order)
    else:
        x = walk.data(site, value, identity(len(source)))
    walk.finish(site, walk.reshaped(x, target, site.results[0].name or ""), identity(len(target)))


def _only_products(site: Site) -> bool:
    """Whether only products with constant matrices read a flattened value, seen through quantizers."""
    waiting, found = list(site.results), False
    while waiting:
        value = waiting.pop()
        if value.is_graph_output():
            return False
        for use in value.uses():
            if use.node.op_type in {"QuantizeLinear", "DequantizeLinear"}:
                waiting += use.node.outputs
            elif use.node.op_type not in PRODUCTS or use.idx != 0:
                return False
            found = True
    return found


def _target(walk: Walk, site: Site, source: tuple[int, ...]) -> tuple[int, ...]:
    node = site.node
    if node.op_type == "Flatten":
        axis = node.attributes["axis"].as_int() if "axis" in node.attributes else 1
        axis = axis % len(source) if axis < 0 else axis
        return int(np.prod(source[:axis])), int(np.prod(source[axis:]))
    if node.op_type in {"Squeeze", "Unsqueeze"}:
        return _with_ones(walk, site, source)
    shape = walk.constant(site.input(1))
    if shape is None:
        walk.refuse(node, "its shape is computed from data", "reshape to a constant shape")
    zero_is_kept = not ("allowzero" in node.attributes and node.attributes["allowzero"].as_int())
    sizes = [source[i] if size == 0 and zero_is_kept else int(size) for i, size in enumerate(shape.reshape(-1))]
    if -1 in sizes:
        rest = int(np.prod([size for size in sizes if size != -1]))
        sizes[sizes.index(-1)] = int(np.prod(source)) // rest if rest else 0
    if walk.free_batch and source[:1] == (1,) and int(np.prod(sizes)) != int(np.prod(source)):
        walk.refuse(node, f"its shape {sizes} does not fit one sample of {source}", "reshape with -1 for the batch")
    return tuple(sizes)


def _with_ones(walk: Walk, site: Site, source: tuple[int, ...]) -> tuple[int, ...]:
    node = site.node
    given: ir.Value | None = site.optional(1)
    known = walk.constant(given) if given is not None else None
    axes = integers(node, "axes") if known is None else tuple(int(axis) for axis in known.reshape(-1))
    if node.op_type == "Squeeze":
        gone = (
            {axis % len(source) for axis in axes} if axes is not None else {i for i, n in enumerate(source) if n == 1}
        )
        return tuple(size for axis, size in enumerate(source) if axis not in gone)
    rank = len(source) + len(axes or ())
    ones = {axis % rank for axis in axes or ()}
    rest = iter(source)
    return tuple(1 if axis in ones else next(rest) for axis in range(rank))


def identity_of(walk: Walk, site: Site) -> None:
    """Nothing: both names mean one tensor."""
    value = site.input(0)
    placed = walk.place(value, integer=site.integer)
    walk.finish(site, walk.data(site, value, placed.order), placed.order)


_MOVES = Form(integers=INT8_AND_16)

TABLE = {
    "Transpose": Operator(transpose, _MOVES),
    "Reshape": Operator(reshape, _MOVES),
    "Flatten": Operator(reshape, _MOVES),
    "Squeeze": Operator(reshape, _MOVES),
    "Unsqueeze": Operator(reshape, _MOVES),
    "Identity": Operator(identity_of, _MOVES),
    "Dropout": Operator(identity_of, _MOVES),
}
