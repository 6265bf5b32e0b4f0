"""Blocks of pixels that become channels, and back: a change of order, which the NPU has under another name."""

from __future__ import annotations

from ....tflite.file.model import Model
from .draft import Draft, number


def space_to_depth(model: Model, index: int) -> Model | None:
    """SPACE_TO_DEPTH as RESHAPE, TRANSPOSE, RESHAPE."""
    block = _block(model, index)
    if block is None:
        return None
    batch, rows, columns, channels = model.tensors[model.operators[index].outputs[0]].shape
    return _reordered(model, index, (batch, rows, block, columns, block, channels // block**2))


def depth_to_space(model: Model, index: int) -> Model | None:
    """DEPTH_TO_SPACE as RESHAPE, TRANSPOSE, RESHAPE."""
    block = _block(model, index)
    if block is None:
        return None
    batch, rows, columns, channels = model.tensors[model.operators[index].inputs[0]].shape
    return _reordered(model, index, (batch, rows, columns, block, block, channels // block**2))


def _block(model: Model, index: int) -> int | None:
    """Edge of a block; None where this is no picture, or the scale changes on the way."""
    operator = model.operators[index]
    source, output = model.tensors[operator.inputs[0]], model.tensors[operator.outputs[0]]
    block = number(operator, "blockSize")
    sound = block > 0 and len(source.shape) == len(output.shape) == 4 and source.quantization == output.quantization
    return block if sound else None


def _reordered(model: Model, index: int, shape: tuple[int, ...]) -> Model:
    """Both directions exchange axes 2 and 3 of six."""
    draft = Draft(model, index)
    source, output = draft.operator.inputs[0], draft.operator.outputs[0]
    split = draft.reshape(source, draft.like(source, shape))
    order = (0, 1, 3, 2, 4, 5)
    exchanged = draft.like(source, [shape[axis] for axis in order])
    draft.emit("TRANSPOSE", [split, draft.integers(order)], exchanged, version=4)
    draft.reshape(exchanged, output)
    return draft.model()
