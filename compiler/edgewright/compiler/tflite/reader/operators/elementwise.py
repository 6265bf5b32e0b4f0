"""Operators on single elements of two values, with broadcasting."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import numpy as np

from ..orders import Order, identity
from ..step import PICTURE_RANK, Step
from .row import Row


def operands(step: Step, *indices: int) -> tuple[tuple[str, ...], Order]:
    """The inputs in one order: channels first where the largest of them lies so and the others can."""
    shapes = [step.shape(index) for index in indices]
    rank = max(len(shape) for shape in shapes)
    computed = [index for index in indices if step.reading.known(step.input(index)) is None]
    order = identity(rank)
    if rank == PICTURE_RANK and computed and all(len(step.shape(index)) in {0, rank} for index in computed):
        largest = max(computed, key=lambda index: prod(step.shape(index)))
        order = step.native(largest)
    _check(step, shapes, rank)
    return tuple(_operand(step, index, order) for index in indices), order


def _check(step: Step, shapes: list[tuple[int, ...]], rank: int) -> None:
    try:
        found = np.broadcast_shapes(*shapes)
    except ValueError:
        step.wrong(f"its inputs have shapes {', '.join(map(str, shapes))}")
    if len(step.result_shape()) != rank:
        step.wrong(f"its result has shape {step.result_shape()}, expected {found}")


def _operand(step: Step, index: int, order: Order) -> str:
    rank = len(step.shape(index))
    if order != identity(len(order)) and prod(step.shape(index)) != 1:
        return step.real(index, order)
    return step.real(index, order if rank == len(order) else identity(rank))


def binary(op_type: str, *, clamped: bool = False) -> Callable[[Step], None]:
    """An operator of ONNX that does the same."""

    def read(step: Step) -> None:
        step.one_type(0, 1)
        inputs, order = operands(step, 0, 1)
        y = step.node(op_type, *inputs)
        step.finish(step.activated(y) if clamped else y, order)

    read.__doc__ = f"{op_type}."
    return read


def div(step: Step) -> None:
    """Div.

    Not: integers by a constant with zeros, at which processors stop.
    """
    step.one_type(0, 1)
    divisor = step.reading.known(step.input(1))
    if step.type(0) in {"INT32", "INT64"} and (divisor is None or not divisor.all()):
        step.refuse("it divides integers by zero, or by what is computed", "divide floats")
    inputs, order = operands(step, 0, 1)
    step.finish(step.activated(step.node("Div", *inputs)), order)


def squared_difference(step: Step) -> None:
    """Sub, and Mul of the result by itself."""
    step.one_type(0, 1)
    inputs, order = operands(step, 0, 1)
    difference = step.node("Sub", *inputs)
    step.finish(step.node("Mul", difference, difference), order)


def not_equal(step: Step) -> None:
    """Equal and Not."""
    step.one_type(0, 1)
    inputs, order = operands(step, 0, 1)
    step.finish(step.node("Not", step.node("Equal", *inputs)), order)


def select(step: Step) -> None:
    """Where.

    Not: SELECT with a condition per row.
    """
    step.one_type(1, 2)
    if step.type(0) != "BOOL":
        step.wrong(f"its condition is {step.type(0)}, expected BOOL")
    if step.operator.type == "SELECT" and step.shape(0) not in {(), step.shape(1)}:
        step.refuse("its condition chooses rows", "export the model with SELECT_V2")
    inputs, order = operands(step, 0, 1, 2)
    step.finish(step.node("Where", *inputs), order)


def _two(op_type: str, *, clamped: bool = False) -> Row:
    return Row(binary(op_type, clamped=clamped), 2, 2)


TABLE = {
    "ADD": _two("Add", clamped=True),
    "SUB": _two("Sub", clamped=True),
    "MUL": _two("Mul", clamped=True),
    "DIV": Row(div, 2, 2),
    "MAXIMUM": _two("Max"),
    "MINIMUM": _two("Min"),
    "POW": _two("Pow"),
    "SQUARED_DIFFERENCE": Row(squared_difference, 2, 2),
    "EQUAL": _two("Equal"),
    "NOT_EQUAL": Row(not_equal, 2, 2),
    "GREATER": _two("Greater"),
    "GREATER_EQUAL": _two("GreaterOrEqual"),
    "LESS": _two("Less"),
    "LESS_EQUAL": _two("LessOrEqual"),
    "LOGICAL_AND": _two("And"),
    "LOGICAL_OR": _two("Or"),
    "SELECT": Row(select, 3, 3),
    "SELECT_V2": Row(select, 3, 3),
}
