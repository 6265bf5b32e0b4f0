"""Quantizers that no operator takes along."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgewright.compiler.faults import UnsupportedModel
from edgewright.compiler.frontends.onnx import import_proto
from edgewright.compiler.graph import Graph
from edgewright.compiler.tflite.emitter.emit import emit
from edgewright.compiler.tflite.emitter.ports import Ports
from tests.compiler.tflite.runs import run_litert, run_onnx

SHAPE = (1, 4, 5, 6)


def meant_twice(zero_point: int, other_zero_point: int) -> Graph:
    """x is rounded once, and what its integers mean by two scales is added; quantizing a gate is written so."""
    parameters = {
        "scale": np.float32(0.02), "other_scale": np.float32(0.05),
        "zero": np.uint8(zero_point), "other_zero": np.uint8(other_zero_point),
    }  # fmt: skip
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["integers"]),
        helper.make_node("DequantizeLinear", ["integers", "scale", "zero"], ["first"]),
        helper.make_node("DequantizeLinear", ["integers", "other_scale", "other_zero"], ["second"]),
        helper.make_node("Relu", ["first"], ["kept"]),
        helper.make_node("Add", ["kept", "second"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "twice",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, SHAPE)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in parameters.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return import_proto(model, "twice")


def test_a_scale_that_callers_give_is_refused_by_name_at_integer_ports_too() -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale"], ["integers"], "rounding"),
        helper.make_node("DequantizeLinear", ["integers", "scale"], ["y"]),
    ]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, SHAPE) for name in "xy")
    scale = helper.make_tensor_value_info("scale", TensorProto.FLOAT, [])
    graph = helper.make_graph(nodes, "computed", [x, scale], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    with pytest.raises(UnsupportedModel, match="rounding"):
        emit(import_proto(model, "computed"), Ports(integer=True))


@pytest.mark.parametrize(("zero_point", "other"), [(128, 128), (100, 17)])
def test_integers_that_mean_two_things_do(zero_point: int, other: int) -> None:
    graph = meant_twice(zero_point, other)
    x = {"x": np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)}
    found, truth = run_litert(emit(graph).model, x)["y"], run_onnx(graph, x)["y"]
    np.testing.assert_allclose(found, truth, atol=1e-5)
