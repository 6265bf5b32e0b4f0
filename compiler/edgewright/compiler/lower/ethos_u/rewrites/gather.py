"""A choice of rows that is known when the model is compiled is a choice of slices."""

from __future__ import annotations

import numpy as np

from ....tflite.file.model import Array, Model
from .draft import Draft, number, with_size

MAX_SLICES = 64
"""Beyond it the CPU's one copy is cheaper than so many commands."""


def gather_by_slices(model: Model, index: int) -> Model | None:
    """GATHER with constant indices: a SLICE for every run of neighbours, and a CONCATENATION of them."""
    operator = model.operators[index]
    source, indices = (model.tensors[at] for at in operator.inputs[:2])
    output = model.tensors[operator.outputs[0]]
    axis = number(operator, "axis")
    axis += len(source.shape) if axis < 0 else 0
    if indices.data is None or number(operator, "batchDims") != 0 or source.data is not None:
        return None
    if indices.data.ndim > 1 or source.quantization != output.quantization or not 0 <= axis < len(source.shape):
        return None
    runs = runs_of(np.atleast_1d(indices.data))
    if not runs or len(runs) > MAX_SLICES or min(runs)[0] < 0 or max(a + n for a, n in runs) > source.shape[axis]:
        return None
    draft = Draft(model, index)
    parts = [draft.slice(operator.inputs[0], axis, start, size) for start, size in runs]
    whole = draft.like(operator.inputs[0], with_size(source.shape, axis, sum(size for _, size in runs)))
    joined = parts[0] if len(parts) == 1 else draft.concatenate(parts, axis, whole)
    draft.reshape(joined, operator.outputs[0])
    return draft.model()


def runs_of(indices: Array) -> list[tuple[int, int]]:
    """(start, length) of neighbours that follow each other."""
    runs: list[tuple[int, int]] = []
    for each in (int(index) for index in indices):
        if runs and each == sum(runs[-1]):
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((each, 1))
    return runs
