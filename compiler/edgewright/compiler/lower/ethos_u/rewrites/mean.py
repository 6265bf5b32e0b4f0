"""Means over channels, which the NPU takes only where the picture is a line."""

from __future__ import annotations

import math

import numpy as np

from ....tflite.file.model import Model
from .draft import Draft


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
