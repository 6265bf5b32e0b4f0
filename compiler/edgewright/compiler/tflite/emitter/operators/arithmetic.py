"""Arithmetic of two or more values."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ....attributes import integer, needed
from ....folding import ConstantOf
from ..chain import Chain, Number
from ..elementwise import binary, exact_number, in_encoding, operand, together, unary
from ..kernels import check_type
from ..orders import in_memory
from ..sites import Form, Site, is_uniform
from ..walk import Walk, fused
from .operator import INT8_AND_16, Operator


def add(walk: Walk, site: Site) -> None:
    """ADD."""
    binary(walk, site, "ADD", fusedActivationFunction=fused(site))


def sub(walk: Walk, site: Site) -> None:
    """SUB."""
    binary(walk, site, "SUB", fusedActivationFunction=fused(site))


def mul(walk: Walk, site: Site) -> None:
    """MUL."""
    binary(walk, site, "MUL", fusedActivationFunction=fused(site))


def div(walk: Walk, site: Site) -> None:
    """DIV; in integers, by one constant number, MUL.

    Not: int64.
    """
    if not site.integer:
        binary(walk, site, "DIV", fusedActivationFunction=fused(site))
        return
    divisor = walk.constant(site.input(1))
    if divisor is None:
        raise ValueError("an integer division has a constant divisor")
    shape = walk.shape(site.input(0))
    placed = walk.place(site.input(0), integer=True)
    factor = exact_number(walk, site, 1 / float(divisor.flat[0]), "reciprocal")
    y = walk.result(site, in_memory(shape, placed.order), placed.order)
    walk.emit("MUL", (placed.tensor, factor), (y,), fusedActivationFunction=fused(site))


def _divides_by_a_number(node: ir.Node, constant: ConstantOf) -> bool:
    divisor = constant(node.inputs[1]) if node.inputs[1] is not None else None
    if divisor is None or not is_uniform(divisor) or not divisor.flat[0]:
        return False
    return divisor.ndim <= len((node.inputs[0].shape if node.inputs[0] is not None else None) or ())


def power(walk: Walk, site: Site) -> None:
    """POW; MUL, SQRT, RSQRT or DIV for exponents 2, 0.5, -0.5, -1.

    Not: int64.
    """
    base, exponent = site.input(0), site.input(1)
    known = walk.constant(exponent)
    if known is None or known.size != 1 or known.ndim > len(walk.shape(base)):
        _general_power(walk, site, known is None)
        return
    placed = walk.place(base, integer=site.integer)
    x = walk.data(site, base, placed.order)
    number, chain = float(known.reshape(())), Chain(walk, site)
    if number == 2:
        check_type(walk, site.node, "MUL", x)
        y = walk.result(site, walk.shape_of(x), placed.order)
        walk.emit("MUL", (x, x), (y,))
    elif walk.draft.tensors[x].type != "FLOAT32" or number not in POWERS:
        check_type(walk, site.node, "POW", x)
        chain.finish(chain.apply("POW", x, Number(number)), placed.order)
    elif number == -1:
        chain.finish(chain.apply("DIV", chain.number(1, x), x), placed.order)
    else:
        chain.finish(chain.apply(POWERS[number], x), placed.order)


POWERS = {0.5: "SQRT", -0.5: "RSQRT", -1.0: "DIV"}


def _general_power(walk: Walk, site: Site, computed: bool) -> None:
    """Of two tensors; the exponent takes the type of the base."""
    base, exponent = site.input(0), site.input(1)
    kinds = walk.type_of(base), walk.type_of(exponent)
    if computed and kinds[0] != kinds[1]:
        walk.refuse(site.node, f"its base is {kinds[0]} and its exponent {kinds[1]}", "cast them to one type")
    order, shape, (x, y) = together(walk, site, [base, exponent])
    check_type(walk, site.node, "POW", x)
    held = walk.draft.tensors[y]
    if held.data is not None and kinds[0] != kinds[1]:
        y = walk.draft.constant(held.name, held.data.astype(np.dtype(kinds[0].lower())))
    walk.emit("POW", (x, y), (walk.result(site, in_memory(shape, order), order),))


def _is_square(node: ir.Node, constant: ConstantOf) -> bool:
    exponent = constant(node.inputs[1]) if node.inputs[1] is not None else None
    return exponent is not None and exponent.size == 1 and float(exponent.flat[0]) == 2 and exponent.ndim == 0


def modulo(walk: Walk, site: Site) -> None:
    """FLOOR_MOD; with fmod ABS, FLOOR_MOD, SIGN and MUL."""
    if not integer(site.node, "fmod", 0):
        binary(walk, site, "FLOOR_MOD")
        return
    order, _, (x, y) = together(walk, site, [site.input(0), site.input(1)])
    check_type(walk, site.node, "SIGN", x)
    chain = Chain(walk, site)
    size = chain.apply("FLOOR_MOD", chain.apply("ABS", x), chain.apply("ABS", y))
    chain.finish(chain.apply("MUL", size, chain.apply("SIGN", x)), order)


def total(walk: Walk, site: Site) -> None:
    """ADD, one fewer than there are values."""
    _chained(walk, site, "ADD")


def mean(walk: Walk, site: Site) -> None:
    """ADD, one fewer than there are values, then MUL."""
    count = len(site.node.inputs)
    chain = Chain(walk, site)
    order, y = _sum(walk, site, "ADD")
    chain.finish(y if count == 1 else chain.apply("MUL", y, Number(1 / count)), order)


def maximum(walk: Walk, site: Site) -> None:
    """MAXIMUM, one fewer than there are values."""
    _chained(walk, site, "MAXIMUM")


def minimum(walk: Walk, site: Site) -> None:
    """MINIMUM, one fewer than there are values."""
    _chained(walk, site, "MINIMUM")


def _chained(walk: Walk, site: Site, kind: str) -> None:
    if len(site.node.inputs) == 2 and not (site.integer and kind in EXTREMES):
        binary(walk, site, kind)
        return
    order, y = _sum(walk, site, kind)
    walk.finish(site, y, order)


EXTREMES = frozenset({"MAXIMUM", "MINIMUM"})
"""Their integer kernels compare integers as they are: all must be rounded as the result is."""


def _sum(walk: Walk, site: Site, kind: str) -> tuple[tuple[int, ...], int]:
    """All inputs by one operator after another, and the order in which the result lies."""
    values = [site.input(index) for index in range(len(site.node.inputs))]
    order, _, tensors = together(walk, site, values)
    if site.integer:
        encoding = site.encodings[0].quantization
        tensors = [in_encoding(walk, site, value, order, encoding) for value in values]
    check_type(walk, site.node, kind, tensors[0])
    chain = Chain(walk, site)
    y = tensors[0]
    for tensor in tensors[1:]:
        y = chain.apply(kind, y, tensor)
    return order, y


def _is_pair(node: ir.Node, _: ConstantOf) -> bool:
    return len(node.inputs) == 2


def negate(walk: Walk, site: Site) -> None:
    """NEG; in integers MUL by -1, since NEG would ignore the zero point."""
    if not site.integer:
        unary(walk, site, "NEG")
        return
    placed = walk.place(site.input(0), integer=True)
    y = walk.result(site, walk.shape_of(placed.tensor), placed.order)
    walk.emit("MUL", (placed.tensor, exact_number(walk, site, -1.0, "minus_one")), (y,))


def reciprocal(walk: Walk, site: Site) -> None:
    """DIV; RSQRT behind Sqrt, which is left out where nobody else reads it."""
    value = site.input(0)
    root = value.producer()
    if root is not None and root.op_type == "Sqrt" and walk.constant(value) is None:
        _reciprocal_root(walk, site, needed(root, 0))
        return
    placed = walk.place(value)
    x = operand(walk, site, value, placed.order)
    check_type(walk, site.node, "DIV", x)
    chain = Chain(walk, site)
    chain.finish(chain.apply("DIV", chain.number(1, x), x), placed.order)


def _reciprocal_root(walk: Walk, site: Site, value: ir.Value) -> None:
    """Of what a square root reads, also where that came in integers and its root stays float."""
    placed = walk.place(value)
    x = walk.data(site, value, placed.order)
    check_type(walk, site.node, "RSQRT", x)
    chain = Chain(walk, site)
    chain.finish(chain.apply("RSQRT", x), placed.order)


_ARITHMETIC = Form(fuses=True, integers=INT8_AND_16, all_stored=True)
_EXTREME = Form(integers=INT8_AND_16, all_stored=True)

TABLE = {
    "Add": Operator(add, _ARITHMETIC),
    "Sub": Operator(sub, _ARITHMETIC),
    "Mul": Operator(mul, _ARITHMETIC),
    "Div": Operator(div, Form(fuses=True, integers=INT8_AND_16, suits=_divides_by_a_number)),
    "Pow": Operator(power, Form(integers=INT8_AND_16, suits=_is_square)),
    "Mod": Operator(modulo),
    "Sum": Operator(total, Form(integers=INT8_AND_16, all_stored=True, suits=_is_pair)),
    "Mean": Operator(mean),
    "Max": Operator(maximum, _EXTREME),
    "Min": Operator(minimum, _EXTREME),
    "Neg": Operator(negate, Form(integers=INT8_AND_16)),
    "Reciprocal": Operator(reciprocal),
}
