"""Functions of one value: activations and mathematics."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..orders import identity
from ..step import PICTURE_RANK, Step
from .row import Row


def unary(op_type: str) -> Callable[[Step], None]:
    """An operator of ONNX that does the same."""

    def read(step: Step) -> None:
        order = step.native(0)
        step.finish(step.node(op_type, step.real(0, order)), order)

    read.__doc__ = f"{op_type}."
    return read


def _clamp(name: str) -> Callable[[Step], None]:
    def read(step: Step) -> None:
        order = step.native(0)
        step.finish(step.activation(name, step.real(0, order)), order)

    read.__doc__ = "Relu or Clip."
    return read


def elu(step: Step) -> None:
    """Elu."""
    order = step.native(0)
    step.finish(step.node("Elu", step.real(0, order), alpha=1.0), order)


def leaky_relu(step: Step) -> None:
    """LeakyRelu."""
    order = step.native(0)
    step.finish(step.node("LeakyRelu", step.real(0, order), alpha=step.number("alpha", 0.0)), order)


def gelu(step: Step) -> None:
    """Gelu, approximated by tanh or not."""
    order, kind = step.native(0), "tanh" if step.flag("approximate") else "none"
    step.finish(step.node("Gelu", step.real(0, order), approximate=kind), order)


def prelu(step: Step) -> None:
    """PRelu."""
    step.one_type(0, 1)
    order, rank = step.native(0), len(step.shape(0))
    slope = step.input(1)
    try:
        fits = np.broadcast_shapes(step.shape(0), step.shape(1)) == step.shape(0)
    except ValueError:
        fits = False
    if not fits:
        step.wrong(f"its slopes have shape {step.shape(1)}, which does not fit {step.shape(0)}")
    if step.reading.known(slope) is None or rank != PICTURE_RANK:
        order = identity(rank)
        alpha = step.real(1)
    else:
        alpha = step.real(1, order)
    step.finish(step.node("PRelu", step.real(0, order), alpha), order)


def softmax(step: Step) -> None:
    """Softmax over the last axis; Mul before it where beta is not 1."""
    beta = step.number("beta", 1.0)
    order = step.native(0)
    x = step.real(0, order)
    if beta != 1.0:
        x = step.node("Mul", x, step.scalar(beta))
    step.finish(step.node("Softmax", x, axis=_last(step)), order)


def log_softmax(step: Step) -> None:
    """LogSoftmax over the last axis."""
    order = step.native(0)
    step.finish(step.node("LogSoftmax", step.real(0, order), axis=_last(step)), order)


def l2_normalization(step: Step) -> None:
    """LpNormalization over the last axis."""
    order = step.native(0)
    y = step.node("LpNormalization", step.real(0, order), axis=_last(step), p=2)
    step.finish(step.activated(y), order)


def _last(step: Step) -> int:
    """Where the last axis of the file stands."""
    rank = len(step.shape(0))
    if not rank:
        step.wrong("it works over the last axis of a scalar")
    return step.native(0).index(rank - 1)


def rsqrt(step: Step) -> None:
    """Sqrt and Reciprocal."""
    order = step.native(0)
    step.finish(step.node("Reciprocal", step.node("Sqrt", step.real(0, order))), order)


def square(step: Step) -> None:
    """Mul of the value by itself."""
    order = step.native(0)
    x = step.real(0, order)
    step.finish(step.node("Mul", x, x), order)


def logical_not(step: Step) -> None:
    """Not."""
    if step.type(0) != "BOOL":
        step.wrong(f"its input is {step.type(0)}, expected BOOL")
    unary("Not")(step)


TABLE = {
    **{
        kind: Row(unary(op_type), 1, 1)
        for kind, op_type in {
            "ABS": "Abs",
            "CEIL": "Ceil",
            "COS": "Cos",
            "EXP": "Exp",
            "FLOOR": "Floor",
            "HARD_SWISH": "HardSwish",
            "LOG": "Log",
            "LOGISTIC": "Sigmoid",
            "NEG": "Neg",
            "ROUND": "Round",
            "SIGN": "Sign",
            "SIN": "Sin",
            "SQRT": "Sqrt",
            "TANH": "Tanh",
        }.items()
    },
    **{name: Row(_clamp(name), 1, 1) for name in ("RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1")},
    "ELU": Row(elu, 1, 1),
    "GELU": Row(gelu, 1, 1),
    "L2_NORMALIZATION": Row(l2_normalization, 1, 1),
    "LEAKY_RELU": Row(leaky_relu, 1, 1),
    "LOGICAL_NOT": Row(logical_not, 1, 1),
    "LOG_SOFTMAX": Row(log_softmax, 1, 1),
    "PRELU": Row(prelu, 2, 2),
    "RSQRT": Row(rsqrt, 1, 1),
    "SOFTMAX": Row(softmax, 1, 1),
    "SQUARE": Row(square, 1, 1),
}
