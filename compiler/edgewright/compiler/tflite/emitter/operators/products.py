"""Products with a constant matrix."""

from __future__ import annotations

import numpy as np

from ....attributes import integer, number
from ...file.model import Array
from ..orders import identity
from ..sites import Form, Site
from ..walk import Walk, fused
from ..weights import bias, weight
from .operator import INT8_AND_16, Operator


def gemm(walk: Walk, site: Site) -> None:
    """FULLY_CONNECTED.

    Not: a transposed A; factors alpha and beta; matrices that are computed.
    """
    node = site.node
    matrix = walk.constant(site.input(1))
    if matrix is None or integer(node, "transA", 0):
        walk.refuse(node, "its matrix is computed, or A is transposed", "make B a constant and leave A as it is")
    if number(node, "alpha", 1.0) != 1.0 or number(node, "beta", 1.0) != 1.0:
        walk.refuse(node, "it scales by alpha or beta", "fold the factors into B and C")
    _fully_connected(walk, site, matrix, transposed=bool(integer(node, "transB", 0)), bias_index=2)


def matmul(walk: Walk, site: Site) -> None:
    """FULLY_CONNECTED where the right side is a constant matrix."""
    matrix = walk.constant(site.input(1))
    if matrix is None or matrix.ndim != 2:
        walk.refuse(site.node, "its right side is no constant matrix", "use Gemm with constant weights")
    _fully_connected(walk, site, matrix, transposed=False, bias_index=None)


def _fully_connected(walk: Walk, site: Site, matrix: Array, *, transposed: bool, bias_index: int | None) -> None:
    value = site.input(0)
    shape = walk.shape(value)
    x = walk.data(site, value, identity(len(shape)))
    features = walk.features.get(value.name or "")

    def arrange(array: Array) -> Array:
        rows = array if transposed else array.T
        return np.ascontiguousarray(rows if features is None else rows[:, features])

    units = matrix.shape[0] if transposed else matrix.shape[1]
    w = weight(walk, site.input(1), arrange, 0)
    b = bias(walk, site, site.optional(bias_index) if bias_index is not None else None, x, w, units)
    y = walk.result(site, (*shape[:-1], units), identity(len(shape)))
    walk.emit("FULLY_CONNECTED", (x, w, b), (y,), fusedActivationFunction=fused(site), keepNumDims=len(shape) > 2)


TABLE = {
    "Gemm": Operator(gemm, Form(fuses=True, integers=INT8_AND_16, weight=1)),
    "MatMul": Operator(matmul, Form(fuses=True, integers=INT8_AND_16, weight=1)),
}
