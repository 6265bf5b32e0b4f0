"""Comparisons, logic and choice."""

from __future__ import annotations

from ..elementwise import binary, in_encoding, together, unary
from ..kernels import check_type
from ..orders import in_memory
from ..sites import Form, Site
from ..walk import Walk
from .operator import INT8, INT8_AND_16, Operator


def equal(walk: Walk, site: Site) -> None:
    """EQUAL."""
    binary(walk, site, "EQUAL")


def less(walk: Walk, site: Site) -> None:
    """LESS."""
    binary(walk, site, "LESS")


def less_or_equal(walk: Walk, site: Site) -> None:
    """LESS_EQUAL."""
    binary(walk, site, "LESS_EQUAL")


def greater(walk: Walk, site: Site) -> None:
    """GREATER."""
    binary(walk, site, "GREATER")


def greater_or_equal(walk: Walk, site: Site) -> None:
    """GREATER_EQUAL."""
    binary(walk, site, "GREATER_EQUAL")


def conjunction(walk: Walk, site: Site) -> None:
    """LOGICAL_AND."""
    binary(walk, site, "LOGICAL_AND")


def disjunction(walk: Walk, site: Site) -> None:
    """LOGICAL_OR."""
    binary(walk, site, "LOGICAL_OR")


def exclusive_or(walk: Walk, site: Site) -> None:
    """NOT_EQUAL."""
    binary(walk, site, "NOT_EQUAL")


def negation(walk: Walk, site: Site) -> None:
    """LOGICAL_NOT."""
    unary(walk, site, "LOGICAL_NOT")


def where(walk: Walk, site: Site) -> None:
    """SELECT_V2; in integers QUANTIZE before it where the encodings differ."""
    values = [site.input(index) for index in range(3)]
    order, shape, tensors = together(walk, site, values)
    check_type(walk, site.node, "SELECT_V2", tensors[1])
    if site.integer:
        encoding = site.encodings[0].quantization
        tensors[1:] = [in_encoding(walk, site, value, order, encoding) for value in values[1:]]
    walk.emit("SELECT_V2", tuple(tensors), (walk.result(site, in_memory(shape, order), order),))


_COMPARISON = Form(integers=INT8, all_stored=True)

TABLE = {
    "Equal": Operator(equal, _COMPARISON),
    "Less": Operator(less, _COMPARISON),
    "LessOrEqual": Operator(less_or_equal, _COMPARISON),
    "Greater": Operator(greater, _COMPARISON),
    "GreaterOrEqual": Operator(greater_or_equal, _COMPARISON),
    "And": Operator(conjunction),
    "Or": Operator(disjunction),
    "Xor": Operator(exclusive_or),
    "Not": Operator(negation),
    "Where": Operator(where, Form(integers=INT8_AND_16, all_stored=True)),
}
