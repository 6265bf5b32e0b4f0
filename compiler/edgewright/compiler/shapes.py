"""Types and shapes of everything between inputs and outputs, with free dimensions kept by name.

onnx's inference works on protobuf, so it gets a copy whose larger weights are inputs: their values have no say in
shapes. Where an operator makes no sense to it, the values after that operator stay without a shape, and the rest gets
one.
"""

from __future__ import annotations

import onnx
import onnx.shape_inference
import onnx_ir as ir

from .graph import Graph, clone, from_proto, to_proto

LARGEST_SHAPE_BYTES = 1024
"""Constants up to this size may hold shapes, axes and sizes, which inference computes with."""


def infer_shapes(graph: Graph) -> None:
    """Gives values of the graph, in place, the type and shape that follow from its inputs and operators.

    The signature of the graph keeps the names of its free dimensions. A dimension that turns out to have one size gets
    it, that of an output too.
    """
    inferred = from_proto(onnx.shape_inference.infer_shapes(to_proto(_without_weights(graph)), data_prop=True))
    for own, found in zip(graph.graphs(), inferred.graphs(), strict=True):
        values = {value.name: value for value in _values(found)}
        for value in _values(own):
            _take_over(value, values.get(value.name))


def _without_weights(graph: Graph) -> Graph:
    copy = clone(graph)
    for name, value in list(copy.graph.initializers.items()):
        if value.const_value is not None and value.const_value.nbytes > LARGEST_SHAPE_BYTES:
            value.type, value.shape = ir.TensorType(value.const_value.dtype), ir.Shape(value.const_value.shape.numpy())
            value.const_value = None
            del copy.graph.initializers[name]
            copy.graph.inputs.append(value)
    return copy


def _values(graph: ir.Graph) -> list[ir.Value]:
    return [value for node in graph for value in node.outputs]


def _take_over(value: ir.Value, found: ir.Value | None) -> None:
    if found is None:
        return
    if value.type is None:
        value.type = found.type
    if found.shape is not None:
        value.shape = found.shape
