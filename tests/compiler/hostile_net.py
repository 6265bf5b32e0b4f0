"""A net of which one layer is hostile to 8 bits: one channel of its input is so loud that the others drown in it."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from tests.compiler.nets import Net

SHAPE = (3, 8, 8)
LOUD = 300.0
"""How much larger than the others one channel of the input is: all but that one drown in one scale per tensor."""


def hostile_model() -> onnx.ModelProto:
    net = Net(SHAPE, np.random.default_rng(11))
    for _ in range(4):
        net.conv(6)
        net.node("Relu", net.here)
    net.flatten()
    net.gemm(4)
    model = net.model()
    weight = next(one for one in model.graph.initializer if one.name == model.graph.node[0].input[1])
    array = numpy_helper.to_array(weight).copy()
    array[:, 0] /= LOUD
    weight.CopyFrom(numpy_helper.from_array(array, weight.name))
    return model


def hostile_samples(count: int = 240) -> NDArray[np.float32]:
    x: NDArray[np.float32] = np.random.default_rng(12).normal(size=(count, *SHAPE)).astype(np.float32)
    x[:, 0] *= LOUD
    return x
