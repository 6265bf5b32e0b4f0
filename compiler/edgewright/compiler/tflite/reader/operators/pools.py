"""Pools over pictures."""

from __future__ import annotations

from ..orders import CHANNELS_FIRST
from ..step import Step
from ..windows import MAX_REACH, window
from .row import Row


def average_pool_2d(step: Step) -> None:
    """AveragePool; what is outside of the picture does not count."""
    _pool(step, "AveragePool")


def max_pool_2d(step: Step) -> None:
    """MaxPool."""
    _pool(step, "MaxPool")


def _pool(step: Step, op_type: str) -> None:
    step.picture()
    kernel = step.integer("filterHeight", 1, MAX_REACH), step.integer("filterWidth", 1, MAX_REACH)
    x = step.real(0, CHANNELS_FIRST)
    y = step.node(op_type, x, kernel_shape=kernel, **window(step, kernel))
    step.finish(step.activated(y), CHANNELS_FIRST)


TABLE = {"AVERAGE_POOL_2D": Row(average_pool_2d, 1, 1), "MAX_POOL_2D": Row(max_pool_2d, 1, 1)}
