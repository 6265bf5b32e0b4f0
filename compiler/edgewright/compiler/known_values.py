"""Computes nodes that depend on no input: by ONNX Runtime, as the peer would; what it lacks by ONNX's own evaluator.

ONNX's evaluator gives a wrong shape for some (Mean of a scalar and a matrix, GlobalMaxPool of a sequence), so it is
asked last.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper
from onnx.reference import ReferenceEvaluator
from onnxruntime.capi.onnxruntime_pybind11_state import (
    Fail,
    InvalidArgument,
    InvalidGraph,
    NotImplemented,  # noqa: A004 -- ONNX Runtime's name
    RuntimeException,
)

Array = NDArray[Any]

LACKING = (Fail, InvalidArgument, InvalidGraph, NotImplemented, RuntimeException)
IR_VERSION = 10
SILENT = 4


def computed(node: onnx.NodeProto, feeds: Mapping[str, Array], opset: int) -> dict[str, Array]:
    """The results of a node by name; those that it leaves out (an empty name) are not among them."""
    names = [name for name in node.output if name]
    try:
        found = _session(node, feeds, names, opset).run(names, dict(feeds))
    except (*LACKING, KeyError, ValueError):  # the last two: a type of number that only one of them knows
        evaluator = ReferenceEvaluator(node, opsets={node.domain: opset})
        found = [array for name, array in zip(node.output, evaluator.run(None, dict(feeds)), strict=False) if name]
    return {name: np.asarray(array) for name, array in zip(names, found, strict=False)}


def _session(
    node: onnx.NodeProto, feeds: Mapping[str, Array], names: list[str], opset: int
) -> onnxruntime.InferenceSession:
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in feeds.items()
    ]
    outputs = [helper.make_value_info(name, onnx.TypeProto()) for name in names]
    own = node.domain not in ("", "ai.onnx")
    domains = [helper.make_opsetid("", opset), *([helper.make_opsetid(node.domain, 1)] if own else [])]
    graph = helper.make_graph([node], "constant", inputs, outputs)
    model = helper.make_model(graph, opset_imports=domains, ir_version=IR_VERSION)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = SILENT
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
