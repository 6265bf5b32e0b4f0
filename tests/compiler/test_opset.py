"""Opsets from 7 on: the same numbers before and after the model is brought to the opset that the compiler works in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from edgewright.compiler.faults import UnsupportedModel
from edgewright.compiler.frontends.onnx import import_proto
from edgewright.compiler.frontends.opset import NEWEST_OPSET, OLDEST_OPSET, WORKING_OPSET
from edgewright.compiler.graph import to_bytes
from edgewright.compiler.lower.onnxruntime import Arithmetic, open_session

X = np.random.default_rng(1).normal(size=(2, 4, 6, 6)).astype(np.float32)
FOUR = np.array([0.5, 1.0, 1.5, 2.0], dtype=np.float32)
TWICE = np.array([1, 1, 2, 2], dtype=np.float32)


def model(opset: int, node: onnx.NodeProto, weights: dict[str, np.ndarray]) -> onnx.ModelProto:
    """One node between two Relus, with a free batch; weights are inputs too, as IR version 3 wants them."""
    tensors = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    inputs = [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", 4, 6, 6])]
    inputs += [helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims) for tensor in tensors]
    rank = 5 if node.op_type == "Unsqueeze" else 4
    nodes = [helper.make_node("Relu", ["x"], ["a"]), node, helper.make_node("Relu", ["b"], ["y"])]
    outputs = [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, list("ABCDE")[:rank])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=3)


OLD_FORMS: dict[str, tuple[int, onnx.NodeProto, dict[str, np.ndarray]]] = {
    "Upsample 7": (7, helper.make_node("Upsample", ["a"], ["b"], scales=[1.0, 1.0, 2.0, 2.0]), {}),
    "Upsample 9 linear": (9, helper.make_node("Upsample", ["a", "s"], ["b"], mode="linear"), {"s": TWICE}),
    "Resize 10 linear": (10, helper.make_node("Resize", ["a", "s"], ["b"], mode="linear"), {"s": TWICE}),
    "Resize 10 down": (10, helper.make_node("Resize", ["a", "s"], ["b"]), {"s": 1 / TWICE}),
    "Slice 7": (7, helper.make_node("Slice", ["a"], ["b"], axes=[2], starts=[1], ends=[4]), {}),
    "Pad 8": (8, helper.make_node("Pad", ["a"], ["b"], pads=[0, 0, 1, 1, 0, 0, 1, 1], value=0.5), {}),
    "Clip 7": (7, helper.make_node("Clip", ["a"], ["b"], max=0.7), {}),
    "BatchNormalization 7": (
        7,
        helper.make_node("BatchNormalization", ["a", "v", "v", "v", "v"], ["b"]),
        {"v": FOUR},
    ),
    "Softmax 8": (8, helper.make_node("Softmax", ["a"], ["b"]), {}),
    "LogSoftmax 8": (8, helper.make_node("LogSoftmax", ["a"], ["b"], axis=2), {}),
    "Dropout 7": (7, helper.make_node("Dropout", ["a"], ["b"], ratio=0.5), {}),
    "Unsqueeze 8": (8, helper.make_node("Unsqueeze", ["a"], ["b"], axes=[1]), {}),
    "ReduceSum 8": (8, helper.make_node("ReduceSum", ["a"], ["b"], axes=[2, 3]), {}),
    "Split 8": (8, helper.make_node("Split", ["a"], ["b", "c"], axis=1, split=[1, 3]), {}),
    "TopK 8": (8, helper.make_node("TopK", ["a"], ["b", "c"], k=2), {}),
    "AveragePool 7": (7, helper.make_node("AveragePool", ["a"], ["b"], kernel_shape=[2, 2], pads=[1, 1, 1, 1]), {}),
}


def outputs(content: bytes) -> np.ndarray:
    session = open_session(content, Arithmetic.EXACT)
    return np.asarray(session.run(None, {"x": X})[0])


@pytest.mark.parametrize("name", OLD_FORMS)
def test_old_operators_keep_their_numbers(name: str) -> None:
    opset, node, weights = OLD_FORMS[name]
    old = model(opset, node, weights)
    expected = outputs(old.SerializeToString())
    graph = import_proto(old, "m.onnx")
    assert graph.opset_imports[""] == WORKING_OPSET
    np.testing.assert_allclose(outputs(to_bytes(graph)), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("opset", "node", "weights"),
    [
        (8, helper.make_node("Hardmax", ["a"], ["b"], name="hard"), {}),
        (
            8,
            helper.make_node("BatchNormalization", ["a", "v", "v", "v", "v"], ["b"], name="norm", spatial=0),
            {"v": np.ones((4, 6, 6), np.float32)},
        ),
    ],
)
def test_what_has_no_newer_form_is_named(opset: int, node: onnx.NodeProto, weights: dict[str, np.ndarray]) -> None:
    with pytest.raises(UnsupportedModel, match=rf"{node.op_type} '{node.name}' \(gives b\).*opset_version=17"):
        import_proto(model(opset, node, weights), "m.onnx")


@pytest.mark.parametrize("opset", range(OLDEST_OPSET, onnx.defs.onnx_opset_version() + 1))
def test_every_opset_ends_in_one_that_is_tested(opset: int) -> None:
    graph = import_proto(model(opset, helper.make_node("Sigmoid", ["a"], ["b"]), {}), "m.onnx")
    assert graph.opset_imports[""] <= NEWEST_OPSET
    np.testing.assert_allclose(outputs(to_bytes(graph)), 1 / (1 + np.exp(-np.maximum(X, 0))), rtol=1e-5)


def test_the_real_cntk_model_keeps_its_numbers() -> None:
    path = Path(__file__).parents[2].parent / "shared" / "data" / "mnist" / "mnist.onnx"
    if not path.exists():
        pytest.skip("the CNTK model (microsoft/onnxruntime-inference-examples, mnist) is not here")
    picture = np.random.default_rng(0).normal(size=(1, 1, 28, 28)).astype(np.float32)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    old = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = old.get_inputs()[0].name
    new = open_session(to_bytes(import_proto(onnx.load(path), str(path))), Arithmetic.ENGINE)
    np.testing.assert_allclose(new.run(None, {name: picture})[0], old.run(None, {name: picture})[0], rtol=1e-4)
