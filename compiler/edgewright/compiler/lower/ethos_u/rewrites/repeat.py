"""Nearest neighbours: rows and columns are repeated, and where some are repeated less often, the rest is cut out."""

from __future__ import annotations

import numpy as np

from ....tflite.file.model import Array, Model, Operator
from .draft import Draft
from .gather import MAX_SLICES, runs_of

MAX_FACTOR = 16


def repeat_pixels(model: Model, index: int) -> Model | None:
    """RESIZE_NEAREST_NEIGHBOR as CONCATENATIONs of the picture with itself and SLICEs of that, between reshapes."""
    operator = model.operators[index]
    source, output = model.tensors[operator.inputs[0]], model.tensors[operator.outputs[0]]
    if len(source.shape) != 4 or len(output.shape) != 4 or source.quantization != output.quantization:
        return None
    batch, rows, columns, channels = source.shape
    read = [_read(operator, source.shape[axis], output.shape[axis]) for axis in (1, 2)]
    if any(_factor(each) > MAX_FACTOR or len(runs_of(_places(each))) > MAX_SLICES for each in read):
        return None
    draft = Draft(model, index)
    tall = _repeated(draft, operator.inputs[0], (batch, rows, columns * channels), read[0])
    wide = _repeated(draft, tall, (batch * len(read[0]), columns, channels), read[1])
    draft.reshape(wide, operator.outputs[0])
    return draft.model()


def _read(operator: Operator, size: int, wanted: int) -> Array:
    """For each row or column of the output, which of the input it is, in the kernel's own float32 arithmetic."""
    corners, half = bool(operator.options.get("alignCorners")), bool(operator.options.get("halfPixelCenters"))
    return nearest(size, wanted, corners, half)


def nearest(size: int, wanted: int, align_corners: bool, half_pixels: bool) -> Array:
    """Indices of the source, as `GetNearestNeighbor` of TFLite's reference/resize_nearest_neighbor.h has them."""
    ratio = (size - 1, wanted - 1) if align_corners and wanted > 1 else (size, wanted)
    scale = np.float32(ratio[0]) / np.float32(ratio[1])
    offset = np.float32(0.5 if half_pixels else 0)
    position = (np.arange(wanted, dtype=np.float32) + offset) * scale
    rounded = np.floor(position + np.float32(0.5)) if align_corners else np.floor(position)
    indices: Array = np.clip(rounded, 0, size - 1).astype(np.int64)
    return indices


def _factor(read: Array) -> int:
    """How often the most repeated row is read."""
    return int(np.bincount(read).max())


def _places(read: Array) -> Array:
    """Where these rows lie, in order, once every row of the input follows itself `_factor` times."""
    first = np.searchsorted(read, read)  # rows are read in order, so equal ones are neighbours
    places: Array = read * _factor(read) + (np.arange(len(read)) - first)
    return places


def _repeated(draft: Draft, source: int, shape: tuple[int, int, int], read: Array) -> int:
    """Of (m, size, n) the rows that are read, (m, read, n)."""
    outer, size, inner = shape
    factor = _factor(read)
    whole = source
    if factor > 1:
        lines = draft.reshape(source, draft.like(source, (outer * size, 1, inner)))
        whole = draft.concatenate([lines] * factor, 1, draft.like(source, (outer * size, factor, inner)))
    runs = runs_of(_places(read))
    if runs == [(0, size * factor)]:
        return whole
    whole = draft.reshape(whole, draft.like(source, (outer, size * factor, inner)))
    parts = [draft.slice(whole, 1, start, count) for start, count in runs]
    return parts[0] if len(parts) == 1 else draft.concatenate(parts, 1, draft.like(source, (outer, len(read), inner)))
