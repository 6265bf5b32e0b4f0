"""Engine `onnxruntime`: bound buffers are a shortcut, and never another answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from edgewright.bundle.manifest import TensorSpec
from edgewright.runtime.engines.onnxruntime import ENGINE, OnnxRuntimeInstance, TextRefused
from edgewright.runtime.engines.protocol import LoadOptions

from .engine_bundles import onnx_model, write_engine_bundle


def load(folder: Path, model: Any, inputs: TensorSpec, outputs: TensorSpec) -> OnnxRuntimeInstance:
    files = {"model/model.onnx": model.SerializeToString()}
    return ENGINE.load(
        folder / "b", write_engine_bundle(folder / "b", "onnxruntime", files, [inputs], [outputs]), LoadOptions()
    )


def spec(name: str, datatype: Any, *shape: int) -> TensorSpec:
    return TensorSpec(name=name, datatype=datatype, shape=shape)


def test_an_output_whose_size_depends_on_values(tmp_path: Path) -> None:
    """One call fits the buffer by chance, the next one does not."""
    model = onnx_model(
        [helper.make_node("Compress", ["x", "mask"], ["y"], axis=0)],
        {"x": ["n", 2]},
        {"y": ["m", 2]},
        {"mask": np.array([True])},
    )
    model.graph.node.insert(0, helper.make_node("Cast", ["first"], ["mask"], to=TensorProto.BOOL))
    model.graph.node.insert(0, helper.make_node("ReduceMax", ["x"], ["first"], axes=[1], keepdims=0))
    del model.graph.initializer[:]
    instance = load(tmp_path, model, spec("x", "FP32", -1, 2), spec("y", "FP32", -1, 2))
    ones, zeros = np.ones((1, 2), np.float32), np.zeros((1, 2), np.float32)
    for _ in range(2):
        assert instance.run({"x": ones})["y"].tolist() == [[1, 1]]
        assert instance.run({"x": zeros})["y"].shape == (0, 2)


def test_a_call_that_fails_says_why_and_the_next_one_works(tmp_path: Path) -> None:
    model = onnx_model(
        [helper.make_node("Gather", ["table", "x"], ["y"])],
        {"x": ["n", 1]},
        {"y": ["n", 1]},
        {"table": np.array([10, 20], np.int64)},
        TensorProto.INT64,
    )
    instance = load(tmp_path, model, spec("x", "INT64", -1, 1), spec("y", "INT64", -1, 1))
    assert instance.run({"x": np.array([[1]])})["y"].tolist() == [[20]]
    with pytest.raises(Exception, match=r"(?i)out of.*bounds"):
        instance.run({"x": np.array([[2]])})
    assert instance.run({"x": np.array([[0]])})["y"].tolist() == [[10]]


def test_dimensions_may_be_free_besides_the_batch(tmp_path: Path) -> None:
    model = onnx_model([helper.make_node("Abs", ["x"], ["y"])], {"x": ["n", "k"]}, {"y": ["n", "k"]}, {})
    instance = load(tmp_path, model, spec("x", "FP32", -1, -1), spec("y", "FP32", -1, -1))
    for shape in ((1, 1), (1, 3), (2, 0)):
        assert instance.run({"x": -np.ones(shape, np.float32)})["y"].tolist() == np.ones(shape).tolist()


def test_what_comes_back_is_the_caller_s(tmp_path: Path) -> None:
    model = onnx_model([helper.make_node("Abs", ["x"], ["y"])], {"x": ["n", 2]}, {"y": ["n", 2]}, {})
    instance = load(tmp_path, model, spec("x", "FP32", -1, 2), spec("y", "FP32", -1, 2))
    first = instance.run({"x": np.array([[-1, -2]], np.float32)})["y"]
    instance.run({"x": np.array([[-3, -4]], np.float32)})
    assert first.tolist() == [[1, 2]]


def test_texts_come_as_bytes_and_reach_the_model_as_text() -> None:
    # Golden samples hold no texts, so that there is no bundle of such a model yet.
    ends = [helper.make_tensor_value_info(name, TensorProto.STRING, ["n", 2]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "texts", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    instance = OnnxRuntimeInstance(session, ["y"], None, texts=("x",))
    texts = np.array([[b"a word", "grün 猫".encode()], [b"", b"b'x'"]], np.object_)
    expected = [[element.decode() for element in row] for row in texts]
    assert instance.run({"x": texts})["y"].tolist() == expected
    texts[0, 0] = b"\xff"
    with pytest.raises(TextRefused, match="UTF-8"):
        instance.run({"x": texts})
