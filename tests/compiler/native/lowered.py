"""Compares a graph's net, before and after fusion, with ONNX Runtime's answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgewright.compiler.graph import Graph, from_proto
from edgewright.compiler.lower.native.fusion.fuse import fuse
from edgewright.compiler.lower.native.interpret import run
from edgewright.compiler.lower.native.lowering import lower
from edgewright.compiler.lower.native.net import NUMPY, Net

TOLERANCE = 2e-6
Arrays = Mapping[str, NDArray[Any]]


def one_node(
    operator: str, inputs: Arrays, constants: Arrays, results: int = 1, opset: int = 18, **attributes: Any
) -> onnx.ModelProto:
    """A model of one node; inputs and constants in their order, a constant of size 0 for one that is left out."""
    names = [*inputs, *constants]
    left_out = {name for name, array in constants.items() if array.size == 0}
    outputs = [f"y{index}" for index in range(results)]
    node = helper.make_node(
        operator, ["" if name in left_out else name for name in names], outputs, operator, **attributes
    )
    graph = helper.make_graph(
        [node],
        "one",
        [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), ["N", *array.shape[1:]])
            for name, array in inputs.items()
        ],
        [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in constants.items() if name not in left_out],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    inferred = onnx.shape_inference.infer_shapes(model)
    for value in inferred.graph.output:
        if not value.type.tensor_type.elem_type:  # inference knows nothing of the operator
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    return inferred


def with_constants(model: onnx.ModelProto, constants: Arrays) -> onnx.ModelProto:
    """The model with some of its inputs as initializers."""
    found = onnx.ModelProto()
    found.CopyFrom(model)
    del found.graph.input[:]
    found.graph.input.extend(value for value in model.graph.input if value.name not in constants)
    found.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in constants.items())
    return found


def answers(model: onnx.ModelProto, feeds: Arrays) -> dict[str, NDArray[Any]]:
    """Of ONNX Runtime without its own rewrites."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feeds)), strict=True))


def random_inputs(net: Net, random: np.random.Generator) -> dict[str, NDArray[Any]]:
    """Small integers, normal floats."""
    found = {}
    for tensor in net.inputs:
        numbers = random.normal(size=tensor.shape) if tensor.dtype == "f32" else random.integers(0, 2, tensor.shape)
        found[tensor.name] = numbers.astype(NUMPY[tensor.dtype])
    return found


def check_model(model: onnx.ModelProto, feeds: Arrays | None = None, batch: int = 2, graph: Graph | None = None) -> Net:
    """The fused net; both nets give what ONNX Runtime gives."""
    net = lower(graph or from_proto(model), batch)
    given = feeds if feeds is not None else random_inputs(net, np.random.default_rng(0))
    wanted = answers(model, given)
    fused = fuse(net)
    for each in (net, fused):
        found = run(each, given)
        assert found.keys() == wanted.keys()
        for name, array in wanted.items():
            check_close(found[name], array, name)
    return fused


def check_close(found: NDArray[Any], wanted: NDArray[Any], name: str) -> None:
    """Equal shapes; floats within the tolerance, everything else equal."""
    assert found.shape == wanted.shape, name
    if wanted.dtype != np.float32:
        assert found.dtype == wanted.dtype, name
        np.testing.assert_array_equal(found, wanted, name)
        return
    largest = float(np.abs(wanted).max(initial=0.0))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=TOLERANCE * max(largest, 1e-30), err_msg=name)
