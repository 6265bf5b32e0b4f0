"""Means that the NPU takes in another shape: over channels where the picture is a line, of one picture at a time."""

from __future__ import annotations

import math

import numpy as np

from ....tflite.file.model import Model
from .draft import Draft

PICTURE_RANK = 4
MAX_PICTURES = 16
"""Beyond it the CPU's one pass is cheaper than so many commands."""


def mean_of_lines(model: Model, index: int) -> Model | None:
    """MEAN over the last axes, as one over the last axis of (1, everything else, what is averaged)."""
    operator = model.operators[index]
    source, axes = (model.tensors[at] for at in operator.inputs[:2])
    if axes.data is None or source.type != "INT8" or len(source.shape) < 3:
        return None
    rank = len(source.shape)
    averaged = sorted({int(axis) % rank for axis in np.atleast_1d(axes.data)})
    if averaged != list(range(rank - len(averaged), rank)) or not 0 < len(averaged) < rank:
        return None
    outer, inner = math.prod(source.shape[: averaged[0]]), math.prod(source.shape[averaged[0] :])
    draft = Draft(model, index)
    lines = draft.reshape(operator.inputs[0], draft.like(operator.inputs[0], (1, outer, inner)))
    means = draft.like(operator.outputs[0], (1, outer, 1))
    draft.emit("MEAN", [lines, draft.integers([2])], means, {"keepDims": True}, operator.version)
    draft.reshape(means, operator.outputs[0])
    return draft.model()


def mean_of_each(model: Model, index: int) -> Model | None:
    """MEAN over rows and columns of several pictures, as one for each picture and a CONCATENATION."""
    operator = model.operators[index]
    source, axes = (model.tensors[at] for at in operator.inputs[:2])
    if axes.data is None or len(source.shape) != PICTURE_RANK or not 1 < source.shape[0] <= MAX_PICTURES:
        return None
    averaged = {int(axis) % PICTURE_RANK for axis in np.atleast_1d(axes.data)}
    if not averaged <= {1, 2}:
        return None
    draft = Draft(model, index)
    shape = tuple(1 if axis in averaged else size for axis, size in enumerate(source.shape))
    means = []
    for number in range(source.shape[0]):
        mean = draft.like(operator.outputs[0], (1, *shape[1:]))
        read = [draft.slice(operator.inputs[0], 0, number, 1), draft.integers(sorted(averaged))]
        means.append(draft.emit("MEAN", read, mean, {"keepDims": True}, operator.version))
    draft.reshape(draft.concatenate(means, 0, draft.like(operator.outputs[0], shape)), operator.outputs[0])
    return draft.model()
