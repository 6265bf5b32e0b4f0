"""Small nets whose ports are out of the ordinary: several of them, fixed batches, integers, half precision, LSTMs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

PICTURE = (3, 8, 8)
SAMPLES = 120
Size = str | int
Samples = dict[str, NDArray[Any]]


def pictures(kind: type[np.floating[Any]] = np.float32) -> Samples:
    return {"x": np.random.default_rng(1).normal(size=(SAMPLES, *PICTURE)).astype(kind)}


def classifier(batch: Size = "N", sizes: tuple[Size, Size] = (8, 8), kind: int = TensorProto.FLOAT) -> onnx.ModelProto:
    weights = [_weight("w1", (6, 3, 3, 3), kind), _weight("w2", (6, 4), kind)]
    ports = [_port("x", [batch, 3, *sizes], kind)], [_port("scores", [batch, 4], kind)]
    return _model([*_features(), helper.make_node("Gemm", ["f", "w2"], ["scores"], "dense")], *ports, weights)


def largest() -> onnx.ModelProto:
    """Its output is an integer."""
    model = classifier()
    model.graph.node.append(helper.make_node("ArgMax", ["scores"], ["label"], "largest", axis=1, keepdims=0))
    model.graph.output[0].CopyFrom(_port("label", ["N"], TensorProto.INT64))
    return model


def two_by_three() -> onnx.ModelProto:
    """Two inputs, three outputs, one of them a picture."""
    nodes = [
        *_features(),
        helper.make_node("Gemm", ["b", "w3"], ["bf"], "dense_b"),
        helper.make_node("Concat", ["f", "bf"], ["both"], "both", axis=1),
        helper.make_node("Gemm", ["both", "w2"], ["y"], "dense"),
        helper.make_node("Sigmoid", ["bf"], ["z"], "gate"),
    ]
    weights = [_weight("w1", (6, 3, 3, 3)), _weight("w2", (12, 4)), _weight("w3", (5, 6))]
    inputs = [_port("x", ["N", *PICTURE]), _port("b", ["N", 5])]
    return _model(nodes, inputs, [_port("y", ["N", 4]), _port("z", ["N", 6]), _port("r", ["N", 6, 8, 8])], weights)


def two_inputs() -> Samples:
    return {**pictures(), "b": np.random.default_rng(2).normal(size=(SAMPLES, 5)).astype(np.float32)}


def matrix_product() -> onnx.ModelProto:
    node = helper.make_node("MatMul", ["x", "w"], ["y"], "product")
    return _model([node], [_port("x", ["N", 16])], [_port("y", ["N", 8])], [_weight("w", (16, 8))])


def rows() -> Samples:
    return {"x": np.random.default_rng(3).normal(size=(SAMPLES, 16)).astype(np.float32)}


def recurrent() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Transpose", ["x"], ["turned"], "turn", perm=[1, 0, 2]),
        helper.make_node("LSTM", ["turned", "w", "r"], ["", "last"], "memory", hidden_size=4),
        helper.make_node("Squeeze", ["last", "first"], ["state"], "squeeze"),
        helper.make_node("Gemm", ["state", "w2"], ["y"], "dense"),
    ]
    weights = [_weight("w", (1, 16, 5)), _weight("r", (1, 16, 4)), _weight("w2", (4, 3))]
    weights.append(numpy_helper.from_array(np.array([0], np.int64), "first"))
    return _model(nodes, [_port("x", ["N", 7, 5])], [_port("y", ["N", 3])], weights)


def sequences() -> Samples:
    return {"x": np.random.default_rng(4).normal(size=(SAMPLES, 7, 5)).astype(np.float32)}


def _features() -> list[onnx.NodeProto]:
    return [
        helper.make_node("Conv", ["x", "w1"], ["c"], "conv", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"], "relu"),
        helper.make_node("GlobalAveragePool", ["r"], ["g"], "pool"),
        helper.make_node("Flatten", ["g"], ["f"], "flatten"),
    ]


def _weight(name: str, shape: tuple[int, ...], kind: int = TensorProto.FLOAT) -> onnx.TensorProto:
    random = np.random.default_rng(sum(name.encode()) + sum(shape))
    array = random.normal(size=shape) / np.sqrt(np.prod(shape[1:]))
    return numpy_helper.from_array(array.astype(helper.tensor_dtype_to_np_dtype(kind)), name)


def _port(name: str, shape: Sequence[Size], kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def _model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    weights: Sequence[onnx.TensorProto],
) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "net", inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
