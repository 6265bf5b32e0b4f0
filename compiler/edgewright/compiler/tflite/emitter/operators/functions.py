"""Functions of one number, other than activations."""

from __future__ import annotations

import numpy as np

from ....attributes import integer
from ..chain import Chain, Number
from ..elementwise import rounded, unary
from ..kernels import check_type
from ..sites import Form, Site
from ..walk import Walk
from .operator import INT8, INT8_AND_16, Operator


def exp(walk: Walk, site: Site) -> None:
    """EXP."""
    unary(walk, site, "EXP")


def log(walk: Walk, site: Site) -> None:
    """LOG."""
    unary(walk, site, "LOG")


def sqrt(walk: Walk, site: Site) -> None:
    """SQRT; in integers MAXIMUM before it where negative numbers could come, which its kernel refuses."""
    value = site.input(0)
    placed = walk.place(value, integer=site.integer)
    x = walk.data(site, value, placed.order)
    check_type(walk, site.node, "SQRT", x)
    held = walk.draft.tensors[x]
    if held.quantization is not None and held.quantization.zero_points[0] > np.iinfo(site.kind).min:
        zero = rounded(np.zeros(()), held.quantization, site.kind)
        x = Chain(walk, site).apply("MAXIMUM", x, walk.draft.constant("zero", zero, held.quantization))
    walk.emit("SQRT", (x,), (walk.result(site, walk.shape_of(x), placed.order),))


def absolute(walk: Walk, site: Site) -> None:
    """ABS.

    Not: int64.
    """
    unary(walk, site, "ABS")


def sign(walk: Walk, site: Site) -> None:
    """SIGN.

    Not: int64.
    """
    unary(walk, site, "SIGN")


def floor(walk: Walk, site: Site) -> None:
    """FLOOR."""
    unary(walk, site, "FLOOR")


def ceil(walk: Walk, site: Site) -> None:
    """CEIL."""
    unary(walk, site, "CEIL")


def round_(walk: Walk, site: Site) -> None:
    """ROUND, which rounds halves to even."""
    unary(walk, site, "ROUND")


def sin(walk: Walk, site: Site) -> None:
    """SIN."""
    unary(walk, site, "SIN")


def cos(walk: Walk, site: Site) -> None:
    """COS."""
    unary(walk, site, "COS")


def is_nan(walk: Walk, site: Site) -> None:
    """NOT_EQUAL of a value and itself."""
    value = site.input(0)
    placed = walk.place(value)
    x = walk.data(site, value, placed.order)
    check_type(walk, site.node, "NOT_EQUAL", x)
    chain = Chain(walk, site)
    chain.finish(chain.compare("NOT_EQUAL", x, x), placed.order)


def is_inf(walk: Walk, site: Site) -> None:
    """EQUAL to infinity; ABS or NEG before it, as signs are looked for."""
    value = site.input(0)
    placed = walk.place(value)
    x, chain = walk.data(site, value, placed.order), Chain(walk, site)
    check_type(walk, site.node, "ABS", x)
    positive, negative = integer(site.node, "detect_positive", 1), integer(site.node, "detect_negative", 1)
    if not positive and not negative:
        walk.refuse(site.node, "it looks for no infinity", "take it out")
    seen = chain.apply("ABS", x) if positive and negative else x if positive else chain.apply("NEG", x)
    chain.finish(chain.compare("EQUAL", seen, Number(float("inf"))), placed.order)


TABLE = {
    "Exp": Operator(exp, Form(integers=INT8)),  # in 16 bits its table is 20 steps off
    "Log": Operator(log, Form(integers=INT8)),
    "Sqrt": Operator(sqrt, Form(integers=INT8)),
    "Abs": Operator(absolute, Form(integers=INT8_AND_16)),
    "Sign": Operator(sign),
    "Floor": Operator(floor),
    "Ceil": Operator(ceil),
    "Round": Operator(round_),
    "Sin": Operator(sin),
    "Cos": Operator(cos),
    "IsNaN": Operator(is_nan),
    "IsInf": Operator(is_inf),
}
