"""Reductions over axes."""

from __future__ import annotations

from collections.abc import Callable

from ..orders import identity, without
from ..step import Step
from .row import Row


def reduction(op_type: str) -> Callable[[Step], None]:
    """A reduction of ONNX that does the same."""

    def read(step: Step) -> None:
        axes = step.axes(1, len(step.shape(0)))
        keeps = step.flag("keepDims")
        order = step.native(0)
        left = order if keeps else without(order, axes)
        if not keeps and left != identity(len(left)):
            order, left = identity(len(order)), identity(len(left))
        x = step.real(0, order)
        if not axes:
            step.finish(x, order)
            return
        places = step.row(*sorted(order.index(axis) for axis in axes))
        step.finish(step.node(op_type, x, places, keepdims=int(keeps)), left)

    read.__doc__ = f"{op_type}."
    return read


def arg(op_type: str) -> Callable[[Step], None]:
    """ArgMax or ArgMin: the first of equal ones."""

    def read(step: Step) -> None:
        rank = len(step.shape(0))
        axes = step.axes(1, rank)
        if len(axes) != 1 or step.result_type() not in {"INT32", "INT64"}:
            step.wrong(f"it works over axes {axes} and gives {step.result_type()}")
        y = step.node(op_type, step.real(0), axis=axes[0], keepdims=0)
        step.finish(step.node("Cast", y, to=6) if step.result_type() == "INT32" else y)

    read.__doc__ = f"{op_type}."
    return read


TABLE = {
    "MEAN": Row(reduction("ReduceMean"), 2, 2),
    "SUM": Row(reduction("ReduceSum"), 2, 2),
    "REDUCE_MAX": Row(reduction("ReduceMax"), 2, 2),
    "REDUCE_MIN": Row(reduction("ReduceMin"), 2, 2),
    "REDUCE_PROD": Row(reduction("ReduceProd"), 2, 2),
    "ARG_MAX": Row(arg("ArgMax"), 2, 2),
    "ARG_MIN": Row(arg("ArgMin"), 2, 2),
}
