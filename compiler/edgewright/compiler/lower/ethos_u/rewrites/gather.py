"""A choice of rows that is known when the model is compiled is a choice of slices."""

from __future__ import annotations

import numpy as np

from ....tflite.file.model import Model
from .draft import Draft, number

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
    runs = _runs(np.atleast_1d(indices.data))
    if not runs or len(runs) > MAX_SLICES or min(runs)[0] < 0 or max(a + n for a, n in runs) > source.shape[axis]:
        return None
    draft = Draft(model, index)
    parts = [_slice(draft, axis, start, size) for start, size in runs]
    whole = draft.like(operator.inputs[0], _with(source.shape, axis, sum(size for _, size in runs)))
    joined = parts[0] if len(parts) == 1 else draft.concatenate(parts, axis, whole)
    draft.reshape(joined, operator.outputs[0])
    return draft.model()


def _runs(indices: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> list[tuple[int, int]]:
    """(start, length) of neighbours that follow each other."""
    runs: list[tuple[int, int]] = []
    for each in (int(index) for index in indices):
        if runs and each == sum(runs[-1]):
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((each, 1))
    return runs


def _slice(draft: Draft, axis: int, start: int, size: int) -> int:
    source = draft.operator.inputs[0]
    shape = _with(draft.tensor(source).shape, axis, size)
    begin = _with((0,) * len(shape), axis, start)
    where = [source, draft.integers(begin), draft.integers(shape)]
    return draft.emit("SLICE", where, draft.like(source, shape), version=2)


def _with(shape: tuple[int, ...], axis: int, size: int) -> tuple[int, ...]:
    return (*shape[:axis], size, *shape[axis + 1 :])
