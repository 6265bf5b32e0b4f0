"""A small convolutional classifier with fixed random weights, its data, and ways to call the compiler."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from edgewright.compiler.request import Request
from edgewright.compiler.scratch import Scratch

PIXELS = 8
CLASSES = 4


def classifier(batch: str | int = "N", *, conv_bias_as_add: bool = False) -> onnx.ModelProto:
    random = np.random.default_rng(7)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array((random.normal(size=shape) / np.sqrt(shape[-1])).astype(np.float32), name)

    weights = [
        weight("w1", 6, 1, 3, 3),
        weight("b1", 1, 6, 1, 1) if conv_bias_as_add else weight("b1", 6),
        weight("w2", 6 * 16, CLASSES),
        weight("b2", CLASSES),
        numpy_helper.from_array(np.array([-1 if batch == "N" else batch, 6 * 16], dtype=np.int64), "flat"),
    ]
    conv = (
        [
            helper.make_node("Conv", ["x", "w1"], ["c0"], "conv", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
            helper.make_node("Add", ["c0", "b1"], ["c1"], "bias"),
        ]
        if conv_bias_as_add
        else [helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], "conv", kernel_shape=[3, 3], pads=[1, 1, 1, 1])]
    )
    nodes = [
        *conv,
        helper.make_node("Relu", ["c1"], ["r1"], "relu"),
        helper.make_node("MaxPool", ["r1"], ["p1"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Reshape", ["p1", "flat"], ["f1"], "flatten"),
        helper.make_node("MatMul", ["f1", "w2"], ["m1"], "dense"),
        helper.make_node("Add", ["m1", "b2"], ["scores"], "dense_bias"),
    ]
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [batch, 1, PIXELS, PIXELS])],
        [helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, [batch, CLASSES])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def scores(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    evaluator = ReferenceEvaluator(model)
    rows: list[np.ndarray] = [np.asarray(evaluator.run(None, {"x": row[None]})).squeeze(0) for row in x]
    return np.concatenate(rows)


@pytest.fixture(scope="session")
def pictures() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(200, 1, PIXELS, PIXELS)).astype(np.float32)


@pytest.fixture(scope="session")
def labels(pictures: np.ndarray) -> np.ndarray:
    """What the float model answers, one in ten replaced: its top-1 is near 90 %."""
    y: np.ndarray = scores(classifier(1), pictures).argmax(1)
    y[::10] = (y[::10] + 1) % CLASSES
    return y


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Scratch]:
    with Scratch(tmp_path / "scratch") as found:
        yield found


@pytest.fixture
def int8_board(tmp_path: Path) -> str:
    """A board file whose int8 is by far the faster: estimated, and beyond the estimate's error."""
    path = tmp_path / "int8-board.toml"
    constants = """
processor = "cpu"
activation_bytes_per_s = 10_000_000_000
weight_bytes_per_s = 10_000_000_000
low_factor = 2.0
high_factor = 2.0
source = "made up"
"""
    path.write_text(
        f"""
inherits = "raspberry-pi-5"
name = "int8-board"
vendor = "Test"
description = "Where int8 pays even for tiny nets"

[[latency]]
precision = "float32"
macs_per_cycle = {{ conv = 1, depthwise = 1, matmul = 1 }}
operator_overhead_us = 500
{constants}
[[latency]]
precision = "int8"
macs_per_cycle = {{ conv = 100, depthwise = 100, matmul = 100 }}
operator_overhead_us = 1
{constants}"""
    )
    return str(path)


@pytest.fixture
def model_path(tmp_path: Path) -> Path:
    path = tmp_path / "net.onnx"
    onnx.save(classifier(), path)
    return path


@pytest.fixture
def data_path(tmp_path: Path, pictures: np.ndarray, labels: np.ndarray) -> Path:
    path = tmp_path / "data.npz"
    np.savez(path, x=pictures, y=labels)
    return path


@pytest.fixture
def make_request(tmp_path: Path, model_path: Path, data_path: Path) -> Callable[..., Request]:
    def make(**changes: object) -> Request:
        defaults: dict[str, object] = {
            "model": str(model_path),
            "targets": ("raspberry-pi-5",),
            "data": data_path,
            "out": tmp_path / "out",
            "max_drop": "20%",
            "engines": ("onnxruntime",),  # native code has tests of its own
        }
        return Request(**(defaults | changes))  # type: ignore[arg-type]

    return make


@pytest.fixture
def fixed_batch_model(tmp_path: Path) -> Path:
    path = tmp_path / "fixed.onnx"
    onnx.save(classifier(1, conv_bias_as_add=True), path)
    return path
