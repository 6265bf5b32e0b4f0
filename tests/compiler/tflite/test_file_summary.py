"""Operators by type."""

from __future__ import annotations

import numpy as np

from edgewright.compiler.tflite.file.half_weights import with_half_weights
from edgewright.compiler.tflite.file.model import Model, Operator, Tensor
from edgewright.compiler.tflite.file.summary import OperatorCount, summary
from tests.compiler.tflite.file_models import dense


def test_types_and_counts() -> None:
    half = with_half_weights(dense(np.ones((96, 64), np.float32), np.ones(96, np.float32)))
    assert summary(half) == (
        OperatorCount("DEQUANTIZE", ("FLOAT16",), ("FLOAT32",), 1),
        OperatorCount("FULLY_CONNECTED", ("FLOAT32",), ("FLOAT32",), 1),
    )


def test_the_most_frequent_first_and_custom_operators_by_their_names() -> None:
    tensors = (Tensor("i", "INT8", (1,)), Tensor("f", "FLOAT32", (1,)))
    steps = (
        Operator("CUSTOM", (0, -1, 1, 0), (1, 0), custom="Mine"),
        Operator("RELU", (1,), (1,)),
        Operator("RELU", (0,), (0,)),
        Operator("RELU", (1,), (1,)),
    )
    assert summary(Model(tensors, steps, (), ())) == (
        OperatorCount("RELU", ("FLOAT32",), ("FLOAT32",), 2),
        OperatorCount("Mine", ("INT8", "FLOAT32"), ("FLOAT32", "INT8"), 1),
        OperatorCount("RELU", ("INT8",), ("INT8",), 1),
    )
