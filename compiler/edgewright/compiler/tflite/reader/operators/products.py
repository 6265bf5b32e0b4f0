"""Products of matrices."""

from __future__ import annotations

from math import prod

import numpy as np

from ..orders import identity
from ..step import Step
from .row import Row


def fully_connected(step: Step) -> None:
    """Gemm; MatMul where the axes stay and there is no bias."""
    shape, matrix = step.shape(0), step.shape(1)
    if len(matrix) != 2 or not matrix[1] or not shape or prod(shape) % matrix[1]:
        step.wrong(f"its matrix {matrix} does not fit {shape}")
    if step.integer("weightsFormat", 0, 127):
        step.refuse("its weights are shuffled", "export the model with plain weights")
    if step.has(2) and (prod(step.shape(2)), step.shape(2)[-1:]) != (matrix[0], matrix[:1]):
        step.wrong(f"its bias has shape {step.shape(2)}, expected {matrix[:1]}")
    keeps = step.flag("keepNumDims") and shape[-1] == matrix[1]
    if len(shape) > 2 and keeps and not _has_bias(step):
        turned = step.weights(1, (1, 0))
        step.finish(step.activated(step.node("MatMul", step.real(0), turned)))
        return
    x = step.real(0)
    if len(shape) != 2 or shape[1] != matrix[1]:
        x = step.rounded(step.node("Reshape", x, step.row(-1, matrix[1])), step.input(0))
    bias = (step.reading.bias(step.input(2)),) if step.has(2) else ()
    y = step.activated(step.node("Gemm", x, step.weights(1, (0, 1)), *bias, transB=1))
    if len(step.result_shape()) != 2:
        y = step.node("Reshape", step.rounded(y, step.operator.outputs[0]), _kept(step, matrix[0]))
    step.finish(y)


def _has_bias(step: Step) -> bool:
    if not step.has(2):
        return False
    known = step.reading.known(step.input(2))
    return known is None or bool(np.any(known))


def _kept(step: Step, units: int) -> str:
    """The shape of a result that keeps the axes of what it is made of."""
    shape = step.result_shape()
    if not shape or shape[-1] != units:
        step.wrong(f"its result has shape {shape}, expected {units} at the end")
    return step.row(-1, *shape[1:]) if step.reading.free_batch else step.row(*shape)


def batch_matmul(step: Step) -> None:
    """MatMul, with the last two axes turned where it says so."""
    inputs = []
    for index, name in enumerate(("adjX", "adjY")):
        rank = len(step.shape(index))
        if rank < 2:
            step.wrong(f"input {index} has shape {step.shape(index)}, expected two axes or more")
        order = identity(rank)
        inputs.append(step.real(index, (*order[:-2], order[-1], order[-2]) if step.flag(name) else order))
    step.finish(step.node("MatMul", *inputs))


TABLE = {"FULLY_CONNECTED": Row(fully_connected, 2, 3), "BATCH_MATMUL": Row(batch_matmul, 2, 2)}
