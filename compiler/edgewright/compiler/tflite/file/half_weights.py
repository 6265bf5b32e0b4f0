"""Weights stored as float16: half the file, the same arithmetic."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .model import Model, Operator, Tensor

LEAST_ELEMENTS = 64
LARGEST = 65504.0
"""Of float16."""


def with_half_weights(model: Model) -> Model:
    """The model with its large float32 constants as float16, each behind one DEQUANTIZE; within 2^-11 of every value."""
    tensors, operators, moved = list(model.tensors), [], {}
    for index, tensor in enumerate(model.tensors):
        if _shrinks(tensor) and tensor.data is not None:
            moved[index] = len(tensors)
            half = replace(tensor, name=f"{tensor.name}_half", type="FLOAT16", data=tensor.data.astype(np.float16))
            tensors[index] = replace(tensor, data=None)
            tensors.append(half)
            operators.append(Operator("DEQUANTIZE", (moved[index],), (index,)))
    return replace(model, tensors=tuple(tensors), operators=(*operators, *model.operators))


def _shrinks(tensor: Tensor) -> bool:
    if tensor.type != "FLOAT32" or tensor.data is None or tensor.data.size < LEAST_ELEMENTS:
        return False
    return bool(np.isfinite(tensor.data).all() and np.abs(tensor.data).max() <= LARGEST)
