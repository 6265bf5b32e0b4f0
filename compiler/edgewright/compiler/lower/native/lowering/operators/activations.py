"""Element-wise operators of one value, as expressions of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import onnx_ir as ir

from .....attributes import given, integer, needed, number, text
from ...expression import Expression, Scalar, call
from ..elementwise import emit_map
from ..walk import Walk

Unary = Callable[[ir.Node, Expression], Expression]


def scalar(value: float) -> Scalar:
    """A float32 number."""
    return Scalar(float(value))


def relu(x: Expression) -> Expression:
    return call("max", x, scalar(0))


def leaky(x: Expression, slope: Expression) -> Expression:
    """Keeps what is above zero and scales what is below."""
    return call("fma", slope, call("min", x, scalar(0)), relu(x))


def _hard_sigmoid(x: Expression, slope: float, shift: float) -> Expression:
    return call("max", scalar(0), call("min", scalar(1), call("fma", x, scalar(slope), scalar(shift))))


def _less_one(x: Expression) -> Expression:
    """exp(x) - 1 for x <= 0, exact to a few units in the last place near zero: 2t / (1 - t) with t = tanh(x / 2)."""
    t = call("tanh", call("mul", call("min", x, scalar(0)), scalar(0.5)))
    return call("div", call("add", t, t), call("sub", scalar(1), t))


def _elu(x: Expression, alpha: float, gamma: float = 1.0) -> Expression:
    below = call("mul", scalar(alpha * gamma), _less_one(x))
    above = relu(x) if gamma == 1.0 else call("mul", scalar(gamma), relu(x))
    return call("add", above, below)


def _celu(x: Expression, alpha: float) -> Expression:
    scaled = x if alpha == 1.0 else call("mul", x, scalar(1 / alpha))
    return call("add", relu(x), call("mul", scalar(alpha), _less_one(scaled)))


def _gelu(node: ir.Node, x: Expression) -> Expression:
    if text(node, "approximate", "none") == "tanh":  # (1 + tanh(u)) / 2 is sigmoid(2u)
        cubic = call("fma", call("mul", x, x), scalar(0.044715), scalar(1))
        inner = call("mul", call("mul", x, scalar(2 * math.sqrt(2 / math.pi))), cubic)
        return call("mul", x, call("sigmoid", inner))
    shared = call("add", scalar(1), call("erf", call("mul", x, scalar(math.sqrt(0.5)))))
    return call("mul", call("mul", x, scalar(0.5)), shared)


def _swish(node: ir.Node, x: Expression) -> Expression:
    alpha = number(node, "alpha", 1.0)
    return call("mul", x, call("sigmoid", x if alpha == 1.0 else call("mul", x, scalar(alpha))))


def _soft_sign(x: Expression) -> Expression:
    return call("div", x, call("add", scalar(1), call("abs", x)))


def _thresholded(x: Expression, alpha: float) -> Expression:
    return call("select", call("less", scalar(alpha), x), x, scalar(0))


def _shrink(node: ir.Node, x: Expression) -> Expression:
    bias, limit = scalar(number(node, "bias", 0.0)), number(node, "lambd", 0.5)
    below = call("select", call("less", x, scalar(-limit)), call("add", x, bias), scalar(0))
    return call("select", call("less", scalar(limit), x), call("sub", x, bias), below)


def _plain(operation: str) -> Unary:
    return lambda _, x: call(operation, x)


UNARY: Mapping[str, Unary] = {
    **{
        name: _plain(operation)
        for name, operation in {
            "Sigmoid": "sigmoid", "Tanh": "tanh", "Erf": "erf", "Softplus": "softplus", "Exp": "exp", "Log": "log",
            "Sqrt": "sqrt", "Reciprocal": "reciprocal", "Abs": "abs", "Neg": "neg", "Floor": "floor", "Ceil": "ceil",
            "Round": "round_even", "Sign": "sign", "Sin": "sin", "Cos": "cos",
        }.items()
    },
    "Relu": lambda _, x: relu(x),
    "LeakyRelu": lambda node, x: leaky(x, scalar(number(node, "alpha", 0.01))),
    "Elu": lambda node, x: _elu(x, number(node, "alpha", 1.0)),
    "Selu": lambda node, x: _elu(
        x, number(node, "alpha", 1.6732632423543772), number(node, "gamma", 1.0507009873554805)
    ),
    "Celu": lambda node, x: _celu(x, number(node, "alpha", 1.0)),
    "HardSigmoid": lambda node, x: _hard_sigmoid(x, number(node, "alpha", 0.2), number(node, "beta", 0.5)),
    "HardSwish": lambda _, x: call("mul", x, _hard_sigmoid(x, 1 / 6, 0.5)),
    "Gelu": _gelu,
    "Swish": _swish,
    "Mish": lambda _, x: call("mul", x, call("tanh", call("softplus", x))),
    "Softsign": lambda _, x: _soft_sign(x),
    "ThresholdedRelu": lambda node, x: _thresholded(x, number(node, "alpha", 1.0)),
    "Shrink": _shrink,
}  # fmt: skip

_OF_INTEGERS: Mapping[str, Callable[[Expression], Expression]] = {
    "Relu": lambda x: call("imax", x, Scalar(0, "s32")),
    "Neg": lambda x: call("isub", Scalar(0, "s32"), x),
    "Abs": lambda x: call("imax", x, call("isub", Scalar(0, "s32"), x)),
}


def unary(walk: Walk, node: ir.Node) -> None:
    """Any operator of `UNARY`."""
    x = needed(node, 0)
    dtype = walk.dtype(x)
    if dtype == "f32":
        emit_map(walk, [x], node.outputs[0], dtype, lambda each: UNARY[node.op_type](node, each))
    elif dtype in ("s32", "s64") and node.op_type in _OF_INTEGERS:
        emit_map(walk, [x], node.outputs[0], dtype, _OF_INTEGERS[node.op_type])
    else:
        walk.refuse(node, f"its input is of type {dtype}", "cast it to float32 before")


def clip(walk: Walk, node: ir.Node) -> None:
    """Limits as inputs or, before opset 11, as attributes."""
    x = needed(node, 0)
    dtype = walk.dtype(x)
    low, high = given(node, 1), given(node, 2)
    names = ("max", "min") if dtype == "f32" else ("imax", "imin")
    chosen = [name for name, limit in zip(names, (low, high), strict=True) if limit is not None]
    fixed = [
        (name, scalar(number(node, key, 0.0)))
        for name, key in zip(names, ("min", "max"), strict=True)
        if key in node.attributes
    ]

    def build(each: Expression, *limits: Expression) -> Expression:
        for name, limit in (*zip(chosen, limits, strict=True), *fixed):
            each = call(name, each, limit)
        return each

    emit_map(walk, [x, *(limit for limit in (low, high) if limit is not None)], node.outputs[0], dtype, build)


def prelu(walk: Walk, node: ir.Node) -> None:
    """A slope that is broadcast to x."""
    emit_map(walk, [needed(node, 0), needed(node, 1)], node.outputs[0], "f32", leaky)


def same(walk: Walk, node: ir.Node) -> None:
    """The value itself: Identity, Dropout that is not training."""
    if node.op_type == "Dropout" and len(node.outputs) > 1 and node.outputs[1].uses():
        walk.refuse(node, "its mask is used", "export the model for inference")
    if integer(node, "training_mode", 0):
        walk.refuse(node, "it is training", "export the model for inference")
    placed = walk.place(needed(node, 0))
    walk.give(node.outputs[0], placed.tensor, placed.order)


TABLE: Mapping[str, Callable[[Walk, ir.Node], None]] = {
    **dict.fromkeys(UNARY, unary),
    "Clip": clip,
    "PRelu": prelu,
    "Identity": same,
    "Dropout": same,
}
