"""Nearest neighbours by a whole factor: every row and every column is repeated."""

from __future__ import annotations

import numpy as np

from ....tflite.file.model import Array, Model, Operator
from .draft import Draft

MAX_FACTOR = 16


def repeat_pixels(model: Model, index: int) -> Model | None:
    """RESIZE_NEAREST_NEIGHBOR as two CONCATENATIONs of the picture with itself, between reshapes."""
    operator = model.operators[index]
    source, output = model.tensors[operator.inputs[0]], model.tensors[operator.outputs[0]]
    if len(source.shape) != 4 or len(output.shape) != 4 or source.quantization != output.quantization:
        return None
    batch, rows, columns, channels = source.shape
    factors = output.shape[1] // rows, output.shape[2] // columns
    wanted = ((rows, factors[0], output.shape[1]), (columns, factors[1], output.shape[2]))
    if max(factors) > MAX_FACTOR or not all(_repeats(operator, *each) for each in wanted):
        return None
    draft = Draft(model, index)
    flat = operator.inputs[0]
    flat = _repeated(draft, flat, (batch * rows, 1, columns * channels), factors[0])
    flat = _repeated(draft, flat, (batch * rows * factors[0] * columns, 1, channels), factors[1])
    draft.reshape(flat, operator.outputs[0])
    return draft.model()


def _repeats(operator: Operator, size: int, factor: int, wanted: int) -> bool:
    """Whether the kernel reads every element `factor` times, in order, in its own float32 arithmetic."""
    if size * factor != wanted or factor < 1:
        return False
    corners, half = bool(operator.options.get("alignCorners")), bool(operator.options.get("halfPixelCenters"))
    return bool(np.array_equal(nearest(size, wanted, corners, half), np.arange(wanted) // factor))


def nearest(size: int, wanted: int, align_corners: bool, half_pixels: bool) -> Array:
    """Indices of the source, as `GetNearestNeighbor` of TFLite's reference/resize_nearest_neighbor.h has them."""
    ratio = (size - 1, wanted - 1) if align_corners and wanted > 1 else (size, wanted)
    scale = np.float32(ratio[0]) / np.float32(ratio[1])
    offset = np.float32(0.5 if half_pixels else 0)
    position = (np.arange(wanted, dtype=np.float32) + offset) * scale
    rounded = np.floor(position + np.float32(0.5)) if align_corners else np.floor(position)
    indices: Array = np.clip(rounded, 0, size - 1).astype(np.int64)
    return indices


def _repeated(draft: Draft, source: int, shape: tuple[int, int, int], factor: int) -> int:
    """Each (1, n) of (m, 1, n) follows itself `factor` times."""
    if factor == 1:
        return source
    lines = draft.reshape(source, draft.like(source, shape))
    return draft.concatenate([lines] * factor, 1, draft.like(source, (shape[0], factor, shape[2])))
