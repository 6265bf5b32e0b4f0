"""Weights stored as float16: half the file, the same arithmetic.

This is what TFLite's float16 quantization does: the constant is float16, and a DEQUANTIZE in front of whoever reads it
makes it float32, once, when the model is loaded. XNNPACK takes the pair as one constant.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import numpy as np

from .model import Array, Model, Operator, Tensor
from .versions import versioned

WEIGHT_INPUT: Final[Mapping[str, int]] = {
    "BATCH_MATMUL": 1,
    "CONV_2D": 1,
    "CONV_3D": 1,
    "DEPTHWISE_CONV_2D": 1,
    "FULLY_CONNECTED": 1,
    "TRANSPOSE_CONV": 1,
}
"""The input of a product that is its weight."""
LEAST_ELEMENTS: Final = 1024
"""Of constants that are no weights of products: what smaller ones save, the operator and its tensor take up again."""
LARGEST: Final = 65504.0
"""Of float16."""
LEAST_NORMAL: Final = 2.0**-14
"""Below it float16 has fewer than 11 bits."""


def with_half_weights(model: Model) -> Model:
    """The model with weights of products and other large constants as float16, each behind one DEQUANTIZE.

    Each value is the nearest float16: off by at most 2^-11 of itself, or 2^-25 where it is below 2^-14, and so by at
    most 2^-11 of the largest in its tensor. Constants with values beyond 65504, infinite or not a number, or with none
    above 2^-14, stay as they are, and so do constants that are outputs of the model.
    """
    weights = _weights(model)
    tensors, dequantized = list(model.tensors), []
    for index, tensor in enumerate(model.tensors):
        least = 1 if index in weights else LEAST_ELEMENTS
        if tensor.type != "FLOAT32" or tensor.data is None or tensor.data.size < least or not survives(tensor.data):
            continue
        if any(port.tensor == index for port in model.outputs):
            continue
        dequantized.append(Operator("DEQUANTIZE", (len(tensors),), (index,)))
        tensors.append(Tensor(f"{tensor.name}_half", "FLOAT16", tensor.shape, data=tensor.data.astype(np.float16)))
        tensors[index] = replace(tensor, data=None)
    return versioned(replace(model, tensors=tuple(tensors), operators=(*dequantized, *model.operators)))


def survives(array: Array) -> bool:
    """Whether float16 holds these numbers to 2^-11 of the largest."""
    largest = float(np.max(np.abs(array), initial=0.0))
    return largest == 0 or LEAST_NORMAL <= largest <= LARGEST


def _weights(model: Model) -> set[int]:
    """Tensors that products read as their weights."""
    found = set()
    for operator in model.operators:
        place = WEIGHT_INPUT.get(operator.type)
        if place is not None and place < len(operator.inputs):
            found.add(operator.inputs[place])
    return found
