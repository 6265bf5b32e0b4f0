"""Turns weights that are only stored as integers into floats.

Converters write some float models with compressed weights: int8 constants behind a DequantizeLinear, and floats
everywhere else (the float MLPerf Tiny keyword net is one). Such a model is a float model: nothing of it computes in
integers. A model that quantizes its activations as well is a quantized one, and stays as it is.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnx.reference
import onnx_ir as ir

from edgewright.targets.board import Board

from ..graph import Graph, nodes
from ..passes import Evidence, NoOptions, Pass

MAX_DEQUANTIZED_ELEMENTS = 64 * 1024 * 1024
"""Of all weights together: a language model with int4 weights is compressed on purpose."""
INTEGER_OPERATORS = frozenset({"QuantizeLinear", "DynamicQuantizeLinear", "MatMulInteger", "ConvInteger"})


class DequantizeWeights(Pass[NoOptions]):
    """`DequantizeLinear(constant)` becomes a float weight, in models that compute nothing in integers."""

    name = "dequantize-weights"

    def apply(self, graph: Graph, options: NoOptions, target: Board | None) -> tuple[Graph, Evidence]:
        del options, target
        found = {node: _constants(node) for node in graph.graph if node.op_type == "DequantizeLinear"}
        elements = sum(inputs[0].size for inputs in found.values() if inputs)
        if elements > MAX_DEQUANTIZED_ELEMENTS or _computes_in_integers(graph):
            return graph, {"dequantized": 0}
        stored = {node: inputs for node, inputs in found.items() if inputs}
        for node, inputs in stored.items():
            _replace(graph, node, inputs)
        return graph, {"dequantized": len(stored)}


def _computes_in_integers(graph: Graph) -> bool:
    return any(node.op_type in INTEGER_OPERATORS or node.op_type.startswith("QLinear") for node in nodes(graph))


def _constants(node: ir.Node) -> list[ir.TensorProtocol]:
    """The inputs, where all of them are constants; else nothing."""
    present = [value for value in node.inputs if value is not None]
    tensors = [value.const_value for value in present if value.const_value is not None and value.producer() is None]
    return tensors if len(tensors) == len(present) and node.outputs[0].dtype == ir.DataType.FLOAT else []


def _replace(graph: Graph, node: ir.Node, inputs: list[ir.TensorProtocol]) -> None:
    evaluator = onnx.reference.ReferenceEvaluator(ir.serde.serialize_node(node), opsets={"": graph.opset_imports[""]})
    names = [value.name or "" for value in node.inputs if value is not None]
    feeds = {name: tensor.numpy() for name, tensor in zip(names, inputs, strict=True)}
    (result,) = evaluator.run(None, feeds)
    array = np.asarray(result, dtype=np.float32)
    old = node.outputs[0]
    weight = ir.Value(
        name=f"{inputs[0].name}_dequantized_{old.name}",
        const_value=ir.tensor(array),
        type=ir.TensorType(ir.DataType.FLOAT),
        shape=ir.Shape(array.shape),
    )
    graph.graph.register_initializer(weight)
    ir.convenience.replace_all_uses_with(old, weight)
    graph.graph.remove(node, safe=True)
